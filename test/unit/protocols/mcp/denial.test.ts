import { describe, expect, test } from 'vitest';
import { CATALOGUE, type ErrorCode, GatewayError } from '../../../../src/core/errors.ts';
import { encodeDenial, rpcCode } from '../../../../src/protocols/mcp/denial.ts';

const context = { requestId: 'req_1', decisionId: 'dec_1', rpcId: 7 };
const note = { isUnknownMethod: false, asResult: false, isModern: false };

function told(code: ErrorCode, extras = {}, rpc: { rpcId: number | undefined } = { rpcId: 7 }) {
  const reply = encodeDenial(new GatewayError(code, extras), { ...context, ...rpc }, undefined);
  return { ...reply, body: JSON.parse(String(reply.body)) as Record<string, never> };
}

describe('errors in JSON-RPC words', () => {
  test.each([
    ['POLICY_DENIED', -31403],
    ['MFA_REQUIRED', -31403],
    ['REGION_DENIED', -31403],
    ['APPROVAL_REQUIRED', -31410],
    ['RATE_LIMIT_EXCEEDED', -31429],
    ['POLICY_UNAVAILABLE', -31503],
    ['POLICY_EVALUATION_ERROR', -31503],
    ['UPSTREAM_CIRCUIT_OPEN', -31503],
    ['GATEWAY_TIMEOUT', -31503],
    ['SERVER_DISABLED', -31503],
  ] as const)('%s is an answer with %i', (code, rpc) => {
    const reply = told(code, { reasons: [{ code: 'X', message: 'why' }], data: { approval_id: 'apr_1' } });
    expect(reply.status).toBe(200);
    expect(reply.headers['content-type']).toBe('application/json');
    expect(reply.body).toMatchObject({
      jsonrpc: '2.0',
      id: 7,
      error: {
        code: rpc,
        data: {
          code,
          reasons: [{ code: 'X', message: 'why' }],
          request_id: 'req_1',
          decision_id: 'dec_1',
          approval_id: 'apr_1',
        },
      },
    });
  });

  test.each([
    ['MISSING_CREDENTIALS', 401],
    ['TOKEN_EXPIRED', 401],
  ] as const)('%s is an HTTP error with its challenge', (code, status) => {
    const reply = told(code, { challenge: 'Bearer resource_metadata="x"' });
    expect(reply.status).toBe(status);
    expect(reply.headers['www-authenticate']).toBe('Bearer resource_metadata="x"');
    expect(reply.body).toMatchObject({ jsonrpc: '2.0' });
  });

  test('a missing scope is an HTTP 403 with its challenge', () => {
    const reply = told('FORBIDDEN', { challenge: 'Bearer error="insufficient_scope"' });
    expect([reply.status, reply.headers['www-authenticate']]).toEqual([403, 'Bearer error="insufficient_scope"']);
  });

  test('a scope that cannot be had is an HTTP 403 too, also where denials are results', () => {
    const error = new GatewayError('INSUFFICIENT_SCOPE');
    for (const asResult of [false, true]) {
      const { status, headers } = encodeDenial(error, context, undefined, { ...note, asResult });
      expect([status, headers['www-authenticate']]).toEqual([403, undefined]);
    }
  });

  test('without an id there is nobody to answer, so the status tells', () => {
    const reply = told('RATE_LIMIT_EXCEEDED', { retryAfter: 9 }, { rpcId: undefined });
    expect(reply.status).toBe(429);
    expect(reply.headers['retry-after']).toBe('9');
    expect(reply.body).toMatchObject({ id: null, error: { code: -31429, data: { retry_after: 9 } } });
  });

  test('only codes of the specification lie in the reserved range', () => {
    const defined = new Set([-32700, -32600, -32601, -32602, -32603, -32020, -32021, -32022]);
    for (const code of Object.keys(CATALOGUE) as ErrorCode[]) {
      const rpc = rpcCode(new GatewayError(code));
      if (rpc >= -32768 && rpc <= -32000) expect(defined).toContain(rpc);
    }
  });

  test('nothing internal is told', () => {
    const cause = new Error('postgres://user:secret@db');
    const text = String(encodeDenial(new GatewayError('INTERNAL_ERROR', { cause }), context, undefined).body);
    expect(text).not.toContain('secret');
    expect(JSON.parse(text)).toMatchObject({ id: 7, error: { code: -32603 } });
  });

  test('a route can ask for a result that a model reads', () => {
    const error = new GatewayError('POLICY_DENIED', { message: 'No writes on Sunday' });
    const reply = encodeDenial(error, context, undefined, { ...note, asResult: true, isModern: true });
    expect(reply.status).toBe(200);
    expect(JSON.parse(String(reply.body))).toMatchObject({
      id: 7,
      result: {
        resultType: 'complete',
        isError: true,
        content: [{ type: 'text', text: 'POLICY_DENIED: No writes on Sunday' }],
      },
    });
  });

  test('a modern client is told that a method nobody permits does not exist', () => {
    const error = new GatewayError('POLICY_DENIED');
    const reply = encodeDenial(error, context, undefined, { ...note, isUnknownMethod: true, isModern: true });
    expect(reply.status).toBe(404);
    expect(JSON.parse(String(reply.body))).toMatchObject({ id: 7, error: { code: -32601 } });
  });
});

import { describe, expect, test } from 'vitest';
import { GatewayError } from '../../../../src/core/errors.ts';
import type { Admitted, Routed, UpstreamPlan } from '../../../../src/core/exchange.ts';
import type { Route } from '../../../../src/core/route.ts';
import { createHttpProtocol, permissionsFor, rewritten } from '../../../../src/protocols/plain-http.ts';
import { verifies } from '../../../helpers/verifies.ts';

const protocol = createHttpProtocol({
  upstreamHeaders: ({ authorization: _secret, ...rest }) => rest,
  basePath: () => '/base',
});

const route = {
  id: '/api/tasks',
  match: '/api/tasks',
  upstream: '/api/tasks',
  rewrite: null,
  permissions: { GET: { anyOf: ['tasks.read'] }, '*': { allOf: ['tasks.write'] } },
} as unknown as Route;

/** Characters of token68 that addresses escape. */
const OPAQUE = '7Hq2+Zt/9xWv3Lp8/Rk==';

const exchange = (method: string, path: string, headers: Record<string, string> = {}): Admitted =>
  ({ route, received: { method, path, query: '?a=1&b=%20', headers } }) as unknown as Admitted;

describe('plain HTTP', () => {
  verifies('VW-03');

  test('is decided by method, with the permissions of the route, and passes its body unread', async () => {
    const message = await protocol.decode(exchange('POST', '/api/tasks/7', { authorization: 'x', accept: 'y' }));
    expect(message.calls).toEqual([
      {
        action: 'http:post',
        server: null,
        tool: null,
        parameters: { method: 'POST', path: '/api/tasks/7', query: '?a=1&b=%20' },
        annotations: null,
        schema_hash: null,
        resource: {
          type: 'http',
          id: '/api/tasks/7',
          tenant_id: null,
          owner_id: null,
          permissions: { allOf: ['tasks.write'] },
        },
        llm: null,
      },
    ]);
    expect(message).toMatchObject({ mode: 'all', body: null, dialect: 'problem' });
    expect(message.plan as UpstreamPlan).toEqual({
      kind: 'upstream',
      upstream: '/api/tasks',
      method: 'POST',
      path: '/base/api/tasks/7?a=1&b=%20',
      headers: { accept: 'y' },
      rewrite: null,
    });
  });

  test('tells policy that a request wants to become a WebSocket', async () => {
    const message = await protocol.decode(exchange('GET', '/api/tasks', { 'sec-websocket-key': 'k' }));
    expect(message.calls[0]?.parameters).toMatchObject({ websocket: true });
  });

  test.each([
    ['GET', { anyOf: ['tasks.read'] }],
    ['HEAD', { anyOf: ['tasks.read'] }],
    ['DELETE', { allOf: ['tasks.write'] }],
    ['constructor', { allOf: ['tasks.write'] }],
  ])('%s asks for the permissions of its rule', (method, expected) => {
    expect(permissionsFor(route, method)).toEqual(expected);
  });

  test('asks for none where the route names none', () => {
    expect(permissionsFor({ permissions: {} }, 'GET')).toBeNull();
    expect(permissionsFor({ permissions: {} }, '__proto__')).toBeNull();
    expect(permissionsFor({ permissions: { GET: { allOf: [] } } }, 'GET')).toBeNull();
  });

  test.each(['DELETE', 'PATCH', 'OPTIONS', 'PROPFIND', '__proto__'])(
    '%s can be used by nobody where the route names other methods only',
    (method) => {
      const named = { GET: { allOf: ['tasks.read'] }, POST: { allOf: [] } };
      expect(permissionsFor({ permissions: named }, method)).toEqual({ anyOf: [] });
    },
  );

  test.each([
    ['/a', null, '/a/b', '/a/b'],
    ['/a', '/x', '/a/b', '/x/b'],
    ['/a', '/x/', '/a/b', '/x/b'],
    ['/a', '', '/a/b', '/b'],
    ['/a', '/', '/a', '/'],
    ['/a', '', '/a', '/'],
    ['/', '/x', '/b', '/x/b'],
  ])('match %s with rewrite %s sends %s as %s', (match, rewrite, path, expected) => {
    expect(rewritten({ match, rewrite }, path)).toBe(expected);
  });

  test.each([
    ['as it is', { authorization: `Bearer ${OPAQUE}` }, `?t=${OPAQUE}`],
    ['as programs write it', { authorization: `Bearer ${OPAQUE}` }, `?t=${encodeURIComponent(OPAQUE)}`],
    ['with a letter escaped', { 'x-api-key': 'pc_dev_0123456789' }, '?t=pc%5Fdev_0123456789'],
    ['as a name', { authorization: `Basic ${OPAQUE}` }, `?${encodeURIComponent(OPAQUE)}&%`],
    ['in lower case escapes', { authorization: `Bearer ${OPAQUE}` }, `?t=${OPAQUE.replaceAll('/', '%2f')}`],
  ])('keeps a credential that stands in the query %s', async (_how, headers, query) => {
    const asked = { route, received: { method: 'GET', path: '/api/tasks', query, headers } } as unknown as Admitted;
    await expect((async () => protocol.decode(asked))()).rejects.toMatchObject({ code: 'INVALID_REQUEST' });
  });

  test('tells errors as problem details', () => {
    const error = new GatewayError('RATE_LIMIT_EXCEEDED', { retryAfter: 3, details: { limit: 5 } });
    const context = { requestId: 'req_1', decisionId: 'dec_1', rpcId: undefined };
    const reply = protocol.encodeError(error, context, exchange('GET', '/api/tasks') as Routed);
    expect(reply.status).toBe(429);
    expect(reply.headers).toEqual({
      'content-type': 'application/problem+json',
      'cache-control': 'no-store',
      'x-request-id': 'req_1',
      'x-decision-id': 'dec_1',
      'retry-after': '3',
      link: '</api/v1/errors/RATE_LIMIT_EXCEEDED>; rel="help"',
    });
    expect(JSON.parse(String(reply.body))).toEqual({
      type: 'urn:portcullis:error:RATE_LIMIT_EXCEEDED',
      title: 'Rate limit exceeded',
      status: 429,
      detail: 'Rate limit exceeded',
      instance: '/api/tasks',
      error: {
        code: 'RATE_LIMIT_EXCEEDED',
        message: 'Rate limit exceeded',
        details: { limit: 5, retry_after: 3, decision_id: 'dec_1' },
      },
      request_id: 'req_1',
    });
  });

  test('shows no cause, and tells SDKs not to retry what cannot change', () => {
    const error = new GatewayError('INTERNAL_ERROR', { cause: new Error('secret path /etc/x') });
    const reply = protocol.encodeError(error, { requestId: 'r', decisionId: null, rpcId: undefined }, null);
    expect(String(reply.body)).not.toContain('/etc/x');
    expect(reply.headers['x-should-retry']).toBe('false');
    expect(JSON.parse(String(reply.body)).instance).toBe('urn:portcullis:request:r');
  });
});

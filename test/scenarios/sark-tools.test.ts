/** Tool invocation by role, as a newcomer from a policy-driven tool gateway tries it: the strict profile, signed tokens. */
import { text } from 'node:stream/consumers';
import { exportJWK, generateKeyPair, SignJWT } from 'jose';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { main } from '../../src/cli/cli.ts';
import type { TestGateway } from '../helpers/gateway.ts';
import { POLICIES, startGateway } from '../helpers/gateway.ts';
import { call } from '../helpers/gateway-calls.ts';
import type { Service } from '../helpers/upstreams.ts';
import { startService } from '../helpers/upstreams.ts';
import { verifies } from '../helpers/verifies.ts';
import { fakeIo } from '../unit/cli/fake-io.ts';

/** A Wednesday, in working hours. */
const NOW = Date.parse('2025-01-15T10:30:00Z');
const ISSUER = 'https://idp.example.com';

interface ToolCall {
  readonly method: string;
  readonly id?: number;
  readonly params?: { readonly name?: string; readonly arguments?: { readonly query?: string } };
}

/** What reached the tool server. */
const received: string[] = [];
let postgres: Service;
let provider: Service;
let gateway: TestGateway;
const tokens: Record<string, string> = {};

async function startPostgres(): Promise<Service> {
  return startService(async (request, response) => {
    const message = JSON.parse(await text(request)) as ToolCall;
    const result =
      message.method === 'server/discover'
        ? { supportedVersions: ['2026-07-28'], capabilities: {} }
        : message.method === 'tools/list'
          ? { resultType: 'complete', tools: [{ name: 'execute_query', inputSchema: { type: 'object' } }] }
          : { resultType: 'complete', content: [{ type: 'text', text: '[]' }] };
    if (message.method === 'tools/call') received.push(message.params?.arguments?.query ?? '');
    response.writeHead(200, { 'content-type': 'application/json' });
    response.end(JSON.stringify({ jsonrpc: '2.0', id: message.id, result }));
  });
}

beforeAll(async () => {
  const { privateKey, publicKey } = await generateKeyPair('ES256', { extractable: true });
  const jwk = { ...(await exportJWK(publicKey)), kid: 'k1', alg: 'ES256', use: 'sig' };
  provider = await startService((_request, response) => {
    response.writeHead(200, { 'content-type': 'application/json' });
    response.end(JSON.stringify({ keys: [jwk] }));
  });
  const sign = (claims: Record<string, unknown>) =>
    new SignJWT({ org: 'acme', ...claims })
      .setProtectedHeader({ alg: 'ES256', kid: 'k1', typ: 'at+jwt' })
      .setIssuer(ISSUER)
      .setAudience('portcullis')
      .setIssuedAt(NOW / 1000)
      .setExpirationTime(NOW / 1000 + 3600)
      .sign(privateKey);
  tokens.ANALYST = await sign({ sub: 'ann', roles: ['analyst'] });
  tokens.DEVELOPER = await sign({ sub: 'dev', roles: ['developer'], tenure_months: 6 });
  tokens.ENGINEER = await sign({ sub: 'eng', roles: ['data_engineer'] });
  const admin = { sub: 'root', roles: ['admin'], tenure_months: 24, amr: ['mfa'], device_compliant: true };
  tokens.ADMIN = await sign(admin);
  postgres = await startPostgres();
  const server = { type: 'sql', dialect: 'postgres', url: `${postgres.url}/mcp` };
  const staff = { kind: 'jwt', issuer: ISSUER, audience: 'portcullis', jwks: `${provider.url}/jwks` };
  gateway = await startGateway(
    {
      regions: { '127.0.0.0/8': 'us-east-1' },
      identity: { staff: { ...staff, claims: { tenant: 'org' } } },
      servers: {
        'postgres-mcp': { ...server, environment: 'staging' },
        live: { ...server, environment: 'production' },
      },
      policy: { bundle: POLICIES, data: `${POLICIES}/profiles/strict.json`, watch: false },
    },
    { clock: { now: () => NOW } },
  );
});

afterAll(async () => {
  await gateway?.[Symbol.asyncDispose]();
  await postgres?.[Symbol.asyncDispose]();
  await provider?.[Symbol.asyncDispose]();
});

function invoke(who: string, query: string, more: { server?: string; parameters?: object; body?: object } = {}) {
  return call(`${gateway.url}/tools/invoke`, {
    headers: { authorization: `Bearer ${tokens[who]}` },
    json: {
      server_name: more.server ?? 'postgres-mcp',
      tool_name: 'execute_query',
      parameters: { query, ...more.parameters },
      ...more.body,
    },
  });
}

describe('a tool call', () => {
  test.each([
    ['DEVELOPER', 'SELECT created_at FROM orders', 200],
    ['ANALYST', 'SELECT * FROM orders', 403],
    ['ANALYST', 'SELECT r, COUNT(*) FROM o GROUP BY r', 200],
    ['ENGINEER', 'UPDATE orders SET x = 1', 200],
    ['ADMIN', 'DROP TABLE users', 403],
  ])('of %s with "%s" is answered with %i and forwarded only if it is allowed', async (who, query, status) => {
    verifies('S-24', 'S-32', 'S-33', 'S-34');
    received.length = 0;
    expect((await invoke(who, query)).status).toBe(status);
    expect(received).toEqual(status === 200 ? [query] : []);
  });

  test('that changes data is refused on a production server, whatever the caller says of the environment', async () => {
    verifies('S-34', 'S-36');
    received.length = 0;
    for (const parameters of [{}, { environment: 'staging' }, { environment: null }]) {
      expect((await invoke('ENGINEER', 'UPDATE orders SET x = 1', { server: 'live', parameters })).status).toBe(403);
    }
    expect(
      (await invoke('ENGINEER', 'UPDATE orders SET x = 1', { parameters: { environment: 'production' } })).status,
    ).toBe(403);
    expect(received).toEqual([]);
  });

  test('that is critical waits for a human, and claims in the body change nothing', async () => {
    verifies('SF-32');
    received.length = 0;
    const body = { gateway_metadata: { approval_token: 'x', sensitivity_level: 'low' } };
    for (const more of [{}, { body }]) {
      const answer = await invoke('ADMIN', 'DROP TABLE users', more);
      expect(answer.status).toBe(403);
      expect(answer.body).toMatchObject({ error: { code: 'APPROVAL_REQUIRED' } });
    }
    expect(received).toEqual([]);
  });

  test('is classified by the command line as by the gateway', async () => {
    verifies('S-30');
    const { io, written } = fakeIo();
    const status = await main(['classify', '--server-type', 'sql', '--param', 'query=DROP TABLE users', '--json'], io);
    expect(status).toBe(0);
    expect(JSON.parse(written.out)).toMatchObject({
      tool_type: 'admin',
      sensitivity_level: 'critical',
      reasons: expect.arrayContaining(['sql:drop']),
      resources: ['users'],
    });
  });
});

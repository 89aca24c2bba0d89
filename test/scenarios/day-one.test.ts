/** What newcomers of the united systems try first, with tokens of an identity provider and the strict policy profile. */
import { spawn } from 'node:child_process';
import { text } from 'node:stream/consumers';
import { exportJWK, generateKeyPair, SignJWT } from 'jose';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { TestGateway } from '../helpers/gateway.ts';
import { POLICIES, startGateway } from '../helpers/gateway.ts';
import { call } from '../helpers/gateway-calls.ts';
import type { Example } from '../helpers/processes.ts';
import { cleanEnv, MAIN, ROOT, startExample } from '../helpers/processes.ts';
import type { Service } from '../helpers/upstreams.ts';
import { startService } from '../helpers/upstreams.ts';
import { verifies } from '../helpers/verifies.ts';

/** A Wednesday, in working hours. */
const WEDNESDAY = Date.parse('2025-01-15T10:30:00Z');
const ISSUER = 'https://idp.example.com';
let now = WEDNESDAY;
let orders: Example;
let provider: Service;
let gateway: TestGateway;
let sign: (claims: Record<string, unknown>, lifetime?: number) => Promise<string>;
const tokens: Record<string, string> = {};

beforeAll(async () => {
  const { privateKey, publicKey } = await generateKeyPair('ES256', { extractable: true });
  const jwk = { ...(await exportJWK(publicKey)), kid: 'first', alg: 'ES256', use: 'sig' };
  provider = await startService((_request, response) => {
    response.writeHead(200, { 'content-type': 'application/json' });
    response.end(JSON.stringify({ keys: [jwk] }));
  });
  sign = (claims, lifetime = 3600) =>
    new SignJWT({ sub: 'someone', org: 'acme', ...claims })
      .setProtectedHeader({ alg: 'ES256', kid: 'first', typ: 'at+jwt' })
      .setIssuer(ISSUER)
      .setAudience('portcullis')
      .setIssuedAt(Math.floor(now / 1000))
      .setExpirationTime(Math.floor(now / 1000) + lifetime)
      .sign(privateKey);
  tokens.analyst = await sign({ sub: 'ann', roles: ['analyst'] });
  tokens.developer = await sign({ sub: 'dev', roles: ['developer'], tenure_months: 6 });
  tokens.engineer = await sign({ sub: 'eng', roles: ['data_engineer'] });
  tokens.admin = await sign({
    sub: 'root',
    roles: ['admin'],
    tenure_months: 24,
    amr: ['mfa'],
    device_compliant: true,
  });
  tokens['careless admin'] = await sign({ sub: 'root2', roles: ['admin'], tenure_months: 24 });
  orders = await startExample('orders-server');
  const server = { type: 'sql', dialect: 'postgres', url: orders.url };
  gateway = await startGateway(
    {
      regions: { '127.0.0.0/8': 'us-east-1' },
      identity: {
        keys: { kind: 'api-key' },
        staff: {
          kind: 'jwt',
          issuer: ISSUER,
          audience: 'portcullis',
          jwks: `${provider.url}/jwks`,
          claims: { tenant: 'org' },
        },
      },
      servers: {
        'postgres-mcp': { ...server, environment: 'staging' },
        'postgres-live': { ...server, environment: 'production' },
      },
      policy: { bundle: POLICIES, data: `${POLICIES}/profiles/strict.json`, watch: false },
    },
    { clock: { now: () => now } },
  );
});

afterAll(async () => {
  await gateway?.[Symbol.asyncDispose]();
  await provider?.[Symbol.asyncDispose]();
  await orders?.crash();
});

function ask(who: string, query: string, more: { server?: string; parameters?: object; body?: object } = {}) {
  return call(`${gateway.url}/tools/invoke`, {
    headers: { authorization: `Bearer ${tokens[who] ?? who}` },
    json: {
      server_name: more.server ?? 'postgres-mcp',
      tool_name: 'execute_query',
      parameters: { query, ...more.parameters },
      ...more.body,
    },
  });
}

describe('tool calls by role', () => {
  test.each([
    ['developer', 'SELECT created_at FROM orders', 200],
    ['analyst', 'SELECT * FROM orders', 403],
    ['analyst', 'SELECT region, COUNT(*) FROM orders GROUP BY region', 200],
    ['engineer', "UPDATE orders SET status = 'paid'", 200],
    ['admin', 'DROP TABLE users', 403],
  ])('%s: %s is answered with %i', async (who, query, status) => {
    verifies('S-24', 'S-32', 'S-33', 'S-34', 'D-08', 'D-10');
    expect((await ask(who, query)).status).toBe(status);
  });

  test('a column called created_at does not make a read an administration', async () => {
    verifies('SF-01');
    expect(
      (await ask('developer', 'SELECT created_at, dropped FROM (SELECT created_at, 1 AS dropped FROM orders) o'))
        .status,
    ).toBe(200);
  });

  test('the environment is the server’s, whatever the caller says', async () => {
    verifies('SF-08', 'S-36');
    const update = "UPDATE orders SET status = 'open'";
    for (const parameters of [{}, { environment: 'staging' }, { environment: 'Production ' }]) {
      expect((await ask('engineer', update, { server: 'postgres-live', parameters })).status).toBe(403);
    }
    expect((await ask('engineer', update, { parameters: { environment: 'PRODUCTION' } })).status).toBe(403);
  });

  test('a claimed approval or class changes nothing', async () => {
    verifies('SF-32');
    const body = { gateway_metadata: { approval_token: 'x', sensitivity_level: 'low' }, approval_token: 'x' };
    const answer = await ask('admin', 'DROP TABLE users', { body });
    expect(answer.status).toBe(403);
    expect(answer.body).toMatchObject({ error: { code: 'APPROVAL_REQUIRED' } });
  });

  test('what is sensitive asks for a second factor, and what is critical for a working day and a good device', async () => {
    verifies('S-48', 'S-55', 'S-56', 'SF-33');
    const high = await ask('careless admin', 'SELECT * FROM credentials');
    expect(high.body).toMatchObject({ error: { code: 'MFA_REQUIRED' } });
    now = Date.parse('2025-01-18T20:00:00Z');
    const [rootToken, carelessToken] = await Promise.all([
      sign({ sub: 'root', roles: ['admin'], amr: ['mfa'], device_compliant: true }),
      sign({ sub: 'root2', roles: ['admin'], amr: ['mfa'] }),
    ]);
    const weekend = await ask(rootToken, 'DROP TABLE users');
    const messages = JSON.stringify(weekend.body);
    now = WEDNESDAY;
    expect(messages).toContain('Critical operations only allowed during work hours (9 AM - 5 PM UTC)');
    expect(messages).toContain('Critical operations not allowed on weekends');
    now = Date.parse('2025-01-18T20:00:00Z');
    expect(JSON.stringify((await ask(carelessToken, 'DROP TABLE users')).body)).toContain(
      'Device compliance check required for critical operations',
    );
    now = WEDNESDAY;
  });

  test('a token that has expired, was altered or is for someone else is no token', async () => {
    verifies('D-05');
    const expired = await sign({ roles: ['admin'] }, 60);
    now += 120_000;
    const late = await ask(expired, 'SELECT 1');
    now = WEDNESDAY;
    expect(late.status).toBe(401);
    expect(late.headers.get('www-authenticate')).toMatch(/Bearer/);
    const [head, body, signature] = (tokens.analyst ?? '').split('.');
    const claims = JSON.parse(Buffer.from(body ?? '', 'base64url').toString()) as object;
    const forged = Buffer.from(JSON.stringify({ ...claims, roles: ['admin'] })).toString('base64url');
    for (const token of [`${head}.${forged}.${signature}`, `${head}.${body}.`, 'not.a.token']) {
      const answer = await ask(token, 'SELECT 1');
      expect(answer.status).toBe(401);
      expect(answer.body).toMatchObject({ error: { code: 'INVALID_CREDENTIALS' } });
    }
  });
});

describe('evaluations by hand', () => {
  async function evaluate(entrypoint: string, input: object, ...flags: string[]): Promise<unknown> {
    const args = ['policy', 'eval', entrypoint, '--data', 'policies/profiles/strict.json', ...flags];
    const child = spawn(process.execPath, [MAIN, ...args], {
      cwd: ROOT,
      env: cleanEnv(),
      stdio: ['pipe', 'pipe', 'inherit'],
    });
    child.stdin.end(JSON.stringify(input));
    return JSON.parse(await text(child.stdout));
  }

  test('a delegation from a trusted principal to a lesser one, up to its depth', async () => {
    verifies('S-42', 'S-57', 'SF-35');
    const input = (depth: number) => ({
      action: 'a2a:delegate',
      source_user: { id: 'a', roles: ['admin'], tenure_months: 24 },
      target_user: { id: 'b', roles: ['developer'], tenure_months: 6 },
      delegation_depth: depth,
    });
    const answers = await Promise.all(
      [1, 5, -1].map((depth) => evaluate('mcp/gateway/trust/allow_delegation', input(depth))),
    );
    expect(answers).toEqual([true, false, false]);
  });

  test('a critical call on a Saturday evening', async () => {
    verifies('S-48', 'S-57');
    const input = { action: 'gateway:tool:invoke', gateway_metadata: { sensitivity_level: 'critical' } };
    const deny = (await evaluate('mcp/gateway/trust/deny', input, '--clock', '2025-01-18T20:00:00Z')) as string[];
    expect(deny).toEqual(
      expect.arrayContaining([
        'Critical operations not allowed on weekends',
        'Critical operations only allowed during work hours (9 AM - 5 PM UTC)',
      ]),
    );
  });

  test('a call from a region that is not listed', async () => {
    verifies('S-50', 'S-57', 'SF-40');
    const input = { action: 'gateway:tool:invoke', gateway_metadata: { source_region: 'cn-north-1' } };
    expect(await evaluate('mcp/gateway/context/deny', input)).toContain(
      'Access denied from region: cn-north-1. Allowed regions: {"eu-west-1", "us-east-1", "us-west-2"}',
    );
  });
});

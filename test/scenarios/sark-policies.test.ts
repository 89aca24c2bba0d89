/** Policies by hand: evaluating, testing, changing and breaking them with the command line, as their authors do. */
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { Readable } from 'node:stream';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { main } from '../../src/cli/cli.ts';
import type { TestGateway } from '../helpers/gateway.ts';
import { ADMIN_TOKEN, dataWithoutLimits, POLICIES, startGateway } from '../helpers/gateway.ts';
import { call } from '../helpers/gateway-calls.ts';
import { startLoad } from '../helpers/gateway-load.ts';
import type { PolicyDirectory } from '../helpers/policy-dir.ts';
import { NO_COMPILER, policyDirectory } from '../helpers/policy-dir.ts';
import type { Service } from '../helpers/upstreams.ts';
import { startService } from '../helpers/upstreams.ts';
import { verifies } from '../helpers/verifies.ts';
import { fakeIo } from '../unit/cli/fake-io.ts';

if (NO_COMPILER !== null) console.warn(`policy change tests are skipped: ${NO_COMPILER}`);

async function portcullis(argv: readonly string[], input = '', env: Record<string, string> = {}) {
  const { io, written } = fakeIo({
    env: { ...(process.env as Record<string, string>), ...env },
    cwd: join(POLICIES, '..'),
  });
  const code = await main(argv, { ...io, stdin: Readable.from([input]) });
  return { code, ...written };
}

const STRICT = 'policies/profiles/strict.json';

async function evaluate(entrypoint: string, input: object, ...more: string[]): Promise<unknown> {
  const argv = ['policy', 'eval', '--data', STRICT, entrypoint, ...more];
  const bare = await portcullis(argv, JSON.stringify(input));
  const wrapped = await portcullis(argv, JSON.stringify({ input }));
  expect(wrapped).toEqual(bare);
  expect(bare.code).toBe(0);
  return JSON.parse(bare.out);
}

describe('three evaluations by hand', () => {
  const delegation = (delegation_depth: number) => ({
    action: 'a2a:delegate',
    source_user: { id: 'a', roles: ['admin'], tenure_months: 24 },
    target_user: { id: 'b', roles: ['developer'], tenure_months: 6 },
    delegation_depth,
  });

  test.each([
    [1, true],
    [4, true],
    [5, false],
    [-1, false],
    [1.5, false],
  ])('delegation at depth %d is allowed: %s', async (depth, allowed) => {
    verifies('S-57', 'S-42', 'S-43');
    expect(await evaluate('mcp/gateway/trust/allow_delegation', delegation(depth))).toBe(allowed);
  });

  test('a critical call on a Saturday evening is against the week and the day', async () => {
    verifies('S-57', 'S-47', 'S-48', 'S-45');
    const input = { action: 'gateway:tool:invoke', gateway_metadata: { sensitivity_level: 'critical' } };
    expect(await evaluate('mcp/gateway/trust/deny', input, '--clock', '2025-01-18T20:00:00Z')).toEqual([
      'Critical operations not allowed on weekends',
      'Critical operations only allowed during work hours (9 AM - 5 PM UTC)',
    ]);
    expect(await evaluate('mcp/gateway/trust/deny', input, '--clock', '2025-01-15T10:30:00Z')).toEqual([]);
  });

  test('a caller from a region that is not on the list is told the list', async () => {
    verifies('S-57', 'S-50');
    const input = { action: 'gateway:tool:invoke', gateway_metadata: { source_region: 'cn-north-1' } };
    expect(await evaluate('mcp/gateway/context/deny', input)).toContain(
      'Access denied from region: cn-north-1. Allowed regions: {"eu-west-1", "us-east-1", "us-west-2"}',
    );
  });
});

describe.skipIf(NO_COMPILER !== null)('the policies', () => {
  test('pass their own tests', { timeout: 60_000 }, async () => {
    const { code, out } = await portcullis(['policy', 'test', 'policies/']);
    expect(out).toMatch(/^\d{2,} passed, 0 failed, 0 skipped\n$/);
    expect(code).toBe(0);
  });
});

describe.skipIf(NO_COMPILER !== null)('a policy that changes while requests come', () => {
  let tools: Service;
  let policy: PolicyDirectory;
  let gateway: TestGateway;
  let key = '';

  beforeAll(async () => {
    if (NO_COMPILER !== null) return;
    policy = await policyDirectory({ 'data.json': await dataWithoutLimits() });
    tools = await startService((_request, response) => response.end('{"fine":true}'));
    gateway = await startGateway({
      routes: [{ match: '/api', protocol: 'http', url: tools.url, identity: ['keys'] }],
      policy: { bundle: policy.path, watch: false },
    });
    key = await gateway.key('developer');
  });

  afterAll(async () => {
    await gateway?.[Symbol.asyncDispose]();
    await tools?.[Symbol.asyncDispose]();
    policy?.[Symbol.dispose]();
  });

  const reload = () =>
    portcullis(['policy', 'reload', '--json', '--url', gateway.admin], '', { PORTCULLIS_ADMIN_TOKEN: ADMIN_TOKEN });
  const ask = () => call(`${gateway.url}/api`, { key });

  test('has a new revision at once, without a failed request', { timeout: 60_000 }, async () => {
    verifies('SW-18');
    const before = JSON.parse((await reload()).out) as { revision: string };
    const load = startLoad(`${gateway.url}/api`, { clients: 4, headers: { 'x-api-key': key } });
    expect((await ask()).status).toBe(200);
    await writeFile(
      join(policy.path, 'closed.rego'),
      'package portcullis.custom.closed\n\ndeny contains "Closed for stocktaking" if input.action == "http:post"\n',
    );
    const { code, out } = await reload();
    expect(code).toBe(0);
    const after = JSON.parse(out) as { revision: string; last_error: string | null };
    expect(after.last_error).toBeNull();
    expect(after.revision).not.toBe(before.revision);
    const refused = await call(`${gateway.url}/api`, { key, json: {} });
    expect(refused.status).toBe(403);
    expect(refused.text).toContain('Closed for stocktaking');
    const { statuses, lost, ids } = await load.stop();
    expect(lost).toEqual([]);
    expect([...statuses]).toEqual([[200, ids.length]]);
  });

  test('that does not load leaves the one before in force and says so', { timeout: 60_000 }, async () => {
    verifies('SW-18');
    await writeFile(join(policy.path, 'broken.rego'), 'package portcullis.custom.broken\n\nallow if {\n');
    const { code, out } = await reload();
    expect(code).toBe(1);
    expect(JSON.parse(out)).toMatchObject({ last_error: expect.stringMatching(/broken\.rego:\d+/) });
    expect((await ask()).status).toBe(200);
    expect((await call(`${gateway.url}/api`, { key, json: {} })).status).toBe(403);
    const headers = { authorization: `Bearer ${ADMIN_TOKEN}` };
    const metrics = await call(`${gateway.admin}/metrics`, { headers });
    expect(metrics.text).toMatch(/portcullis_reloads_total\{what="policy",result="failed"\} 1/);
  });

  test('that contradicts itself denies with POLICY_EVALUATION_ERROR', { timeout: 60_000 }, async () => {
    await writeFile(
      join(policy.path, 'broken.rego'),
      [
        'package portcullis.custom.broken',
        'deny contains "never said" if both == 3',
        'both := 1 if startswith(input.action, "http:")',
        'both := 2 if startswith(input.action, "http:get")',
      ].join('\n\n'),
    );
    expect((await reload()).code).toBe(0);
    const answer = await ask();
    expect(answer.status).toBe(500);
    expect(answer.body).toMatchObject({ error: { code: 'POLICY_EVALUATION_ERROR' } });
    expect(answer.text).not.toMatch(/both|conflict|rego/);
  });
});

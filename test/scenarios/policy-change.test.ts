import { cpSync } from 'node:fs';
import { rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { findOpa } from '../../src/policy/opa-command.ts';
import type { TestGateway } from '../helpers/gateway.ts';
import { ADMIN_TOKEN, dataWithoutLimits, POLICIES, startGateway } from '../helpers/gateway.ts';
import { call, invoke } from '../helpers/gateway-calls.ts';
import { startLoad } from '../helpers/gateway-load.ts';
import type { Example } from '../helpers/processes.ts';
import { startExample, temporaryDirectory } from '../helpers/processes.ts';
import { verifies } from '../helpers/verifies.ts';

// CI has Go, from which the compiler is built; elsewhere its absence skips and says what is missing.
const compiler = await findOpa();
if (compiler.path === null && process.env.CI !== 'true') console.warn(`skipped: ${compiler.message}`);

const PLAIN = 'SELECT id FROM orders LIMIT 1';
const COUNTING = 'SELECT COUNT(*) AS n FROM orders';
const RULE = `package portcullis.custom.stocktaking

deny contains "The orders are being counted by hand" if input.parameters.query == "${COUNTING}"
`;

describe.skipIf(compiler.path === null && process.env.CI !== 'true')('a policy directory that changes', () => {
  const directory = temporaryDirectory('portcullis-policies-');
  const rule = join(directory.path, 'stocktaking.rego');
  let orders: Example;
  let gateway: TestGateway;
  let key: string;
  let revision: string;

  beforeAll(async () => {
    cpSync(POLICIES, directory.path, { recursive: true });
    await writeFile(join(directory.path, 'data.json'), await dataWithoutLimits());
    orders = await startExample('orders-server');
    gateway = await startGateway({
      servers: { orders: { type: 'sql', dialect: 'sqlite', url: orders.url, environment: 'staging' } },
      policy: { bundle: directory.path, watch: true },
    });
    key = await gateway.key('admin');
    revision = (await policyStatus()).revision;
  });

  afterAll(async () => {
    await gateway?.[Symbol.asyncDispose]();
    await orders?.crash();
    directory[Symbol.dispose]();
  });

  async function policyStatus() {
    const headers = { authorization: `Bearer ${ADMIN_TOKEN}` };
    const answer = await call(`${gateway.admin}/policy/status`, { headers });
    return answer.body as { revision: string; last_error: string | null };
  }

  const load = () =>
    startLoad(`${gateway.url}/tools/invoke`, {
      clients: 4,
      headers: { 'x-api-key': key, 'content-type': 'application/json' },
      body: JSON.stringify({ server_name: 'orders', tool_name: 'execute_query', parameters: { query: PLAIN } }),
    });

  test('takes effect without a restart and without one failed request', async () => {
    verifies('SW-18');
    const requests = load();
    expect((await invoke(gateway.url, key, COUNTING)).status).toBe(200);
    const activated = gateway.logged(/policy activated/, 2);
    await writeFile(rule, RULE);
    await activated;
    const denied = await invoke(gateway.url, key, COUNTING);
    expect(denied.status).toBe(403);
    expect(denied.body).toMatchObject({ error: { message: 'The orders are being counted by hand' } });
    const { statuses, lost, ids } = await requests.stop();
    expect(lost).toEqual([]);
    expect([...statuses]).toEqual([[200, ids.length]]);
    expect(ids.length).toBeGreaterThan(50);
    const changed = (await policyStatus()).revision;
    expect(changed).not.toBe(revision);
    revision = changed;
  });

  test('is refused with file and line when it does not compile, and the policy before stays', async () => {
    await writeFile(rule, `${RULE}\nallow if {\n\tnobody.knows[this\n}\n`);
    const line = JSON.parse(await gateway.logged(/policy not activated/)) as { reason: string };
    expect(line.reason).toMatch(/stocktaking\.rego:\d+:\d+: /);
    const status = await policyStatus();
    expect(status.revision).toBe(revision);
    expect(status.last_error).toMatch(/stocktaking\.rego:\d+:\d+: /);
    expect((await invoke(gateway.url, key, COUNTING)).status).toBe(403);
    expect((await invoke(gateway.url, key, PLAIN)).status).toBe(200);
    expect((await call(`${gateway.url}/readyz`)).status).toBe(200);
  });

  test('is as before when the change is taken back', async () => {
    const activated = gateway.logged(/policy activated/, 3);
    await rm(rule);
    await activated;
    expect((await invoke(gateway.url, key, COUNTING)).status).toBe(200);
    expect((await policyStatus()).last_error).toBeNull();
  });
});

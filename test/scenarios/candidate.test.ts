/** A candidate policy at the front door: it is asked about the same calls, decides none, and costs nobody anything. */
import { Readable } from 'node:stream';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { main } from '../../src/cli/cli.ts';
import type { ShadowStatus } from '../../src/policy/shadow.ts';
import { ADMIN_TOKEN, type PartialConfig, POLICIES, startGateway, type TestGateway } from '../helpers/gateway.ts';
import { NO_COMPILER, type PolicyDirectory, policyDirectory } from '../helpers/policy-dir.ts';
import { type Service, startService } from '../helpers/upstreams.ts';

if (NO_COMPILER !== null) console.warn(`candidate tests are skipped: ${NO_COMPILER}`);

let upstream: Service;
beforeAll(async () => {
  upstream = await startService((_request, response) => response.end('{"ok":true}'));
});
afterAll(() => upstream[Symbol.asyncDispose]());

const config = (shadow?: NonNullable<PartialConfig['policy']>['shadow']): PartialConfig => ({
  routes: [{ match: '/api', protocol: 'http', url: upstream.url, identity: ['keys'] }],
  policy: { bundle: POLICIES, watch: false, cache: { entries: 0 }, ...(shadow === undefined ? {} : { shadow }) },
});

async function shadowOf(gateway: TestGateway): Promise<ShadowStatus> {
  const response = await fetch(`${gateway.admin}/policy/shadow`, {
    headers: { authorization: `Bearer ${ADMIN_TOKEN}` },
  });
  expect(response.status).toBe(200);
  return (await response.json()) as ShadowStatus;
}

/** Asks until it is so. */
async function shown(gateway: TestGateway, enough: (status: ShadowStatus) => boolean): Promise<ShadowStatus> {
  for (;;) {
    const status = await shadowOf(gateway);
    if (enough(status)) return status;
  }
}

/** The same, once everything that was handed over is compared. */
const settled = (gateway: TestGateway, enough: (status: ShadowStatus) => boolean): Promise<ShadowStatus> =>
  shown(gateway, (status) => enough(status) && status.waiting === 0);

async function policyShadow(gateway: TestGateway, ...options: string[]): Promise<string> {
  let printed = '';
  const out = (piece: string) => {
    printed += piece;
  };
  const env = { PORTCULLIS_ADMIN_URL: gateway.admin, PORTCULLIS_ADMIN_TOKEN: ADMIN_TOKEN };
  const signal = new AbortController().signal;
  const io = { stdin: Readable.from([]), out, err: out, env, cwd: gateway.home, signal };
  const code = await main(['policy', 'shadow', ...options], io);
  return code === 0 ? printed : `exit ${code}: ${printed}`;
}

const STRICTER = `package portcullis.custom.candidate

import rego.v1

violations contains {"code": "POLICY_DENIED", "message": "No more deletions", "severity": "high"} if {
	input.action == "http:delete"
}

obligations contains {"type": "set_header", "name": "x-new", "value": "1"} if input.action == "http:put"
`;

const ENDLESS = `package portcullis.custom.endless

import rego.v1

violations contains {"code": "POLICY_DENIED", "message": "slow", "severity": "high"} if {
	input.action == "http:get"
	many := numbers.range(1, 20000)
	count([1 | some a in many; some b in many; a * b == -1]) > 0
}
`;

describe.skipIf(NO_COMPILER !== null)('a candidate policy', () => {
  let stricter: PolicyDirectory;
  let endless: PolicyDirectory;
  beforeAll(async () => {
    stricter = await policyDirectory({ 'candidate.rego': STRICTER });
    endless = await policyDirectory({ 'endless.rego': ENDLESS });
  });
  afterAll(() => {
    stricter[Symbol.dispose]();
    endless[Symbol.dispose]();
  });

  test('is compared call by call, and changes none', async () => {
    await using gateway = await startGateway(config({ bundle: stricter.path }));
    await settled(gateway, ({ revision }) => revision !== null);
    const authorization = `Bearer ${await gateway.key('admin')}`;
    const send = async (method: string) =>
      (await fetch(`${gateway.url}/api/x`, { method, headers: { authorization } })).status;
    expect(await send('GET')).toBe(200);
    expect(await send('DELETE')).toBe(200);
    expect(await send('PUT')).toBe(200);
    const status = await settled(gateway, ({ compared }) => compared === 3);
    expect(status).toMatchObject({ same: 1, restarts: 0, last_error: null, dropped: {} });
    expect(status.differences).toMatchObject({ allow_to_deny: 1, obligations: 1, deny_to_allow: 0, failure: 0 });
    expect(status.codes).toEqual({ POLICY_DENIED: { added: 1, removed: 0 } });
    const [last, first] = status.recent;
    expect(last).toMatchObject({ kind: 'obligations', candidate: { obligations: ['set_header'] } });
    expect(first).toMatchObject({
      ...{ kind: 'allow_to_deny', action: 'http:delete', live: { allow: true, codes: [] } },
      candidate: { allow: false, codes: ['POLICY_DENIED'] },
    });
    const printed = await policyShadow(gateway);
    expect(printed).toContain('allow_to_deny   1');
    expect(printed).toContain(first?.decision_id);
    expect(JSON.parse(await policyShadow(gateway, '--json'))).toMatchObject({ compared: 3 });
    const audit = await gateway.audited((events) => events.length >= 3);
    expect(audit.some((event) => 'decision_id' in event && event.decision_id === first?.decision_id)).toBe(true);
    const metrics = await (
      await fetch(`${gateway.admin}/metrics`, { headers: { authorization: `Bearer ${ADMIN_TOKEN}` } })
    ).text();
    expect(metrics).toContain('portcullis_shadow_decisions_total{result="allow_to_deny"} 1');
    expect(metrics).toContain('portcullis_shadow_violations_total{code="POLICY_DENIED",change="added"} 1');
  });

  test('that never ends is stopped, left alone, and noticed by nobody', async () => {
    const rounds = 300;
    const measure = async (gateway: TestGateway) => {
      const authorization = `Bearer ${await gateway.key('admin')}`;
      const times: number[] = [];
      const bodies = new Set<string>();
      for (let i = 0; i < rounds; i++) {
        const started = performance.now();
        const response = await fetch(`${gateway.url}/api/x`, { headers: { authorization } });
        bodies.add(`${response.status} ${await response.text()}`);
        times.push(performance.now() - started);
      }
      times.sort((a, b) => a - b);
      return { p50: times[Math.floor(rounds * 0.5)] ?? 0, bodies };
    };
    await using plain = await startGateway(config());
    const before = await measure(plain);
    await using gateway = await startGateway(config({ bundle: endless.path, time_limit_ms: 50 }));
    await settled(gateway, ({ revision }) => revision !== null);
    const during = await measure(gateway);
    expect(during.bodies).toEqual(before.bodies);
    // The candidate's thread has the lowest priority: on a busy machine its turn comes later.
    const status = await shown(gateway, ({ differences }) => differences.failure > 0);
    expect(status.differences.failure).toBeGreaterThan(0);
    // A request that waited for one evaluation of the candidate would have taken its whole time limit.
    expect(during.p50).toBeLessThan(Math.max(25, before.p50 * 5));
  });

  test('that cannot be loaded says why, and the gateway goes on', async () => {
    await using gateway = await startGateway(config({ bundle: './nowhere' }));
    const status = await settled(gateway, ({ last_error }) => last_error !== null);
    expect(status.last_error).toContain('nowhere');
    const authorization = `Bearer ${await gateway.key('admin')}`;
    expect((await fetch(`${gateway.url}/api/x`, { headers: { authorization } })).status).toBe(200);
  });

  test('is not found where none is tried out', async () => {
    await using gateway = await startGateway(config());
    const response = await fetch(`${gateway.admin}/policy/shadow`, {
      headers: { authorization: `Bearer ${ADMIN_TOKEN}` },
    });
    expect(response.status).toBe(404);
    expect(await policyShadow(gateway)).toMatch(/^exit 1: .*no candidate is tried out/s);
  });
});

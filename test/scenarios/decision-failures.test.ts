/** Each way for a decision not to exist: the call is refused, the caller learns nothing of the policy, and it is counted. */
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { TestGateway } from '../helpers/gateway.ts';
import { ADMIN_TOKEN, startGateway } from '../helpers/gateway.ts';
import { call } from '../helpers/gateway-calls.ts';
import type { PolicyDirectory } from '../helpers/policy-dir.ts';
import { NO_COMPILER, policyDirectory } from '../helpers/policy-dir.ts';
import { temporaryDirectory } from '../helpers/processes.ts';
import type { Service } from '../helpers/upstreams.ts';
import { startService } from '../helpers/upstreams.ts';

if (NO_COMPILER !== null) console.warn(`decision failure tests are skipped: ${NO_COMPILER}`);

const VERDICT = '"allow": true, "deny": [], "valid_until": null';

/** Entrypoints of a policy that goes wrong in every way, each with what it is counted as. */
const FAULTS: readonly (readonly [name: string, kind: string, rego: string])[] = [
  ['nothing', 'undefined', `nothing := {${VERDICT}, "obligations": []} if input.action == "never"`],
  [
    'conflict',
    'abort',
    'conflict := 1 if startswith(input.action, "http:")\n\nconflict := 2 if startswith(input.action, "http:g")',
  ],
  [
    'endless',
    'timeout',
    // Nothing is made in these loops, so that the steps run out before the memory does.
    'names := {"a", "b", "c", "d", "e", "f", "g", "h"}\n\nendless if {\n\tnames[a]\n\tnames[b]\n\tnames[c]\n\tnames[d]\n\tnames[e]\n\tnames[f]\n\tnames[g]\n\tnames[h]\n\tnames[i]\n\tnames[j]\n\tj == input.nothing_at_all\n}',
  ],
  ['huge', 'memory', 'huge := count([a | some a in numbers.range(1, 40000000)])'],
  ['no_object', 'bad_result', 'no_object := true'],
  ['no_allow', 'bad_result', 'no_allow := {"deny": [], "obligations": []}'],
  ['text_allow', 'bad_result', 'text_allow := {"allow": "true", "deny": [], "obligations": []}'],
  [
    'odd_code',
    'bad_result',
    'odd_code := {"allow": false, "deny": [{"package": "p", "code": "NO_SUCH", "message": "m", "severity": "low"}], "obligations": []}',
  ],
  ['no_obligations', 'unknown_obligation', `no_obligations := {${VERDICT}}`],
  ['coffee', 'unknown_obligation', `coffee := {${VERDICT}, "obligations": [{"type": "make_coffee"}]}`],
  ['half', 'unknown_obligation', `half := {${VERDICT}, "obligations": [{"type": "clamp", "name": "n"}]}`],
  [
    'cannot',
    'unknown_obligation',
    `cannot := {${VERDICT}, "obligations": [{"type": "clamp", "name": "n", "maximum": 1}]}`,
  ],
];
const NAMES = FAULTS.map(([name]) => name);

let upstream: Service;
let requests = 0;
let policy: PolicyDirectory;
let gateway: TestGateway;
let key = '';

beforeAll(async () => {
  upstream = await startService((_request, response) => {
    requests++;
    response.end('{}');
  });
  if (NO_COMPILER !== null) return;
  const written = FAULTS.filter(([, , rego]) => rego !== '');
  const rules = written.map(([, , rego]) => rego).join('\n\n');
  policy = await policyDirectory(
    { 'faults.rego': `package faults\n\n${rules}\n` },
    written.map(([name]) => `faults/${name}`),
  );
  const route = { protocol: 'http' as const, url: upstream.url, identity: ['keys'] };
  gateway = await startGateway({
    routes: [
      ...NAMES.map((name) => ({ ...route, match: `/${name}`, entrypoint: `faults/${name}` })),
      { ...route, match: '/sound' },
    ],
    policy: { bundle: policy.path, watch: false },
  });
  key = await gateway.key('developer');
}, 60_000);

afterAll(async () => {
  await gateway?.[Symbol.asyncDispose]();
  await upstream?.[Symbol.asyncDispose]();
  policy?.[Symbol.dispose]();
});

/** How often a kind of failure was counted. */
async function counted(of: TestGateway, kind: string): Promise<number> {
  const headers = { authorization: `Bearer ${ADMIN_TOKEN}` };
  const { text } = await call(`${of.admin}/metrics`, { headers });
  return Number(new RegExp(`^portcullis_decision_failures_total\\{kind="${kind}"\\} (\\d+)`, 'm').exec(text)?.[1] ?? 0);
}

describe.skipIf(NO_COMPILER !== null)('a decision that does not exist', () => {
  test.each(FAULTS.map(([name, kind]) => [name, kind]))(
    '(%s) is a refusal counted as %s, and the next call is decided as ever',
    { timeout: 60_000 },
    async (name, kind) => {
      const before = await counted(gateway, kind);
      const forwarded = requests;
      const answer = await call(`${gateway.url}/${name}`, { key });
      expect(answer.status).toBe(500);
      expect(answer.body).toMatchObject({ error: { code: 'POLICY_EVALUATION_ERROR' } });
      expect(answer.text).not.toMatch(/faults|rego|numbers\.range|make_coffee/);
      expect(requests).toBe(forwarded);
      expect(await counted(gateway, kind)).toBe(before + 1);
      expect((await call(`${gateway.url}/sound`, { key })).status).toBe(200);
      const events = await gateway.audited((all) => all.some(({ request_id }) => request_id === answer.requestId));
      expect(events.find(({ request_id }) => request_id === answer.requestId)).toMatchObject({
        outcome: 'failed',
        code: 'POLICY_EVALUATION_ERROR',
      });
    },
  );
});

describe('a caller that cannot be put before the policy', () => {
  test('is refused and counted as bad_input, and others are decided as ever', async () => {
    await using own = await startGateway({
      routes: [{ match: '/api', protocol: 'http', url: upstream.url, identity: ['keys'] }],
    });
    // Half a character: Rego has no such text, and JSON lets it through.
    const odd = await own.key('developer', { roles: ['developer', 'half-\ud800'] });
    const forwarded = requests;
    const answer = await call(`${own.url}/api`, { key: odd });
    expect(answer.status).toBe(500);
    expect(answer.body).toMatchObject({ error: { code: 'POLICY_EVALUATION_ERROR' } });
    expect(await counted(own, 'bad_input')).toBe(1);
    expect(requests).toBe(forwarded);
    expect((await call(`${own.url}/api`, { key: await own.key('admin') })).status).toBe(200);
  });
});

describe('without a usable policy', () => {
  test('every call is refused with POLICY_UNAVAILABLE, and the gateway is not ready', async () => {
    using empty = temporaryDirectory();
    await writeFile(join(empty.path, 'data.json'), '{}');
    await using closed = await startGateway({
      routes: [{ match: '/api', protocol: 'http', url: upstream.url, identity: ['keys'] }],
      policy: { bundle: empty.path, watch: false },
    });
    const forwarded = requests;
    const answer = await call(`${closed.url}/api`, { key: await closed.key('admin') });
    expect(answer.status).toBe(503);
    expect(answer.body).toMatchObject({ error: { code: 'POLICY_UNAVAILABLE' } });
    expect(await counted(closed, 'no_bundle')).toBe(1);
    expect(requests).toBe(forwarded);
    expect((await call(`${closed.url}/readyz`)).status).toBe(503);
  });
});

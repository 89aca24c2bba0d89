import { cp, mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { ClassifiedCall, Sensitivity } from '../../../src/core/call.ts';
import type { Decision, DecisionRequest } from '../../../src/core/decision.ts';
import type { Logger } from '../../../src/core/module.ts';
import { makePrincipal } from '../../../src/core/principal.ts';
import { createPolicyEngine, type OpaEngine, type PolicyEngineOptions } from '../../../src/policy/opa-engine.ts';
import { verifies } from '../../helpers/verifies.ts';
import { makeRequest, makeServer, NOW } from './requests.ts';

const POLICIES = fileURLToPath(new URL('../../../policies/', import.meta.url));
const STRICT = join(POLICIES, 'profiles', 'strict.json');

class Log implements Logger {
  readonly lines: string[] = [];
  debug(): void {}
  info(fields: object, message: string): void {
    this.lines.push(`info ${message} ${JSON.stringify(fields)}`);
  }
  warn(fields: object, message: string): void {
    this.lines.push(`warn ${message} ${JSON.stringify(fields)}`);
  }
  error(fields: object, message: string): void {
    this.lines.push(`error ${message} ${JSON.stringify(fields)}`);
  }
}

let dir = '';
beforeAll(async () => {
  dir = await mkdtemp(join(tmpdir(), 'portcullis-engine-'));
});
afterAll(() => rm(dir, { recursive: true, force: true }));

let copies = 0;
/** A bundle of its own for a test: the compiled one, without sources. */
async function bundle(): Promise<string> {
  const copy = join(dir, `b${copies++}`);
  await cp(join(POLICIES, 'bundle'), join(copy, 'bundle'), { recursive: true });
  await cp(join(POLICIES, 'data.json'), join(copy, 'data.json'));
  return copy;
}

const SERVERS = new Map([
  ['orders', makeServer()],
  ['billing', makeServer({ name: 'billing', environment: 'production', data_region: 'eu', tags: ['phi'] })],
  ['off', makeServer({ name: 'off', enabled: false })],
]);

async function engineFor(options: Partial<PolicyEngineOptions> = {}): Promise<OpaEngine> {
  return createPolicyEngine({
    ...{ bundleDir: await bundle(), dataFile: null, entrypoint: 'portcullis/main/decision' },
    ...{ clock: { now: () => NOW }, cache: { entries: 0, base_ttl_ms: 60_000 }, servers: SERVERS },
    ...{ decisionLog: null, logger: new Log(), ...options },
  });
}

const outcome = ({ allow, deny, obligations, failure }: Decision) => ({ allow, deny, obligations, failure });

const LEVELS: readonly Sensitivity[] = ['low', 'medium', 'high', 'critical'];
const requests = fc
  .record({
    roles: fc.subarray(['admin', 'developer', 'analyst', 'data_engineer', 'user', 'viewer', 'guest']),
    level: fc.constantFrom(...LEVELS),
    type: fc.constantFrom('query', 'analytics', 'mutation', 'integration', 'admin', 'custom'),
    action: fc.constantFrom<ClassifiedCall['action']>(
      ...(['gateway:tool:invoke', 'gateway:tool:discover', 'mcp:protocol', 'gateway:method:call'] as const),
      ...(['llm:chat:create', 'http:get', 'gateway:sampling:create'] as const),
    ),
    server: fc.constantFrom('orders', 'billing', 'off'),
    region: fc.constantFrom('eu-west-1', 'us-east-1', 'cn-north-1', 'unknown'),
    encrypted: fc.boolean(),
    mfa: fc.boolean(),
    compliant: fc.boolean(),
    count: fc.constantFrom(0, 99, 100, 101, 499, 500, 501, 999, 1000, 1001),
    hour: fc.constantFrom(0, -2, 8, 24 * 4),
    tenure: fc.constantFrom(null, 3, 6, 12),
    parameters: fc.constantFrom({}, { data_region: 'us' }, { environment: 'production', q: 'x' }),
    tool: fc.constantFrom('run', 'list'),
    possible: fc.constantFrom(undefined, { analytics: 'low', mutation: 'medium' } as const, { query: 'high' } as const),
  })
  .map((r) =>
    makeRequest({
      facts: {
        ...{ now: NOW + r.hour * 3_600_000, source_region: r.region, encryption_enabled: r.encrypted },
        rate: { window_seconds: 60, count: r.count },
      },
      principal: makePrincipal(
        {
          ...{ id: 'x', roles: r.roles, tenure_months: r.tenure, device_compliant: r.compliant },
          auth: { mfa_verified: r.mfa },
        },
        'keys',
        'api-key',
      ),
      call: { action: r.action, server: r.server, tool: r.tool, parameters: r.parameters },
      classification: {
        ...{ tool_type: r.type, sensitivity_level: r.level },
        ...(r.possible === undefined ? {} : { possible: r.possible }),
      },
    }),
  );

describe('the policy engine', () => {
  test('decides by the bundle that ships with the gateway', async () => {
    const engine = await engineFor();
    expect(engine.status().last_error).toBeNull();
    expect(engine.revision).toMatch(/^sha256:[0-9a-f]{64}$/);
    expect(engine.decide(makeRequest())).toMatchObject({ allow: true, deny: [], failure: null, cached: false });
    const denied = engine.decide(makeRequest({ classification: { sensitivity_level: 'critical' } }));
    expect(denied).toMatchObject({ allow: false, failure: null });
    expect(denied.deny.length).toBeGreaterThan(0);
    expect(denied.decision_id).toMatch(/^dec_[0-9A-Z]{26}$/);
  });

  test.each([
    ['data.json', null],
    ['profiles/strict.json', STRICT],
  ])('gives the same answers with and without its cache, on %s', async (_, dataFile) => {
    verifies('SF-61', 'SF-62');
    const plain = await engineFor({ dataFile });
    const caching = await engineFor({ dataFile, cache: { entries: 500, base_ttl_ms: 60_000 } });
    fc.assert(
      fc.property(requests, (request) => {
        expect(outcome(caching.decide(request))).toEqual(outcome(plain.decide(request)));
        expect(outcome(caching.decide(request))).toEqual(outcome(plain.decide(request)));
      }),
      { numRuns: 5000 },
    );
    expect(caching.stats().hits).toBeGreaterThan(1000);
    expect(plain.stats().hits).toBe(0);
    expect(plain.stats().host?.failures).toEqual({});
  });

  test('never reuses a decision on a critical call', async () => {
    verifies('SF-62');
    const engine = await engineFor({ cache: { entries: 500, base_ttl_ms: 60_000 } });
    const critical = makeRequest({ classification: { sensitivity_level: 'critical' } });
    for (let i = 0; i < 3; i++) expect(engine.decide(critical).cached).toBe(false);
    expect([engine.decide(makeRequest()).cached, engine.decide(makeRequest()).cached]).toEqual([false, true]);
  });

  test('still enforces the rate limit when it remembers', async () => {
    verifies('SF-61');
    const engine = await engineFor({ cache: { entries: 500, base_ttl_ms: 60_000 } });
    const at = (count: number) => engine.decide(makeRequest({ facts: { rate: { window_seconds: 60, count } } }));
    expect(at(1)).toMatchObject({ allow: true });
    expect(at(2)).toMatchObject({ allow: true, cached: true });
    expect(at(1_000_000)).toMatchObject({ allow: false, deny: [{ code: 'RATE_LIMIT_EXCEEDED' }] });
  });

  test('decides lists in one evaluation as it decides their members', async () => {
    verifies('S-81');
    const engine = await engineFor({ dataFile: STRICT });
    const discover = fc.array(requests, { minLength: 2, maxLength: 40 }).map((all) => {
      const [first] = all;
      const same = { facts: first?.facts ?? all[0]?.facts, principal: first?.principal ?? all[0]?.principal };
      return all.map(({ call, entrypoint }) => ({
        ...{ entrypoint, ...same },
        call: { ...call, action: 'gateway:tool:discover', parameters: null },
      })) as DecisionRequest[];
    });
    fc.assert(
      fc.property(discover, (list) => {
        const many = engine.decideMany(list);
        expect(many.map((one) => [one.allow, one.failure])).toEqual(
          list.map((request) => engine.decide(request)).map((one) => [one.allow, one.failure]),
        );
      }),
      { numRuns: 200 },
    );
  });

  test('decides long lists in pieces and short ones alone', async () => {
    const engine = await engineFor();
    const request = makeRequest({ call: { action: 'gateway:tool:discover', parameters: null } });
    const list = Array.from({ length: 777 }, () => request);
    const decisions = engine.decideMany(list);
    expect(decisions).toHaveLength(777);
    expect(new Set(decisions.map((one) => one.decision_id)).size).toBe(777);
    expect(decisions.every((one) => one.allow)).toBe(true);
    expect(engine.decideMany([])).toEqual([]);
  });

  test('denies what it cannot put before the policy, and goes on', async () => {
    const engine = await engineFor();
    const bad = makeRequest({ call: { parameters: { data_region: '\ud800' } } });
    for (let i = 0; i < 1100; i++) {
      expect(engine.decide(bad)).toMatchObject({ allow: false, failure: 'bad_input' });
    }
    expect(engine.decide(makeRequest()).allow).toBe(true);
    const unknown = engine.decide(makeRequest({ entrypoint: 'no/such/rule' }));
    expect(unknown).toMatchObject({ allow: false, failure: 'undefined', deny: [{ code: 'POLICY_EVALUATION_ERROR' }] });
  });
});

describe('activation', () => {
  test('leaves everything denied where there is no policy, and says so once', async () => {
    const logger = new Log();
    const engine = await engineFor({ bundleDir: join(dir, 'nowhere'), logger });
    expect(engine.revision).toBeNull();
    expect(engine.status().last_error).toMatch(/does not exist/);
    for (let i = 0; i < 50; i++) {
      expect(engine.decide(makeRequest())).toMatchObject({
        ...{ allow: false, failure: 'no_bundle', deny: [{ code: 'POLICY_UNAVAILABLE' }] },
      });
    }
    expect(engine.decideMany([makeRequest(), makeRequest()]).map((one) => one.allow)).toEqual([false, false]);
    expect(logger.lines.filter((line) => line.includes('no decision'))).toHaveLength(1);
  });

  test('keeps the old policy when the new one is broken, and tells why', async () => {
    const bundleDir = await bundle();
    const engine = await engineFor({ bundleDir });
    const before = engine.revision;
    const wasm = await readFile(join(bundleDir, 'bundle', 'policy.wasm'));
    await writeFile(join(bundleDir, 'bundle', 'policy.wasm'), wasm.subarray(0, 5000));
    // Half of an update: the manifest still describes the other module.
    expect((await engine.reload()).last_error).toMatch(/not of one build/);
    const manifest = await readFile(join(bundleDir, 'bundle', 'manifest.json'));
    await rm(join(bundleDir, 'bundle', 'manifest.json'));
    expect((await engine.reload()).last_error).toMatch(/not a usable module/);
    await writeFile(join(bundleDir, 'bundle', 'manifest.json'), manifest);
    await writeFile(join(bundleDir, 'bundle', 'policy.wasm'), wasm);
    await writeFile(join(bundleDir, 'data.json'), '{"config":');
    expect((await engine.reload()).last_error).toMatch(/data\.json is no JSON/);
    expect(engine.revision).toBe(before);
    expect(engine.decide(makeRequest()).allow).toBe(true);
  });

  test('takes new data at once, forgets old decisions, and can go back', async () => {
    verifies('SF-61');
    const bundleDir = await bundle();
    const engine = await engineFor({ bundleDir, cache: { entries: 100, base_ttl_ms: 60_000 } });
    const before = engine.revision;
    engine.decide(makeRequest());
    expect(engine.decide(makeRequest())).toMatchObject({ allow: true, cached: true });
    const data = JSON.parse(await readFile(join(bundleDir, 'data.json'), 'utf8')) as {
      config: { tool_access: object };
    };
    data.config.tool_access = {};
    await writeFile(join(bundleDir, 'data.json'), JSON.stringify(data));
    expect((await engine.reload()).last_error).toBeNull();
    expect(engine.revision).not.toBe(before);
    expect(engine.decide(makeRequest())).toMatchObject({ allow: false, cached: false, revision: engine.revision });
    expect(engine.rollback()).toBe(true);
    expect(engine.decide(makeRequest())).toMatchObject({ allow: true, revision: before });
  });

  test('refuses a policy without the entrypoint that is asked for', async () => {
    const engine = await engineFor({ entrypoint: 'portcullis/main/verdict' });
    expect(engine.status().last_error).toMatch(/no entrypoint portcullis\/main\/verdict/);
  });

  test('refuses an entrypoint whose answer is no decision', async () => {
    const engine = await engineFor({ entrypoint: 'mcp/gateway/allow' });
    expect(engine.status().last_error).toMatch(/mcp\/gateway\/allow gives no decision/);
  });

  test('compiles sources that are newer than the bundle, and reports their faults by file and line', async () => {
    const bundleDir = await bundle();
    await writeFile(join(bundleDir, 'main.rego'), 'package portcullis.main\n');
    const problem = { file: 'main.rego', line: 7, column: 1, message: 'var x is unsafe' };
    const broken = await engineFor({ bundleDir, compile: async () => ({ problems: [problem] }) });
    expect(broken.status().last_error).toBe('main.rego:7:1: var x is unsafe');
    const compiled = await engineFor({
      bundleDir,
      compile: async (from, { out }) => {
        await cp(join(from, 'bundle'), out, { recursive: true });
        return {};
      },
    });
    expect(compiled.decide(makeRequest()).allow).toBe(true);
    const without = await engineFor({ bundleDir });
    expect(without.status().last_error).toMatch(/older than .*main\.rego/);
    const failing = await engineFor({ bundleDir, compile: () => Promise.reject(new Error('no compiler here')) });
    expect(failing.status().last_error).toMatch(/no compiler here/);
    const nowhere = await engineFor({ bundleDir: join(bundleDir, 'absent'), compile: async () => ({}) });
    expect(nowhere.status().last_error).toMatch(/the policy bundle .*absent does not exist/);
  });

  test('reloads one after the other when asked twice', async () => {
    const engine = await engineFor();
    const [a, b] = await Promise.all([engine.reload(), engine.reload()]);
    expect([a.last_error, b.last_error]).toEqual([null, null]);
  });
});

describe('the decision log', () => {
  test('writes one line per decision in OPA’s format, without secrets', async () => {
    verifies('SF-66');
    await mkdir(join(dir, 'log'), { recursive: true });
    const file = join(dir, 'log', 'decisions.jsonl');
    const servers = new Map([['orders', makeServer({ tools: { run: { sensitive_params: ['pin'] } } })]]);
    const engine = await engineFor({ decisionLog: { file }, servers });
    const parameters = { pin: '4711', password: 'hunter2', nested: { api_key: 'k-1' }, note: 'Bearer abc.def-ghi' };
    const decision = engine.decide(makeRequest({ call: { parameters } }));
    engine.decide(makeRequest({ entrypoint: 'no/such/rule' }));
    await engine.close();
    const text = await readFile(file, 'utf8');
    for (const secret of ['4711', 'hunter2', 'k-1', 'abc.def']) expect(text).not.toContain(secret);
    const [event, failed] = text
      .trimEnd()
      .split('\n')
      .map((line) => JSON.parse(line) as Record<string, unknown>);
    expect(event).toMatchObject({
      ...{ decision_id: decision.decision_id, path: 'portcullis/main/decision', requested_by: '203.0.113.7' },
      ...{ bundles: { portcullis: { revision: engine.revision } }, timestamp: '2025-01-15T10:30:00.123Z' },
      result: { allow: true },
      input: { tool_name: 'run', user: { id: 'alice' } },
      masked: expect.arrayContaining(['/input/parameters/pin', '/input/parameters/nested/api_key']),
    });
    expect(failed).toMatchObject({ error: { code: 'undefined' }, result: { allow: false } });
  });

  test('loses events rather than requests when it cannot be written', async () => {
    const logger = new Log();
    const engine = await engineFor({ decisionLog: { file: join(dir, 'no', 'such', 'dir', 'log') }, logger });
    expect(engine.decide(makeRequest()).allow).toBe(true);
    await engine.close();
    expect(engine.stats().logDropped).toBe(1);
    expect(logger.lines.some((line) => line.includes('cannot be written'))).toBe(true);
  });
});

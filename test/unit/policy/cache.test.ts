import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import type { Sensitivity } from '../../../src/core/call.ts';
import type { DecisionRequest } from '../../../src/core/decision.ts';
import type { JsonObject } from '../../../src/core/json.ts';
import { makePrincipal } from '../../../src/core/principal.ts';
import { DecisionCache } from '../../../src/policy/cache.ts';
import { KeyMaker, rateThresholds } from '../../../src/policy/decision-key.ts';
import { buildInput } from '../../../src/policy/input.ts';
import { parseReadSet, type ReadSet } from '../../../src/policy/input-shape.ts';
import { failedVerdict, type Verdict } from '../../../src/policy/result.ts';
import { verifies } from '../../helpers/verifies.ts';
import { makeRequest, makeServer, NOW, type RequestParts } from './requests.ts';

const ALLOW: Verdict = {
  ...{ allow: true, deny: [], obligations: [], failure: null, validUntil: null, volatile: false, detail: null },
};
const DENY: Verdict = { ...ALLOW, allow: false };
const make = (entries = 100) => new DecisionCache({ entries, base_ttl_ms: 60_000 });

/** How long a verdict is remembered, in milliseconds. */
function life(verdict: Verdict, parts: RequestParts = {}): number {
  const cache = make();
  cache.set('k', verdict, makeRequest(parts));
  const kept = (ms: number) => cache.get('k', NOW + ms) !== null;
  let [low, high] = [-1, 200_000];
  if (!kept(0)) return 0;
  while (high - low > 1) {
    const middle = (low + high) >> 1;
    cache.set('k', verdict, makeRequest(parts));
    if (kept(middle)) low = middle;
    else high = middle;
  }
  return high;
}

describe('the decision cache', () => {
  test.each([
    ['low', 120_000],
    ['medium', 60_000],
    ['high', 30_000],
    ['critical', 0],
  ] as const)('keeps an allow of a %s call for %i ms', (sensitivity_level, ms) => {
    verifies('S-83', 'SF-62');
    expect(life(ALLOW, { classification: { sensitivity_level } })).toBe(ms);
  });

  test.each([
    ['low', 100, 180_000],
    ['medium', 100, 90_000],
    ['medium', 15, 72_000],
    ['medium', 8, 60_000],
    ['high', 100, 30_000],
    ['critical', 100, 0],
  ] as const)('keeps an allow of a %s call, asked for %i times in a row, for %i ms', (sensitivity_level, hits, ms) => {
    verifies('S-84', 'S-83', 'SF-62');
    const cache = make();
    for (let i = 0; i < hits; i++) cache.note(sensitivity_level, true);
    const request = makeRequest({ classification: { sensitivity_level } });
    cache.set('k', ALLOW, request);
    expect(cache.get('k', NOW + ms - 1) !== null).toBe(ms > 0);
    cache.set('k', ALLOW, request);
    expect(cache.get('k', NOW + ms)).toBeNull();
    for (let i = 0; i < 20; i++) cache.note(sensitivity_level, false);
    cache.set('k', ALLOW, request);
    expect(cache.get('k', NOW + 60_000 * { low: 2, medium: 1, high: 0.5, critical: 0 }[sensitivity_level])).toBeNull();
  });

  test('keeps a deny no longer for being asked for often', () => {
    verifies('S-84');
    const cache = make();
    for (let i = 0; i < 100; i++) cache.note('low', true);
    cache.set('k', DENY, makeRequest());
    expect(cache.get('k', NOW + 4999)).not.toBeNull();
    expect(cache.get('k', NOW + 5000)).toBeNull();
  });

  test('keeps denies for five seconds at most', () => {
    verifies('SF-62');
    const levels: Sensitivity[] = ['low', 'medium', 'high', 'critical'];
    const lives = levels.map((sensitivity_level) => life(DENY, { classification: { sensitivity_level } }));
    expect(lives).toEqual([5000, 5000, 5000, 0]);
  });

  test('keeps what depends on the time only as long as the policy says', () => {
    verifies('SF-61');
    expect(life({ ...ALLOW, volatile: true })).toBe(0);
    expect(life({ ...ALLOW, volatile: true, validUntil: NOW + 1500 })).toBe(1500);
    expect(life({ ...ALLOW, validUntil: NOW - 1 })).toBe(0);
    expect(life({ ...ALLOW, validUntil: NOW + 10_000_000 })).toBe(120_000);
  });

  test('keeps no failure and nothing an approval was used for', () => {
    verifies('SF-62');
    const approval = { present: true, verified: true, id: 'a', approver_id: 'b', expires_at: null, reason: null };
    expect(life(failedVerdict('abort', null))).toBe(0);
    expect(life(ALLOW, { facts: { approval } })).toBe(0);
    expect(make().accepts(makeRequest({ facts: { approval } }))).toBe(false);
  });

  test('does not trust a clock that was set back', () => {
    const cache = make();
    cache.set('k', ALLOW, makeRequest());
    expect(cache.get('k', NOW - 1)).toBeNull();
  });

  test('never holds more than it may, and what is asked for stays', () => {
    verifies('SF-62');
    const cache = make(10);
    cache.set('hot', ALLOW, makeRequest());
    for (let i = 0; i < 1000; i++) {
      cache.set(`k${i}`, ALLOW, makeRequest());
      expect(cache.get('hot', NOW)).not.toBeNull();
      expect(cache.size).toBeLessThanOrEqual(10);
    }
    expect(cache.get('k0', NOW)).toBeNull();
  });

  test('holds nothing when it is turned off', () => {
    expect(make(0).accepts(makeRequest())).toBe(false);
  });

  test('forgets by user, by tool or all', () => {
    verifies('SF-62');
    const cache = make();
    const bob = makePrincipal({ id: 'bob' }, 'keys', 'api-key');
    cache.set('1', ALLOW, makeRequest());
    cache.set('2', ALLOW, makeRequest({ principal: bob }));
    cache.set('3', ALLOW, makeRequest({ principal: bob, call: { tool: 'other' } }));
    expect(cache.invalidate({ user: 'bob', tool: 'other' })).toBe(1);
    expect(cache.invalidate({ user: 'bob' })).toBe(1);
    expect(cache.get('1', NOW)).not.toBeNull();
    expect(cache.invalidate({})).toBe(1);
    expect(cache.size).toBe(0);
  });
});

/** Requests from few values, so that pairs often differ in one thing alone. */
const text = fc.constantFrom('a', 'b', 'a:b', '1:a', ',', '-', '');
const maybe = fc.option(text, { nil: null });
const requests = fc
  .record({
    id: text,
    tenant: fc.constantFrom('default', 't2'),
    roles: fc.constantFrom<readonly string[]>([], ['a'], ['a', 'b'], ['a,b']),
    tool: maybe,
    server: fc.constantFrom<string | null>('orders', 'billing', null),
    level: fc.constantFrom<Sensitivity>('low', 'medium', 'high'),
    type: fc.constantFrom('query', 'mutation'),
    reasons: fc.constantFrom<readonly string[]>([], ['a'], ['a', 'b'], ['ab']),
    resources: fc.constantFrom<readonly string[]>([], ['x'], ['x', 'y'], ['x1:y']),
    parameters: fc.constantFrom<JsonObject | null>(
      null,
      {},
      { environment: 'production' },
      { data_region: 'eu' },
      { q: 1 },
    ),
    ip: fc.constantFrom('10.0.0.1', '10.0.0.2'),
    region: text,
    agent: maybe,
    encrypted: fc.boolean(),
    compliant: fc.boolean(),
    count: fc.integer({ min: 0, max: 12 }),
    resourceId: text,
    owner: maybe,
    mfa: fc.constantFrom<number | null>(null, 1_736_936_990),
    now: fc.constantFrom(NOW, NOW + 5000),
  })
  .map((r) =>
    makeRequest({
      facts: {
        ...{ request_id: `${Math.random()}`, now: r.now, source_ip: r.ip, source_region: r.region },
        ...{ user_agent: r.agent, encryption_enabled: r.encrypted, rate: { window_seconds: 60, count: r.count } },
      },
      principal: makePrincipal(
        {
          ...{ id: r.id, tenant_id: r.tenant, roles: r.roles, device_compliant: r.compliant },
          auth: { mfa_verified: r.mfa !== null, mfa_at: r.mfa },
        },
        'keys',
        'api-key',
      ),
      call: {
        ...{ tool: r.tool, server: r.server, parameters: r.parameters },
        resource: { type: 'tool', id: r.resourceId, tenant_id: null, owner_id: r.owner, permissions: null },
      },
      classification: {
        ...{ tool_type: r.type, sensitivity_level: r.level, reasons: r.reasons, resources: r.resources },
      },
    }),
  );

const servers = { orders: makeServer(), billing: makeServer({ name: 'billing', environment: null, tags: ['pii'] }) };
const serverOf = ({ call }: DecisionRequest) => (call.server === null ? null : servers[call.server as 'orders']);

/** The part of the document that a policy with this read set can see. */
function visible(request: DecisionRequest, set: ReadSet): string {
  const { request_id, timestamp, ...input } = buildInput(request, serverOf(request));
  const { request_id: _, timestamp: __, ...metadata } = input.gateway_metadata;
  const document = { ...input, gateway_metadata: metadata } as unknown as JsonObject;
  if (set === null) return JSON.stringify(document);
  return JSON.stringify(
    set.map((path) => path.reduce<unknown>((at, key) => (at as JsonObject | null)?.[key], document) ?? null),
  );
}

const SETS: readonly (readonly [string, ReadSet])[] = [
  ['all', null],
  [
    'the default policy’s kind of things',
    parseReadSet(
      Object.values({
        a: ['action'],
        b: ['user', 'roles'],
        c: ['user', 'tenant_id'],
        d: ['gateway_metadata', 'environment'],
        e: ['gateway_metadata', 'sensitivity_level'],
        f: ['gateway_metadata', 'tool_type'],
        g: ['server', 'tags'],
        h: ['parameters', 'data_region'],
        i: ['resource', 'id'],
        j: ['data_region'],
        k: ['tool', 'requires_hitl'],
      }),
    ),
  ],
  [
    'ages, addresses and counts',
    parseReadSet([
      ['user', 'mfa_age_seconds'],
      ['gateway_metadata', 'source_ip'],
      ['rate_limit', 'count'],
      ['parameters'],
      ['gateway_metadata', 'classification_reasons'],
      ['gateway_metadata', 'classification_resources'],
      ['tool_name'],
    ]),
  ],
];

describe('the key of a decision', () => {
  test.each(SETS)('is never the same for two requests that a policy reading %s can tell apart', (_, set) => {
    verifies('S-82', 'SF-61');
    const keys = new KeyMaker(set, {});
    const seen = new Map<string, string>();
    let hits = 0;
    fc.assert(
      fc.property(requests, (request) => {
        const key = keys.key('p/decision', request, serverOf(request)) ?? '';
        const document = `${request.principal.tenant_id}|${visible(request, set)}`;
        const before = seen.get(key);
        if (before !== undefined) hits++;
        if (before !== undefined) expect(document).toBe(before);
        seen.set(key, document);
      }),
      { numRuns: 20_000 },
    );
    if (set !== null) expect(hits).toBeGreaterThan(0);
  });

  test('is the same for equal callers who are different objects', () => {
    const keys = new KeyMaker(null, {});
    const one = (request_id: string) =>
      makeRequest({ facts: { request_id }, principal: makePrincipal({ id: 'x', roles: ['a'] }, 'k', 'api-key') });
    expect(keys.key('e', one('1'), null)).toBe(keys.key('e', one('2'), null));
  });

  test('does not exist for a policy that reads the id or time of the request', () => {
    for (const path of [['request_id'], ['timestamp'], ['gateway_metadata', 'timestamp']]) {
      expect(new KeyMaker(parseReadSet([path]), {}).key('e', makeRequest(), null)).toBeNull();
    }
  });

  test('tells counts apart at the limits of the data and nowhere else', () => {
    const data = { config: { rate_limits: { default: 10, roles: { admin: 100 } } } };
    expect(rateThresholds(data)).toEqual([9, 10, 11, 99, 100, 101]);
    const keys = new KeyMaker(parseReadSet([['rate_limit', 'count']]), data);
    const key = (count: number) => keys.key('e', makeRequest({ facts: { rate: { window_seconds: 60, count } } }), null);
    expect(key(0)).toBe(key(8));
    expect(key(9)).not.toBe(key(10));
    expect(key(10)).not.toBe(key(11));
    expect(key(12)).toBe(key(98));
    expect(key(98)).not.toBe(key(100));
  });

  test.each([
    [
      'a package of the operator reads it',
      [
        ['rate_limit', 'count'],
        ['rate_limit', 'exact_count'],
      ],
    ],
    ['all of the rate limit is read', [['rate_limit']]],
    ['all of the document is read', null],
  ])('holds the count itself when %s', (_, paths) => {
    const keys = new KeyMaker(parseReadSet(paths), { config: { rate_limits: { default: 100 } } });
    const key = (count: number) => keys.key('e', makeRequest({ facts: { rate: { window_seconds: 60, count } } }), null);
    expect(key(3)).not.toBe(key(4));
  });

  test('holds the count itself when the data names no limits', () => {
    const keys = new KeyMaker(parseReadSet([['rate_limit', 'count']]), {});
    const key = (count: number) => keys.key('e', makeRequest({ facts: { rate: { window_seconds: 60, count } } }), null);
    expect(key(1)).not.toBe(key(2));
  });

  test('stays short for long parameters', () => {
    const parameters = { q: 'x'.repeat(100_000) };
    const key = new KeyMaker(null, {}).key('e', makeRequest({ call: { parameters } }), null) ?? '';
    expect(key.length).toBeLessThan(100);
  });
});

import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import type { GatewayError } from '../../../src/core/errors.ts';
import type { Authenticated } from '../../../src/core/exchange.ts';
import { makePrincipal, type PrincipalFacts } from '../../../src/core/principal.ts';
import { createFailureGuard } from '../../../src/pipeline/failure-guard.ts';
import { createLimits, type LimitRule } from '../../../src/pipeline/limits.ts';
import { createMemoryShared } from '../../../src/stores/memory-shared.ts';
import { insuredCounters } from '../../../src/stores/open-shared.ts';
import { verifies } from '../../helpers/verifies.ts';

const NOW = 1_900_000_000_000;

function rule(changes: Partial<LimitRule> = {}): LimitRule {
  const bucket = { limit: 2, windowMs: 60_000 };
  return { name: 'minute', bucket, per: 'principal', routes: [], roles: [], types: [], methods: [], ...changes };
}

interface Asked {
  readonly principal?: Partial<PrincipalFacts>;
  readonly key?: string;
  readonly address?: string;
  readonly route?: string;
}

/** A request as far as admission sees it, with the headers that were set. */
function request({ principal = {}, key, address = '192.0.2.1', route = '/mcp' }: Asked = {}) {
  const headers: Record<string, string> = {};
  const facts: PrincipalFacts = { id: 'alice', tenant_id: 'acme', ...principal };
  const made = makePrincipal(
    key === undefined ? facts : { ...facts, auth: { ...facts.auth, key_id: key } },
    'keys',
    key === undefined ? 'bearer' : 'api-key',
  );
  const received = {
    receivedAt: NOW,
    peer: { address },
    outgoing: { setHeader: (name: string, value: string) => Object.assign(headers, { [name]: value }) },
  };
  return { exchange: { received, route: { match: route }, principal: made } as unknown as Authenticated, headers };
}

function limits(...rules: LimitRule[]) {
  let time = NOW;
  const shared = createMemoryShared({ clock: { now: () => time } });
  const made = createLimits(rules, shared);
  return {
    pass: (ms: number) => {
      time += ms;
    },
    ask(asked: Asked = {}): { refused: GatewayError | null; headers: Record<string, string> } {
      const { exchange, headers } = request(asked);
      try {
        void made.take(exchange);
        return { refused: null, headers };
      } catch (error) {
        return { refused: error as GatewayError, headers };
      }
    },
  };
}

describe('limits of requests', () => {
  test('let in as many as the bucket holds, tell what is left, and say when to come back', () => {
    verifies('HW-11');
    const { ask, pass } = limits(rule());
    expect(ask().headers).toEqual({
      'ratelimit-policy': '"minute";q=2;w=60',
      ratelimit: '"minute";r=1;t=30',
      'x-ratelimit-limit': '2',
      'x-ratelimit-remaining': '1',
      'x-ratelimit-reset': String(NOW / 1000 + 30),
    });
    expect(ask().refused).toBeNull();
    const third = ask();
    expect(third.refused).toMatchObject({ code: 'RATE_LIMIT_EXCEEDED', extras: { retryAfter: 30 } });
    expect(third.headers).toMatchObject({ ratelimit: '"minute";r=0;t=30', 'x-ratelimit-remaining': '0' });
    pass(30_000);
    expect(ask().refused).toBeNull();
    expect(ask().refused).not.toBeNull();
  });

  test('nothing configured sets no header', () => {
    expect(limits().ask()).toEqual({ refused: null, headers: {} });
  });

  test('a key’s own hourly limit holds for that key alone, whatever else applies', () => {
    verifies('H-09');
    const { ask } = limits(rule({ bucket: { limit: 1000, windowMs: 60_000 } }));
    const limited = { key: 'k1', principal: { metadata: { rate_limit_per_hour: '3' } } };
    for (let i = 0; i < 3; i++) expect(ask(limited).refused).toBeNull();
    expect(ask(limited).refused?.extras.details).toMatchObject({ rule: 'key', limit: 3 });
    expect(ask({ ...limited, key: 'k2' }).refused).toBeNull();
  });

  test('a limit that cannot be read is not unlimited', () => {
    const { ask } = limits();
    const odd = { key: 'k1', principal: { metadata: { rate_limit_per_hour: 'many' } } };
    expect(ask(odd).refused).toBeNull();
    expect(ask(odd).refused).not.toBeNull();
  });

  test('the strictest wins, and is the one that is told', () => {
    const { ask } = limits(
      rule({ name: 'wide', bucket: { limit: 10, windowMs: 60_000 } }),
      rule({ name: 'narrow', bucket: { limit: 1, windowMs: 60_000 }, per: 'tenant' }),
    );
    expect(ask().headers.ratelimit).toBe('"narrow";r=0;t=60');
    expect(ask({ principal: { id: 'bob' } }).refused?.extras.details).toMatchObject({ rule: 'narrow' });
  });

  test.each<[string, Partial<LimitRule>, Asked, Asked]>([
    ['roles', { roles: ['viewer'] }, { principal: { roles: ['viewer'] } }, { principal: { roles: ['admin'] } }],
    ['types', { types: ['agent'] }, { principal: { type: 'agent' } }, { principal: { type: 'user' } }],
    ['methods', { methods: ['api-key'] }, { key: 'k1' }, {}],
    ['routes', { routes: ['/mcp'] }, { route: '/mcp' }, { route: '/v1' }],
    ['keys', { per: 'key' }, { key: 'k1' }, {}],
  ])('%s choose whom a rule is for', (_, changes, meant, other) => {
    const { ask } = limits(rule({ ...changes, bucket: { limit: 1, windowMs: 60_000 } }));
    expect(ask(meant).refused).toBeNull();
    expect(ask(meant).refused).not.toBeNull();
    for (let i = 0; i < 3; i++) expect(ask(other).refused).toBeNull();
  });

  test.each<[string, Partial<LimitRule>, Asked, Asked]>([
    ['principals', {}, {}, { principal: { id: 'bob' } }],
    ['principals of one name in two tenants', {}, {}, { principal: { tenant_id: 'other' } }],
    ['addresses', { per: 'address' }, {}, { address: '192.0.2.2' }],
    ['tenants', { per: 'tenant' }, {}, { principal: { tenant_id: 'other' } }],
    [
      'anonymous callers',
      {},
      { principal: { type: 'anonymous' } },
      { principal: { type: 'anonymous' }, address: '::1' },
    ],
    ['routes', { routes: ['/a', '/b'] }, { route: '/a' }, { route: '/b' }],
  ])('%s are counted apart', (_, changes, one, other) => {
    const { ask } = limits(rule({ ...changes, bucket: { limit: 1, windowMs: 60_000 } }));
    expect(ask(one).refused).toBeNull();
    expect(ask(one).refused).not.toBeNull();
    expect(ask(other).refused).toBeNull();
  });

  test('addresses of one IPv6 network are one', () => {
    const { ask } = limits(rule({ per: 'address', bucket: { limit: 1, windowMs: 60_000 } }));
    expect(ask({ address: '2001:db8::1' }).refused).toBeNull();
    expect(ask({ address: '2001:db8::ffff:1' }).refused).not.toBeNull();
  });

  test('never more than the bucket holds plus what flowed in, at any pace', () => {
    fc.assert(
      fc.property(
        fc.integer({ min: 1, max: 20 }),
        fc.array(fc.integer({ min: 0, max: 5000 }), { minLength: 1, maxLength: 120 }),
        (limit, pauses) => {
          const { ask, pass } = limits(rule({ bucket: { limit, windowMs: 10_000 } }));
          let [let_in, elapsed] = [0, 0];
          for (const pause of pauses) {
            pass(pause);
            elapsed += pause;
            if (ask().refused === null) let_in++;
            expect(let_in).toBeLessThanOrEqual(limit + Math.floor((elapsed / 10_000) * limit + 1e-6));
          }
        },
      ),
    );
  });

  test('while the shared counters are away each process counts for itself', async () => {
    const outages: unknown[] = [];
    const broken = {
      ...createMemoryShared(),
      hit: () => Promise.reject(new Error('away')),
      take: () => Promise.reject(new Error('away')),
    };
    const counters = insuredCounters(broken as never, { now: () => NOW }, (error) => outages.push(error));
    const made = createLimits([rule({ bucket: { limit: 1, windowMs: 60_000 } })], counters);
    await made.take(request().exchange);
    await expect(made.take(request().exchange)).rejects.toMatchObject({ code: 'RATE_LIMIT_EXCEEDED' });
    expect(outages).toHaveLength(2);
  });
});

describe('the guard against guessing', () => {
  test('stops listening to a network after too many refusals, and listens again in time', () => {
    verifies('HF-04');
    let time = NOW;
    const shared = createMemoryShared({ clock: { now: () => time } });
    const guard = createFailureGuard({ limit: 3, windowMs: 60_000 }, shared);
    for (let i = 0; i < 4; i++) {
      expect(guard.check('192.0.2.1', time)).toBeNull();
      guard.failed('192.0.2.1', time);
    }
    expect(guard.check('192.0.2.1', time)).toMatchObject({ code: 'RATE_LIMIT_EXCEEDED', extras: { retryAfter: 20 } });
    expect(guard.check('192.0.2.2', time)).toBeNull();
    time += 20_000;
    expect(guard.check('192.0.2.1', time)).toBeNull();
  });
});

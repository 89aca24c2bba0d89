/** What a delegated call uses up, and what ends it while it runs. */
import { describe, expect, test } from 'vitest';
import type { Authenticated, Received } from '../../../src/core/exchange.ts';
import { holderId, makePrincipal, type Principal } from '../../../src/core/principal.ts';
import { joinParties } from '../../../src/identity/delegation-rights.ts';
import { createLimits, type LimitRule } from '../../../src/pipeline/limits.ts';
import { type KeyState, RunningExchanges } from '../../../src/pipeline/running.ts';
import { type Admission, admit } from '../../../src/pipeline/stages/admit.ts';
import { Switchboard } from '../../../src/pipeline/switchboard.ts';
import { OwnerTable } from '../../../src/protocols/mcp/owners.ts';
import type { Counters } from '../../../src/stores/open-shared.ts';
import { switchId } from '../../../src/stores/switches.ts';

const person = (id: string, key_id: string | null = `key-${id}`, expires_at: number | null = null): Principal =>
  makePrincipal({ id, tenant_id: 'acme', type: 'service', auth: { key_id, expires_at } }, 'keys', 'api-key');

const END = 2_000_000_000;
const lent = joinParties([person('boss'), person('middle'), person('bot')], {
  token_id: 'dlg_1',
  expires_at: END,
  actor: { id: 'bot', type: 'service', actor: { id: 'middle', type: 'service', actor: null } },
});

describe('a delegated call', () => {
  test('counts for everyone in the chain and is limited by the one with the most calls', async () => {
    const counts = new Map<string, number>([['rate:4:acme:middle', 41]]);
    const shared = {
      hit(key: string) {
        const count = (counts.get(key) ?? 0) + 1;
        counts.set(key, count);
        return { count, resetAt: 60_000 };
      },
    };
    const limits = { take: () => undefined };
    const admission = { shared, windowMs: 60_000, switches: new Switchboard(), limits } as unknown as Admission;
    const { rate } = await admit(admission, { principal: lent } as unknown as Authenticated);
    expect(rate).toEqual({ window_seconds: 60, count: 41 });
    expect(Object.fromEntries(counts)).toEqual({
      ...{ 'rate:4:acme:boss': 1, 'rate:4:acme:middle': 42, 'rate:4:acme:bot': 1 },
    });
  });

  test('takes from a limit by credential of everyone, whatever each of them has shown', () => {
    const taken: string[] = [];
    const counters = {
      take(key: string) {
        taken.push(key);
        return { isAllowed: true, remaining: 1, fullInMs: 1, retryInMs: 0 };
      },
    };
    const rule = { name: 'c', bucket: { limit: 5, windowMs: 1000 }, per: 'credential', roles: [], routes: [] } as const;
    const limits = createLimits([{ ...rule, types: [], methods: [] }], counters as unknown as Counters);
    const received = { receivedAt: 0, peer: { address: '192.0.2.1' }, outgoing: { setHeader: () => undefined } };
    const take = (principal: Principal) => {
      taken.length = 0;
      void limits.take({ received, route: { match: '/' }, principal } as unknown as Authenticated);
      return [...taken];
    };
    expect(take(person('boss'))).toEqual(['c::keys:key-boss']);
    expect(take(person('boss', null))).toEqual(['c::["acme","boss"]']);
    expect(take(lent)).toEqual(['bot', 'boss', 'middle'].map((who) => `c::keys:key-${who}`));
    // Where one has shown no key, the names of all pay besides the keys of the others.
    const actor = { id: 'bot', type: 'service', actor: null } as const;
    const mixed = joinParties([person('boss'), person('bot', null)], { token_id: 'd', expires_at: END, actor });
    expect(take(mixed)).toEqual(['c::keys:key-boss', 'c::["acme","boss"]', 'c::["acme","bot"]']);
  });

  test('takes from the limits of every role and type that takes part', () => {
    const taken: string[] = [];
    const counters = {
      take(key: string) {
        taken.push(key);
        return { isAllowed: true, remaining: 1, fullInMs: 1, retryInMs: 0 };
      },
    };
    const rule = { bucket: { limit: 5, windowMs: 1000 }, per: 'tenant', routes: [], types: [], methods: [] } as const;
    const rules = ['analyst', 'admin', 'viewer'].map((role) => ({ ...rule, name: role, roles: [role] }));
    const [boss, bot] = [
      { ...person('boss'), roles: ['admin'] },
      { ...person('bot'), roles: ['analyst'] },
    ];
    const both = joinParties([boss, bot], {
      token_id: 'd',
      expires_at: END,
      actor: { id: 'bot', type: 'service', actor: null },
    });
    const received = { peer: { address: '192.0.2.1' }, outgoing: { setHeader: () => {} }, receivedAt: 0 };
    const authenticated = { received, route: { match: '/r' }, principal: both } as unknown as Authenticated;
    void createLimits(rules, counters as unknown as Counters).take(authenticated);
    expect(taken).toEqual(['analyst::acme', 'admin::acme']);
  });

  describe('shakes no configured limit off', () => {
    const ACTOR = { id: 'bot', type: 'service', actor: null } as const;
    const facts = { token_id: 'd', expires_at: END, actor: ACTOR };
    const keyless = makePrincipal({ id: 'bot', tenant_id: 'acme', type: 'agent' }, 'staff', 'bearer');
    const minute = {
      ...{ name: 'minute', bucket: { limit: 5, windowMs: 1000 }, routes: [], types: [], methods: [], roles: [] },
    };

    function takenBy(principal: Principal, rules: readonly LimitRule[]): Record<string, number> {
      const taken: Record<string, number> = {};
      const counters = {
        take(key: string, { limit }: { limit: number }) {
          taken[key] = limit;
          return { isAllowed: true, remaining: 1, fullInMs: 1, retryInMs: 0 };
        },
      };
      const received = { peer: { address: '192.0.2.1' }, outgoing: { setHeader: () => {} }, receivedAt: 0 };
      const authenticated = { received, route: { match: '/r' }, principal } as unknown as Authenticated;
      void createLimits(rules, counters as unknown as Counters).take(authenticated);
      return taken;
    }

    test('a key’s own, through an actor without a key, and each that has one', () => {
      const metered = (id: string, hourly: string): Principal => {
        return { ...person(id), metadata: { rate_limit_per_hour: hourly } };
      };
      expect(takenBy(joinParties([metered('boss', '3'), keyless], facts), [])).toEqual({ 'key:keys:key-boss': 3 });
      expect(takenBy(joinParties([metered('boss', '3'), metered('bot', '9')], facts), [])).toEqual({
        ...{ 'key:keys:key-boss': 3, 'key:keys:key-bot': 9 },
      });
      expect(takenBy(metered('boss', '3'), [])).toEqual({ 'key:keys:key-boss': 3 });
    });

    test('one per principal: the same buckets as when each calls alone', () => {
      const rules = [{ ...minute, per: 'principal' as const }];
      const alone = { ...takenBy(person('boss'), rules), ...takenBy(person('bot'), rules) };
      expect(Object.keys(alone)).toHaveLength(2);
      expect(takenBy(joinParties([person('boss'), person('bot')], facts), rules)).toEqual(alone);
    });

    test('one per key: of everyone who has one', () => {
      const rules = [{ ...minute, per: 'key' as const }];
      const of = (principal: Principal) => Object.keys(takenBy(principal, rules)).sort();
      expect(of(joinParties([person('boss'), keyless], facts))).toEqual(of(person('boss')));
      expect(of(joinParties([person('boss'), person('bot')], facts))).toEqual([
        ...of(person('boss')),
        ...of(person('bot')),
      ]);
    });
  });

  test.each(['key-boss', 'key-middle', 'key-bot'])('is refused when %s is switched off', (name) => {
    const board = new Switchboard();
    const record = { kind: 'key', name, within: '' } as const;
    board.replace([
      ...[
        { ...record, id: switchId(record), reason: '', is_public: false, created_at: 0, created_by: '', until: null },
      ],
    ]);
    expect(board.refusalOf(lent)?.code).toBe('SWITCHED_OFF');
    expect(board.refusalOf(person('other'))).toBeNull();
  });

  test('ends, while it runs, with the key of anybody in the chain, and never later than the delegation', () => {
    const cut: string[] = [];
    const running = new RunningExchanges({
      graceMs: () => 0,
      onCut: ({ code }) => cut.push(code),
      onTunnelCut: () => {},
    });
    const received = { cancel: { aborted: false }, abort: () => {} } as unknown as Received;
    const entry = running.enter(received, lent, 'r');
    expect([...running.keyIds()].sort()).toEqual(['key-boss', 'key-bot', 'key-middle']);
    const good: KeyState = { expires_at: null, revoked_at: null };
    const asked = new Set(running.keyIds());
    const standing = new Map<string, KeyState>([...asked].map((id) => [id, good]));
    expect(running.applyKeys(asked, standing)).toBe(0);
    expect(entry.expiresAt).toBe(END * 1000 + 999);
    expect(running.applyKeys(asked, new Map([...standing, ['key-boss', { ...good, revoked_at: 1 }]]))).toBe(1);
    expect(cut).toEqual(['TOKEN_REVOKED']);
  });

  test('holds sessions of its own, and creates what belongs to the delegator', () => {
    const owners = new OwnerTable();
    expect(holderId(person('boss'))).toBe('boss');
    expect(owners.bind('orders', 's1', person('boss'))).toBe(true);
    expect(owners.bind('orders', 's1', lent)).toBe(false);
    expect(owners.bind('orders', 's2', lent)).toBe(true);
    expect(owners.owner('orders', 's2')?.id).toBe('boss');
    expect(owners.bind('orders', 's2', person('bot'))).toBe(false);
  });
});

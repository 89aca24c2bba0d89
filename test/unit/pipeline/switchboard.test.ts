import { describe, expect, test } from 'vitest';
import type { Call } from '../../../src/core/call.ts';
import type { Decision } from '../../../src/core/decision.ts';
import { GatewayError } from '../../../src/core/errors.ts';
import type { Message, Received } from '../../../src/core/exchange.ts';
import { makePrincipal } from '../../../src/core/principal.ts';
import type { TunnelCut } from '../../../src/pipeline/running.ts';
import { RunningExchanges } from '../../../src/pipeline/running.ts';
import { Switchboard } from '../../../src/pipeline/switchboard.ts';
import type { SwitchedOff, SwitchTarget } from '../../../src/stores/switches.ts';
import { switchId } from '../../../src/stores/switches.ts';

const off = (kind: SwitchTarget['kind'], name: string, within = '', more: Partial<SwitchedOff> = {}): SwitchedOff => ({
  kind,
  name,
  within,
  id: switchId({ kind, name, within }),
  reason: 'why',
  is_public: false,
  created_at: 0,
  created_by: 'test',
  until: null,
  ...more,
});

function board(...records: SwitchedOff[]): Switchboard {
  const made = new Switchboard();
  made.replace(records);
  return made;
}

const who = (id: string, tenant_id = 'acme', key_id: string | null = null) =>
  makePrincipal({ id, tenant_id, auth: { key_id } }, 'keys', 'api-key');
const call = (server: string | null, tool: string | null) => ({ server, tool }) as Call;
const message = (calls: readonly Call[], upstream: string | null = null, mode: Message['mode'] = 'all') =>
  ({ calls, mode, plan: upstream === null ? { kind: 'local' } : { kind: 'upstream', upstream } }) as unknown as Message;

describe('what is switched off', () => {
  test('is nothing at first', () => {
    const empty = board();
    expect(empty.isEmpty).toBe(true);
    expect(empty.refusalOf(who('alice'))).toBeNull();
    expect(empty.refusalOfMessage(message([call('orders', 'x')], 'orders'))).toBeNull();
  });

  test('is a principal in its tenant only, exactly as written', () => {
    const one = board(off('principal', 'alice', 'acme'));
    expect(one.refusalOf(who('alice'))?.code).toBe('SWITCHED_OFF');
    expect(one.refusalOf(who('alice', 'zenith'))).toBeNull();
    for (const id of ['Alice', 'alice ', 'alic', 'alice\u0000']) expect(one.refusalOf(who(id))).toBeNull();
  });

  test('is a principal as an actor for somebody, however deep', () => {
    const inner = { id: 'agent-2', type: 'agent', actor: null } as const;
    const outer = { id: 'agent-1', type: 'agent', actor: inner } as const;
    const carol = makePrincipal({ id: 'carol', tenant_id: 'acme', actor: outer }, 'jwt', 'bearer');
    for (const id of ['agent-1', 'agent-2', 'carol']) {
      expect(board(off('principal', id, 'acme')).refusalOf(carol)?.code).toBe('SWITCHED_OFF');
    }
    expect(board(off('principal', 'agent-3', 'acme')).refusalOf(carol)).toBeNull();
  });

  test('is a key, a tenant, a server, a tool or where a message would go', () => {
    expect(board(off('key', 'k1')).refusalOf(who('alice', 'acme', 'k1'))?.status).toBe(403);
    expect(board(off('key', 'k1')).refusalOf(who('alice', 'acme', 'k2'))).toBeNull();
    expect(board(off('tenant', 'acme')).refusalOf(who('bob'))?.status).toBe(403);
    const tool = board(off('tool', 'drop', 'orders'));
    expect(tool.refusalOfMessage(message([call('orders', 'read'), call('orders', 'drop')]))?.status).toBe(403);
    expect(tool.refusalOfMessage(message([call('stock', 'drop')]))).toBeNull();
    // A server may find the tool by these names, too.
    for (const name of ['DROP', 'Drop', 'ｄrop'])
      expect(tool.refusalOfMessage(message([call('orders', name)]))?.code).toBe('SWITCHED_OFF');
    expect(board(off('tool', 'DROP', 'orders')).refusalOfMessage(message([call('orders', 'drop')]))).not.toBeNull();
    const server = board(off('server', 'local'));
    expect(server.refusalOfMessage(message([call(null, null)], 'local'))?.status).toBe(403);
    expect(server.refusalOfMessage(message([call('local', null)]))?.status).toBe(403);
    expect(server.refusalOfMessage(message([call('local', null)], null, 'filter'))).toBeNull();
  });

  test('leaves a list without a trace of why', () => {
    const decision = {
      allow: true,
      deny: [],
      obligations: [{ type: 'require_mfa' }],
      failure: null,
    } as unknown as Decision;
    const kept = board(off('tool', 'b', 's')).withhold([call('s', 'a'), call('s', 'b')], [decision, decision]);
    expect(kept[0]).toBe(decision);
    expect(kept[1]).toMatchObject({ allow: false, obligations: [], deny: [{ code: 'SWITCHED_OFF' }] });
  });

  test('tells its reason to callers only where the operator said so', () => {
    expect(board(off('tenant', 'acme')).refusalOf(who('a'))?.message).not.toContain('why');
    const told = board(off('tenant', 'acme', '', { is_public: true })).refusalOf(who('a'));
    expect(told?.message).toBe('Switched off by an operator: why');
  });

  test('costs next to nothing to ask', () => {
    const full = board(...Array.from({ length: 1000 }, (_, at) => off('principal', `p${at}`, 'acme')));
    const rounds = 200_000;
    const time = (one: Switchboard) => {
      const principal = who('alice');
      const began = performance.now();
      for (let at = 0; at < rounds; at++) if (one.refusalOf(principal) !== null) throw new Error('not off');
      return ((performance.now() - began) * 1e6) / rounds;
    };
    time(full);
    const [empty, thousand] = [time(board()), time(full)];
    console.info(`switchboard: ${empty.toFixed(1)} ns while nothing is off, ${thousand.toFixed(1)} ns with a thousand`);
    // A look-up costs tens of nanoseconds; a search through a thousand would cost microseconds.
    expect(thousand).toBeLessThan(2000);
  });
});

describe('exchanges under way', () => {
  function open(grace = 0) {
    const cuts: string[] = [];
    const tunnels: TunnelCut[] = [];
    const running = new RunningExchanges({
      graceMs: () => grace,
      onCut: ({ code }) => void cuts.push(code),
      onTunnelCut: (cut) => void tunnels.push(cut),
    });
    return { running, cuts, tunnels };
  }
  function exchange(): Received {
    const controller = new AbortController();
    const abort = (reason: GatewayError) => controller.abort(reason);
    return { abort, cancel: controller.signal } as unknown as Received;
  }

  test('are cut once, and only those that are meant', () => {
    const { running, cuts } = open();
    const [alice, bob] = [exchange(), exchange()];
    running.enter(alice, who('alice'), '/x');
    running.enter(bob, who('bob'), '/x');
    const one = board(off('principal', 'alice', 'acme'));
    expect([running.cutSwitchedOff(one), running.cutSwitchedOff(one)]).toEqual([1, 0]);
    expect([alice.cancel.aborted, bob.cancel.aborted]).toEqual([true, false]);
    expect(cuts).toEqual(['SWITCHED_OFF']);
  });

  test('end when their credential expires, with the grace of its provider', () => {
    const { running } = open(5000);
    const received = exchange();
    const principal = makePrincipal({ id: 'a', auth: { expires_at: 100 } }, 'jwt', 'bearer');
    running.enter(received, principal, '/x');
    running.enter(exchange(), makePrincipal({ id: 'b' }, 'jwt', 'bearer'), '/x');
    expect([running.cutExpired(100_000), running.cutExpired(104_999), running.cutExpired(105_000)]).toEqual([0, 0, 1]);
    expect(received.cancel.reason).toMatchObject({ code: 'TOKEN_EXPIRED' });
  });

  test('end when their key is revoked or gone, and live as long as it does now', () => {
    const { running } = open();
    const all = ['good', 'revoked', 'gone', 'rotated'].map((id) => {
      const received = exchange();
      running.enter(received, who('x', 'acme', id), '/x');
      return received;
    });
    const asked = new Set(running.keyIds());
    const standing = new Map([
      ['good', { expires_at: null, revoked_at: null }],
      ['revoked', { expires_at: null, revoked_at: 1 }],
      ['rotated', { expires_at: 50, revoked_at: null }],
    ]);
    expect(running.applyKeys(asked, standing)).toBe(2);
    expect(running.cutExpired(50)).toBe(1);
    expect(all.map(({ cancel }) => cancel.aborted)).toEqual([false, true, true, true]);
  });

  test('that are tunnels are kept until they end, and told of when they were cut', () => {
    const { running, tunnels } = open();
    const [cut, left, early] = [exchange(), exchange(), exchange()];
    for (const received of [cut, left]) running.keep(running.enter(received, who('alice'), '/x'));
    early.abort(new GatewayError('CLIENT_CLOSED'));
    running.keep(running.enter(early, who('alice'), '/x'));
    expect(running.size).toBe(2);
    left.abort(new GatewayError('CLIENT_CLOSED'));
    expect([running.size, tunnels.length]).toEqual([1, 0]);
    running.cutSwitchedOff(board(off('tenant', 'acme')));
    expect([running.size, tunnels.length]).toEqual([0, 1]);
    expect(tunnels[0]?.error.code).toBe('SWITCHED_OFF');
  });
});

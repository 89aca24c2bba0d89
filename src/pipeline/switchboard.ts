/**
 * What is switched off, held so that asking costs next to nothing: one comparison while nothing is off, a few look-ups
 * otherwise. Nothing waives it: it stands before the policy and beside every list. Source: security 2.10.
 */
import type { Call } from '../core/call.ts';
import type { Decision, Violation } from '../core/decision.ts';
import { CATALOGUE, GatewayError } from '../core/errors.ts';
import type { Message } from '../core/exchange.ts';
import { type Actor, everyAuth, type Principal } from '../core/principal.ts';
import { foldToolName } from '../core/tool-name.ts';
import type { SwitchedOff } from '../stores/switches.ts';

/** By tenant and id, or by server and tool. */
type Nested = Map<string, Map<string, SwitchedOff>>;

export class Switchboard {
  #isEmpty = true;
  #principals: Nested = new Map();
  #tools: Nested = new Map();
  #keys = new Map<string, SwitchedOff>();
  #tenants = new Map<string, SwitchedOff>();
  #servers = new Map<string, SwitchedOff>();

  /** False while nothing at all is off. */
  get isEmpty(): boolean {
    return this.#isEmpty;
  }

  /** Takes effect with the next request. Those whose time is over are the caller's to leave out. */
  replace(records: readonly SwitchedOff[]): void {
    const of = (kind: SwitchedOff['kind']) => records.filter((record) => record.kind === kind);
    const flat = (kind: SwitchedOff['kind']) => new Map(of(kind).map((record) => [record.name, record]));
    this.#principals = nested(of('principal'));
    this.#tools = nested(of('tool').map((record) => ({ ...record, name: foldToolName(record.name) })));
    this.#keys = flat('key');
    this.#tenants = flat('tenant');
    this.#servers = flat('server');
    this.#isEmpty = records.length === 0;
  }

  /** Why this caller may do nothing; null when it may. Everybody in the chain of actors counts. */
  refusalOf(principal: Principal): GatewayError | null {
    if (this.#isEmpty) return null;
    const off = this.#offPrincipal(principal);
    return off === undefined ? null : refusal(off);
  }

  #offPrincipal(principal: Principal): SwitchedOff | undefined {
    const { id, tenant_id, actor } = principal;
    const tenant = this.#tenants.get(tenant_id);
    if (tenant !== undefined) return tenant;
    for (const { key_id } of everyAuth(principal)) {
      const key = key_id === null ? undefined : this.#keys.get(key_id);
      if (key !== undefined) return key;
    }
    const ids = this.#principals.get(tenant_id);
    return ids?.get(id) ?? (ids === undefined ? undefined : offActor(ids, actor));
  }

  /** Why this may not be done; null when it may. Where it would go counts, whatever its calls say. */
  refusalOfMessage({ calls, mode, plan }: Message): GatewayError | null {
    if (this.#isEmpty) return null;
    const upstream = plan.kind === 'upstream' ? this.#servers.get(plan.upstream) : undefined;
    if (upstream !== undefined) return refusal(upstream);
    // A list leaves out what is off, and that is no use of it.
    if (mode === 'filter') return null;
    for (const call of calls) {
      const off = this.#offCall(call);
      if (off !== undefined) return refusal(off);
    }
    return null;
  }

  #offCall({ server, tool }: Call): SwitchedOff | undefined {
    if (server === null) return undefined;
    const off = this.#servers.get(server);
    if (off !== undefined || tool === null) return off;
    const tools = this.#tools.get(server);
    return tools === undefined ? undefined : tools.get(foldToolName(tool));
  }

  /** The same decisions, those on what is switched off turned into denials. For lists: one per call, same order. */
  withhold(calls: readonly Call[], decisions: readonly Decision[]): readonly Decision[] {
    if (this.#isEmpty) return decisions;
    return decisions.map((decision, at) => {
      const call = calls[at];
      return call === undefined || this.#offCall(call) === undefined ? decision : denial(decision);
    });
  }
}

function nested(records: readonly SwitchedOff[]): Nested {
  const outer: Nested = new Map();
  for (const record of records) {
    const inner = outer.get(record.within) ?? new Map<string, SwitchedOff>();
    inner.set(record.name, record);
    outer.set(record.within, inner);
  }
  return outer;
}

function offActor(ids: ReadonlyMap<string, SwitchedOff>, first: Actor | null): SwitchedOff | undefined {
  for (let actor = first; actor !== null; actor = actor.actor) {
    const off = ids.get(actor.id);
    if (off !== undefined) return off;
  }
  return undefined;
}

/** The reason is the operator's, for the records; callers read it only where the operator said so. */
function refusal({ reason, is_public }: SwitchedOff): GatewayError {
  const { title } = CATALOGUE.SWITCHED_OFF;
  return new GatewayError('SWITCHED_OFF', is_public && reason !== '' ? { message: `${title}: ${reason}` } : {});
}

const OFF: readonly Violation[] = [
  { package: 'portcullis', code: 'SWITCHED_OFF', message: CATALOGUE.SWITCHED_OFF.title, severity: 'high' },
];

const denial = (decision: Decision): Decision => ({ ...decision, allow: false, deny: OFF, obligations: [] });

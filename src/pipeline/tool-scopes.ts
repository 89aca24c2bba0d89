/**
 * OAuth scopes that calls of single tools need. They are the caller's to have granted, so nothing waives them: not a
 * policy, not an approval, not a route that only reports. What the policy remembers knows nothing of them.
 * Source: RFC 6750 3.1, MCP authorization (2026-07-28).
 */
import type { Call } from '../core/call.ts';
import type { Decision, Violation } from '../core/decision.ts';
import { CATALOGUE, type GatewayError } from '../core/errors.ts';
import type { Authenticated } from '../core/exchange.ts';
import { holdsScopes, type Principal } from '../core/principal.ts';
import { foldToolName } from '../core/tool-name.ts';

/** `pattern`: the name of a tool, where a star stands for any text. */
export interface ToolScopeRule {
  readonly pattern: string;
  readonly scopes: readonly string[];
}

/** The refusal of somebody who lacks some of the scopes that are needed on a route. */
export type TellLack = (
  exchange: Pick<Authenticated, 'route' | 'principal'>,
  needed: readonly string[],
) => GatewayError;

interface Compiled {
  /** What stands before, between and after the stars. */
  readonly parts: readonly string[];
  readonly scopes: readonly string[];
}

const NONE: readonly string[] = [];

export class ToolScopes {
  readonly #byServer: ReadonlyMap<string, readonly Compiled[]>;
  readonly tell: TellLack;

  /** @param rules by server; those with none are left out */
  constructor(rules: ReadonlyMap<string, readonly ToolScopeRule[]>, tell: TellLack) {
    this.tell = tell;
    this.#byServer = new Map(
      [...rules].map(([server, of]) => [
        server,
        of.map(({ pattern, scopes }) => ({ parts: pattern.split('*').map(foldToolName), scopes })),
      ]),
    );
  }

  /** Everything the calls need, when the caller lacks some of it; else null. */
  lacking(principal: Principal, calls: readonly Call[]): readonly string[] | null {
    let isLacking = false;
    const needed = new Set<string>();
    for (const call of calls) {
      const scopes = this.#neededBy(call);
      for (const scope of scopes) needed.add(scope);
      isLacking ||= !holdsScopes(principal, scopes);
    }
    return isLacking ? [...needed] : null;
  }

  /** The same decisions, those on calls that are not covered turned into denials. One per call, same order. */
  withhold(principal: Principal, calls: readonly Call[], decisions: readonly Decision[]): readonly Decision[] {
    return decisions.map((decision, at) => {
      const call = calls[at];
      return call === undefined || holdsScopes(principal, this.#neededBy(call)) ? decision : uncovered(decision);
    });
  }

  /** Lists show what a caller may get at by asking for more: only calls are refused, and what goes on of them in tasks. */
  #neededBy({ action, server, tool, parameters, begunBy }: Call): readonly string[] {
    if (server === null) return NONE;
    if (action === 'gateway:tool:invoke') return tool === null ? NONE : this.neededFor(server, tool);
    if (begunBy === undefined || parameters === null) return NONE;
    return begunBy === null ? this.#all(server) : this.neededFor(server, begunBy);
  }

  /** What any tool of a server needs. */
  #all(server: string): readonly string[] {
    return [...new Set(this.#byServer.get(server)?.flatMap(({ scopes }) => scopes))];
  }

  /** The scopes that calls of a tool need. */
  neededFor(server: string, tool: string): readonly string[] {
    const rules = this.#byServer.get(server);
    if (rules === undefined) return NONE;
    const name = foldToolName(tool);
    let needed = NONE;
    for (const { parts, scopes } of rules) {
      if (matches(parts, name)) needed = needed.length === 0 ? scopes : [...new Set([...needed, ...scopes])];
    }
    return needed;
  }
}

/** The first part begins the name, the last one ends it, and those between come in their order: no way back is tried. */
function matches(parts: readonly string[], name: string): boolean {
  const [first = '', ...others] = parts;
  const last = others.pop();
  if (last === undefined) return name === first;
  if (!name.startsWith(first) || !name.endsWith(last)) return false;
  let at = first.length;
  const end = name.length - last.length;
  for (const part of others) {
    const found = name.indexOf(part, at);
    if (found < 0) return false;
    at = found + part.length;
  }
  return at <= end;
}

const UNCOVERED: readonly Violation[] = [
  {
    package: 'portcullis',
    code: 'INSUFFICIENT_SCOPE',
    message: CATALOGUE.INSUFFICIENT_SCOPE.title,
    severity: 'high',
  },
];

/** Reasons that stand whatever is granted stay as they are. */
function uncovered(decision: Decision): Decision {
  const isOpen = decision.allow || decision.obligations.some(({ type }) => type === 'require_approval');
  if (!isOpen || decision.failure !== null) return decision;
  const obligations = decision.obligations.filter(({ type }) => type === 'audit');
  return { ...decision, allow: false, deny: UNCOVERED, obligations };
}

/**
 * What the gateway does on a policy's behalf. An obligation it cannot perform turns the allow into a deny. The usual
 * decision has none, and then nothing here runs. Source: design 2.5, contracts 3.
 */
import type { Decision, Obligation } from '../core/decision.ts';
import { GatewayError } from '../core/errors.ts';
import type { Amendment, Classified, Message } from '../core/exchange.ts';
import { actorIds } from '../core/principal.ts';
import type { Protocol } from '../protocols/protocol.ts';
import type { Counters } from '../stores/open-shared.ts';
import type { WindowCount } from '../stores/shared.ts';

const SAFE_NAME = /^x-[a-z0-9-]{1,60}$/;
const SAFE_VALUE = /^[\x20-\x7e]{0,1024}$/;
/** Said by the gateway itself, or believed by what stands behind it. */
const OWN_NAMES: ReadonlySet<string> = new Set(['x-tenant-id', 'x-request-id', 'x-decision-id', 'x-real-ip']);
const OWN_PREFIXES: readonly string[] = ['x-auth-', 'x-forwarded-', 'x-portcullis-'];

/** Conditions (approval, MFA) are not performed but unmet: an allow that still carries one is not a permission. */
export function canPerform(obligation: Obligation): boolean {
  switch (obligation.type) {
    case 'audit':
    case 'redact_parameters':
    case 'redact_result':
    case 'rate_limit':
    case 'clamp':
      return true;
    case 'set_header':
      return isSafeHeader(obligation.name, obligation.value);
    case 'require_approval':
    case 'require_mfa':
    case 'inject_credential':
      return false;
    default:
      return refuseUnknown(obligation);
  }
}

/** Only `x-…` names, never one that carries identity, and nothing that could end a header line. */
function isSafeHeader(name: string, value: string): boolean {
  const lower = name.toLowerCase();
  const isOwn = OWN_NAMES.has(lower) || OWN_PREFIXES.some((prefix) => lower.startsWith(prefix));
  return SAFE_NAME.test(lower) && !isOwn && SAFE_VALUE.test(value);
}

/** A type that came from policy data at run time and that this version does not know. */
function refuseUnknown(_obligation: never): boolean {
  return false;
}

/** True when there is something to do besides letting the call through. */
export function hasObligations(decisions: readonly Decision[]): boolean {
  for (const decision of decisions) if (decision.obligations.length > 0) return true;
  return false;
}

/** Headers that permitted decisions add to the upstream request; null for the usual case of none. */
export function obligedHeaders(decisions: readonly Decision[]): Record<string, string> | null {
  let headers: Record<string, string> | null = null;
  for (const decision of decisions) {
    for (const obligation of decision.obligations) {
      if (obligation.type !== 'set_header') continue;
      headers ??= {};
      headers[obligation.name.toLowerCase()] = obligation.value;
    }
  }
  return headers;
}

/** The message as the obligations of all decisions want it, or null when the protocol cannot do that. */
export function amended(protocol: Protocol, classified: Classified, decisions: readonly Decision[]): Message | null {
  const amendment = amendmentOf(decisions);
  if (amendment === null) return classified.message;
  if (protocol.amend !== undefined) return protocol.amend(classified, amendment);
  // Headers are added to every request that goes upstream, whatever its protocol.
  const { removed, hidden, ceilings } = amendment;
  const isHeadersOnly = removed.length === 0 && hidden.length === 0 && ceilings.size === 0;
  return isHeadersOnly && classified.message.plan.kind === 'upstream' ? classified.message : null;
}

function amendmentOf(decisions: readonly Decision[]): Amendment | null {
  const removed: string[] = [];
  const hidden: string[] = [];
  const ceilings = new Map<string, number>();
  const headers = obligedHeaders(decisions);
  for (const { obligations } of decisions) {
    for (const obligation of obligations) {
      if (obligation.type === 'redact_parameters') removed.push(...obligation.names);
      else if (obligation.type === 'redact_result') hidden.push(...obligation.names);
      else if (obligation.type === 'clamp') {
        const { name, maximum } = obligation;
        ceilings.set(name, Math.min(maximum, ceilings.get(name) ?? maximum));
      }
    }
  }
  const isNothing = removed.length === 0 && hidden.length === 0 && ceilings.size === 0 && headers === null;
  return isNothing ? null : { removed, hidden, ceilings, headers };
}

/** A limit that a call has used up. */
export interface Exceeded {
  readonly decision: Decision;
  readonly limit: number;
  readonly windowSeconds: number;
  /** Epoch milliseconds. */
  readonly resetAt: number;
}

interface Limit {
  readonly decision: Decision;
  readonly key: string;
  readonly obligation: Extract<Obligation, { type: 'rate_limit' }>;
}

/**
 * Counts the call against each `rate_limit` and gives the first that is used up, or null. Rejects with
 * STORE_UNAVAILABLE when counting fails: what cannot be counted is not let through.
 */
export async function countLimits(
  shared: Counters,
  classified: Classified,
  decisions: readonly Decision[],
): Promise<Exceeded | null> {
  let exceeded: Exceeded | null = null;
  for (const { decision, key, obligation } of limitsOf(classified, decisions)) {
    const { limit, window_seconds: windowSeconds } = obligation;
    const { count, resetAt } = await hit(shared, key, windowSeconds * 1000);
    if (count > limit) exceeded ??= { decision, limit, windowSeconds, resetAt };
  }
  return exceeded;
}

async function hit(shared: Counters, key: string, windowMs: number): Promise<WindowCount> {
  try {
    return await shared.hit(key, windowMs);
  } catch (cause) {
    throw new GatewayError('STORE_UNAVAILABLE', { retryAfter: 1, cause });
  }
}

/** Each counter once per request. A caller's calls count together where they have one name, else per action and target. */
function limitsOf({ principal, received, calls }: Classified, decisions: readonly Decision[]): Iterable<Limit> {
  const limits = new Map<string, Limit>();
  // Who acts for another uses up a limit of its own as well: changing the delegator gives no new one.
  const everyone = principal.type === 'anonymous' ? [received.peer.address] : [principal.id, ...actorIds(principal)];
  for (const [at, decision] of decisions.entries()) {
    for (const obligation of decision.obligations) {
      if (obligation.type !== 'rate_limit') continue;
      const call = calls[at];
      const what = obligation.name ?? JSON.stringify([call?.action, call?.server, call?.tool, call?.llm?.model]);
      for (const who of everyone) {
        // The window has a part of its own: a policy that changes it starts to count anew.
        const parts = [
          obligation.window_seconds,
          obligation.name === undefined ? 0 : 1,
          what,
          principal.tenant_id,
          who,
        ];
        const key = `obligation:${JSON.stringify(parts)}`;
        const known = limits.get(key);
        if (known === undefined || obligation.limit < known.obligation.limit)
          limits.set(key, { decision, key, obligation });
      }
    }
  }
  return limits.values();
}

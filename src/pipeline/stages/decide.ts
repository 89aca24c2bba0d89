/**
 * Stage 6: the only place where a request is permitted, and the only place that makes a `Permitted`. Everything unsure
 * is denied here. Source: architecture 1.5, contracts 3 and 4.
 */
import type { Decision, DecisionFailure, DecisionRequest, Obligation, Violation } from '../../core/decision.ts';
import type { ErrorCode, PublicReason } from '../../core/errors.ts';
import { GatewayError, isErrorCode } from '../../core/errors.ts';
import type { Classified, Message, Permitted } from '../../core/exchange.ts';
import type { PolicyEngine } from '../../policy/engine.ts';
import type { Protocol } from '../../protocols/protocol.ts';
import type { Counters } from '../../stores/open-shared.ts';
import { tellSpent } from '../limits.ts';
import type { Exceeded } from '../obligations.ts';
import { amended, canPerform, countLimits, hasObligations } from '../obligations.ts';
import { isReportOnly, waived } from '../report-only.ts';
import type { Switchboard } from '../switchboard.ts';
import type { ToolScopes } from '../tool-scopes.ts';

/** A refusal by policy. It carries the decisions, so that the audit can tell what was asked and why it was refused. */
export class Refusal extends GatewayError {
  readonly decisions: readonly Decision[];

  constructor(code: ErrorCode, extras: ConstructorParameters<typeof GatewayError>[1], decisions: readonly Decision[]) {
    super(code, extras);
    this.name = 'Refusal';
    this.decisions = decisions;
  }
}

/** What performing obligations takes. */
export interface Performing {
  readonly protocol: Protocol;
  readonly shared: Counters;
  readonly switches: Switchboard;
  /** Null or absent: no tool needs scopes of its own. */
  readonly toolScopes?: ToolScopes | null;
  /** Counts an obligation that could not be performed. */
  onFailure(failure: DecisionFailure): void;
}

/** Answers at once, or after counting where a decision limits the rate. Throws (or rejects with) a Refusal. */
export function decide(
  engine: PolicyEngine,
  performing: Performing,
  classified: Classified,
): Permitted | Promise<Permitted> {
  const { message } = classified;
  // Before the policy is asked: no answer of its could change anything.
  const off = performing.switches.refusalOfMessage(message);
  if (off !== null) throw off;
  if (isReportOnly(classified.route)) return report(engine, performing, classified);
  const isApproved = classified.facts.approval.verified;
  const asked = ask(engine, classified);
  const made = message.mode === 'filter' ? performing.switches.withhold(message.calls, asked) : asked;
  const decisions = isApproved ? made.map(whenApproved) : made;
  if (message.mode === 'all') {
    refuseUncovered(performing, classified, decisions);
    const isGranted = isApproved ? isApprovedPermission : isPermission;
    const refused = decisions.find((decision) => !isGranted(decision));
    if (refused !== undefined) {
      if (refused.allow && obligationCode(refused) === 'POLICY_EVALUATION_ERROR')
        performing.onFailure('unknown_obligation');
      throw refusal(refused, decisions, classified);
    }
    // No call means nothing was asked, and nothing asked is nothing allowed.
    if (decisions.length === 0 || decisions.length !== classified.calls.length) {
      throw new Refusal('POLICY_EVALUATION_ERROR', {}, decisions);
    }
  } else {
    const refused = refusedAltogether(decisions);
    if (refused !== undefined) throw refusal(refused, decisions, classified);
  }
  if (!hasObligations(decisions)) return permit(classified, classified.message, decisions);
  return perform(performing, classified, decisions);
}

/** The same questions, but only what no policy says can refuse, and nothing is done to the call. */
function report(engine: PolicyEngine, performing: Performing, classified: Classified): Permitted {
  const { message } = classified;
  const effective = ask(engine, classified, 'report').map((decision) =>
    waived(decision, isPermission(decision) ? null : refusalCode(decision)),
  );
  if (message.mode === 'filter')
    return permit(classified, message, performing.switches.withhold(message.calls, effective));
  refuseUncovered(performing, classified, effective);
  const refused = effective.find((decision) => !isPermission(decision));
  if (refused !== undefined) throw refusal(refused, effective, classified);
  if (effective.length === 0 || effective.length !== classified.calls.length) {
    throw new Refusal('POLICY_EVALUATION_ERROR', {}, effective);
  }
  return permit(classified, message, effective);
}

/** Throws where scopes are all that is missing; an approval or a second factor is asked for afterwards. */
function refuseUncovered(
  { toolScopes = null }: Performing,
  classified: Classified,
  decisions: readonly Decision[],
): void {
  if (toolScopes === null) return;
  const { principal, calls } = classified;
  const needed = toolScopes.lacking(principal, calls);
  // Nobody is sent for scopes that would not help.
  if (needed === null || decisions.some(isRefusedAnyway)) return;
  const { code, message, extras } = toolScopes.tell(classified, needed);
  const denied = toolScopes.withhold(principal, calls, decisions);
  const data = { ...extras.data, decision_id: denied[0]?.decision_id ?? null };
  throw new Refusal(code, { ...extras, message, reasons: [{ code, message }], data }, denied);
}

function isRefusedAnyway(decision: Decision): boolean {
  return decision.failure !== null || (!decision.allow && refusalCode(decision) !== 'APPROVAL_REQUIRED');
}

/** The rest is done first: a call that is refused anyway does not count. */
function perform(
  performing: Performing,
  classified: Classified,
  decisions: readonly Decision[],
): Permitted | Promise<Permitted> {
  // What is left out of a list binds nobody.
  const binding = classified.message.mode === 'all' ? decisions : decisions.filter(isPermission);
  const message = amended(performing.protocol, classified, binding);
  if (message === null) throw unperformable(performing, classified, decisions);
  if (!binding.some(limitsRate)) return permit(classified, message, decisions);
  return countLimits(performing.shared, classified, binding).then((exceeded) => {
    if (exceeded !== null) throw tooMany(exceeded, decisions, classified);
    return permit(classified, message, decisions);
  });
}

function limitsRate({ obligations }: Decision): boolean {
  return obligations.some(({ type }) => type === 'rate_limit');
}

/** The decisions that asked for it become denials, for the caller and in the audit. */
function unperformable(performing: Performing, classified: Classified, decisions: readonly Decision[]): Refusal {
  performing.onFailure('unknown_obligation');
  const denied = decisions.map((decision) => (decision.obligations.length === 0 ? decision : undone(decision)));
  const refused = denied.find(({ failure }) => failure !== null);
  return refusal(refused ?? undone(decisions[0] as Decision), denied, classified);
}

function undone(decision: Decision): Decision {
  const message = 'The policy demands something this gateway cannot do with this call';
  const violation: Violation = {
    package: 'portcullis',
    code: 'POLICY_EVALUATION_ERROR',
    message,
    severity: 'critical',
  };
  return { ...decision, allow: false, deny: [violation], failure: 'unknown_obligation' };
}

function tooMany(exceeded: Exceeded, decisions: readonly Decision[], { received }: Classified): Refusal {
  const { decision, limit, windowSeconds, resetAt } = exceeded;
  const message = `Rate limit exceeded: ${limit} calls in ${windowSeconds} s allowed`;
  tellSpent(received, { rule: 'policy', limit, windowSeconds, resetAt });
  return new Refusal(
    'RATE_LIMIT_EXCEEDED',
    {
      message,
      reasons: [{ code: 'RATE_LIMIT_EXCEEDED', message }],
      details: { limit },
      retryAfter: Math.max(1, Math.ceil((resetAt - received.receivedAt) / 1000)),
      data: { decision_id: decision.decision_id },
    },
    decisions,
  );
}

/** Codes that speak of the request or of the policy, not of an element of a list. */
const OF_THE_REQUEST: ReadonlySet<ErrorCode> = new Set([
  'RATE_LIMIT_EXCEEDED',
  'REGION_DENIED',
  'POLICY_UNAVAILABLE',
  'POLICY_EVALUATION_ERROR',
]);

/** A list from which nothing is left for such a reason is refused: an empty one would say that there is nothing. */
function refusedAltogether(decisions: readonly Decision[]): Decision | undefined {
  if (decisions.some(isPermission)) return undefined;
  return decisions.find((decision) => OF_THE_REQUEST.has(refusalCode(decision)));
}

/** True only for a real allow whose every obligation the gateway can perform. */
export function isPermission(decision: Decision): boolean {
  return decision.allow && decision.failure === null && decision.obligations.every(canPerform);
}

/** Names what the gateway itself sets against an allow; packages of policies have longer names. */
const OURSELVES = 'portcullis';

/**
 * The decision on an approved call. A package that demands an approval with an allow, and does not look whether there is
 * one, has its condition met; all other reasons stay.
 */
export function whenApproved(decision: Decision): Decision {
  if (decision.allow || decision.failure !== null) return decision;
  if (!decision.obligations.some(({ type }) => type === 'require_approval')) return decision;
  const deny = decision.deny.filter((one) => one.package !== OURSELVES || one.code !== 'APPROVAL_REQUIRED');
  return { ...decision, allow: deny.length === 0, deny };
}

/** The same for a call that a person approved: what a rule asks for there is met. */
export function isApprovedPermission(decision: Decision): boolean {
  const isMet = (obligation: Obligation) => obligation.type === 'require_approval' || canPerform(obligation);
  return decision.allow && decision.failure === null && decision.obligations.every(isMet);
}

/** One question for each call; those about the entries of a list are put together. */
function ask(engine: PolicyEngine, classified: Classified, mode?: 'report'): readonly Decision[] {
  const { facts, principal, route, message, calls } = classified;
  const { entrypoint, place } = route;
  const questions = calls.map((call): DecisionRequest => {
    const question = { facts, principal, call, entrypoint, place };
    return mode === undefined ? question : { ...question, mode };
  });
  return message.mode === 'filter' ? engine.decideMany(questions) : questions.map((one) => engine.decide(one));
}

function permit(classified: Classified, message: Message, decisions: readonly Decision[]): Permitted {
  // The brand exists only in the type system: this cast is the one place that grants it.
  return {
    received: classified.received,
    route: classified.route,
    principal: classified.principal,
    rate: classified.rate,
    rateResetAt: classified.rateResetAt,
    message,
    facts: classified.facts,
    calls: classified.calls,
    decisions,
  } as Permitted;
}

/** The figure in the sentence of S-51, the only place where a policy names its limit; null for other sentences. */
function limitIn(reasons: readonly PublicReason[]): number | null {
  for (const { message } of reasons) {
    const [, figure] = /^Rate limit exceeded: (\d{1,9}) /.exec(message) ?? [];
    if (figure !== undefined) return Number(figure);
  }
  return null;
}

function refusal(refused: Decision, decisions: readonly Decision[], classified: Classified): Refusal {
  const code = refusalCode(refused);
  const reasons = publicReasons(refused.deny);
  const message = reasons.length > 0 ? reasons.map((reason) => reason.message).join('; ') : undefined;
  if (code === 'RATE_LIMIT_EXCEEDED') {
    const { received, rate, rateResetAt } = classified;
    const limit = limitIn(reasons);
    tellSpent(received, { rule: 'policy', limit, windowSeconds: rate.window_seconds, resetAt: rateResetAt });
  }
  const retryAfter =
    code === 'RATE_LIMIT_EXCEEDED'
      ? Math.max(1, Math.ceil((classified.rateResetAt - classified.received.receivedAt) / 1000))
      : undefined;
  return new Refusal(
    code,
    {
      reasons,
      ...(message === undefined ? {} : { message }),
      ...(retryAfter === undefined ? {} : { retryAfter }),
      data: { decision_id: refused.decision_id },
    },
    decisions,
  );
}

/**
 * The refusal of a call that an approval would not help. `decision` is the one that was made, `then` the one that would
 * be made with an approval: its reasons are what stands in the way.
 */
export function refusalOf(then: Decision, decision: Decision, classified: Classified): Refusal {
  const obligations = then.obligations.filter(({ type }) => type !== 'require_approval');
  const deny = then.deny.filter(({ code }) => code !== 'APPROVAL_REQUIRED');
  const reasons = !then.allow && deny.length === 0 ? NO_HELP : deny;
  const refused: Decision = { ...then, decision_id: decision.decision_id, obligations, deny: reasons };
  return refusal(refused, [{ ...refused, allow: false }], classified);
}

const NO_HELP: readonly Violation[] = [
  {
    package: OURSELVES,
    code: 'POLICY_DENIED',
    message: 'Denied by policy, with or without an approval',
    severity: 'high',
  },
];

/** One violation code stands for itself; several, or one the catalogue does not know, are POLICY_DENIED. */
export function refusalCode(refused: Decision): ErrorCode {
  if (refused.failure !== null) return failureCode(refused.failure);
  if (refused.allow) return obligationCode(refused);
  const codes = new Set(refused.deny.map((violation) => violation.code));
  const [only] = codes;
  return codes.size === 1 && only !== undefined && isErrorCode(only) ? only : 'POLICY_DENIED';
}

function failureCode(failure: DecisionFailure): ErrorCode {
  return failure === 'no_bundle' ? 'POLICY_UNAVAILABLE' : 'POLICY_EVALUATION_ERROR';
}

function obligationCode(refused: Decision): ErrorCode {
  const types = new Set(refused.obligations.map((obligation) => obligation.type));
  if (types.has('require_approval')) return 'APPROVAL_REQUIRED';
  if (types.has('require_mfa')) return 'MFA_REQUIRED';
  return 'POLICY_EVALUATION_ERROR';
}

/** The caller sees codes and messages; the package stays inside. */
function publicReasons(deny: readonly Violation[]): readonly PublicReason[] {
  return deny.map(({ code, message }) => ({ code, message }));
}

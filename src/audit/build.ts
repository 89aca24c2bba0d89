/**
 * From the end of a request to the events that record it. Each request ends in exactly one leading event (tool
 * invocation, data access, delegation, authorization decision, rate limit or refusal) per thing decided, and one
 * `policy_violation` per deny message. Source: acceptance S-90..S-93.
 */
import type { ClassifiedCall } from '../core/call.ts';
import type { Decision, WouldDeny } from '../core/decision.ts';
import { CATALOGUE, type GatewayError } from '../core/errors.ts';
import type { Message, Received } from '../core/exchange.ts';
import { actorIds, type Principal } from '../core/principal.ts';
import { scrubText } from '../core/redaction.ts';
import type { Route } from '../core/route.ts';
import type {
  AuditRecorder,
  ClassFacts,
  DecisionFacts,
  DelegationRecord,
  Outcome,
  RequestFactsEvent,
} from './event.ts';

/** What is known when a request is over; the later fields are absent when it ended early. */
export interface EndOfRequest {
  readonly received: Pick<Received, 'id' | 'method' | 'path' | 'headers' | 'peer'>;
  readonly route?: Pick<Route, 'id' | 'mode'> | null | undefined;
  readonly principal?: Principal | null | undefined;
  readonly message?: Pick<Message, 'mode'> | null | undefined;
  readonly calls?: readonly ClassifiedCall[] | null | undefined;
  /** One per call, same order; missing ones mean that no decision was asked for. */
  readonly decisions?: readonly Decision[] | null | undefined;
  /** What the client got; 0 when the connection was gone. */
  readonly status: number;
  readonly error?: GatewayError | null | undefined;
  /** Of the approval that was presented or asked for. */
  readonly approvalId?: string | null | undefined;
  readonly durationMs: number;
}

const MAX_AGENT = 256;
const MAX_PATH = 2048;
/** Callers put keys into paths and agent names by mistake; what looks like one is not written down. */
const shown = (text: string, limit: number): string =>
  scrubText(text.length > limit ? `${text.slice(0, limit)}…` : text);

type Who = Pick<
  Parameters<AuditRecorder['record']>[0],
  | 'request_id'
  | 'tenant_id'
  | 'user_id'
  | 'principal_type'
  | 'auth_provider'
  | 'key_id'
  | 'source_ip'
  | 'user_agent'
  | 'session_id'
  | 'actor_id'
>;

function who(end: EndOfRequest): Who {
  const { received, principal } = end;
  const agent = received.headers['user-agent'];
  return {
    request_id: received.id,
    tenant_id: principal?.tenant_id ?? null,
    user_id: principal?.id ?? null,
    principal_type: principal?.type ?? null,
    auth_provider: principal?.auth.provider ?? null,
    key_id: principal?.auth.key_id ?? null,
    source_ip: received.peer.address,
    user_agent: agent === undefined ? null : shown(agent, MAX_AGENT),
    session_id: principal?.auth.session_id ?? null,
    ...(principal?.actor ? { actor_id: principal.actor.id } : undefined),
  };
}

function what(end: EndOfRequest, call: ClassifiedCall | undefined): RequestFactsEvent {
  return {
    route: end.route?.id ?? null,
    method: end.received.method,
    path: shown(end.received.path, MAX_PATH),
    action: call?.action ?? null,
    server_name: call?.server ?? null,
    tool_name: call?.tool ?? null,
  };
}

/** A 4xx that a rule caused is a denial; other errors are failures of someone. */
function outcomeOf(end: EndOfRequest, decision: Decision | undefined): Outcome['outcome'] {
  if (decision !== undefined && !decision.allow) return decision.failure === null ? 'denied' : 'failed';
  if (end.error === null || end.error === undefined)
    return end.status >= 500 || end.status === 0 ? 'failed' : 'allowed';
  return end.error.status === 401 || end.error.status === 403 || end.error.status === 429 ? 'denied' : 'failed';
}

function how(end: EndOfRequest, decision: Decision | undefined): Outcome {
  const code = end.error?.code ?? null;
  return {
    outcome: outcomeOf(end, decision),
    status: end.status,
    code,
    flag: code === null ? 'OK' : CATALOGUE[code].flag,
    duration_ms: Math.round(end.durationMs * 1000) / 1000,
    ...(typeof end.approvalId === 'string' ? { approval_id: end.approvalId } : null),
  };
}

const NO_REASONS: DecisionFacts['reasons'] = [];

function why(decision: Decision | undefined): DecisionFacts {
  if (decision === undefined) {
    return { decision_id: null, policy_revision: null, decision_cached: false, reasons: NO_REASONS };
  }
  return {
    decision_id: decision.decision_id,
    policy_revision: decision.revision,
    decision_cached: decision.cached,
    reasons: reasonsOf(decision.deny),
    ...(decision.would_deny === undefined ? {} : { would_deny: wouldDeny(decision.would_deny) }),
  };
}

function reasonsOf(deny: Decision['deny']): DecisionFacts['reasons'] {
  return deny.length === 0 ? NO_REASONS : deny.map(({ code, message }) => ({ code, message }));
}

function wouldDeny({ code, deny }: WouldDeny): NonNullable<DecisionFacts['would_deny']> {
  return { code, reasons: reasonsOf(deny) };
}

function classOf(call: ClassifiedCall): ClassFacts {
  const { tool_type, sensitivity_level, reasons, resources } = call.classification;
  return { tool_type, sensitivity_level, classification_reasons: reasons, resources };
}

function isDataAccess(action: string): boolean {
  return (
    action.startsWith('llm:') ||
    action.startsWith('http:') ||
    action.startsWith('responses:') ||
    action.startsWith('conversations:') ||
    action === 'gateway:resource:read' ||
    action === 'gateway:prompt:get'
  );
}

/** A policy may keep a call's arguments out of the records; where decisions disagree the more reserved one counts. */
function isMetadataOnly(decision: Decision | undefined): boolean {
  if (decision === undefined || decision.obligations.length === 0) return false;
  return decision.obligations.some((one) => one.type === 'audit' && one.level === 'metadata');
}

function recordCall(recorder: AuditRecorder, end: EndOfRequest, call: ClassifiedCall, decision: Decision | undefined) {
  const common = { ...who(end), ...what(end, call), ...how(end, decision), ...why(decision) };
  if (call.action === 'gateway:tool:invoke') {
    const parameters: unknown = isMetadataOnly(decision) ? null : call.parameters;
    recorder.record({
      event_type: 'tool_invocation',
      ...common,
      ...classOf(call),
      parameters,
      parameters_sha256: null,
    });
  } else if (isDataAccess(call.action)) {
    recorder.record({
      event_type: 'data_access',
      ...common,
      model: call.llm?.resolved_model ?? call.llm?.model ?? null,
    });
  } else if (call.action.startsWith('a2a:')) {
    recorder.record({ event_type: 'delegation_request', ...common, delegation: handingOn(end, call) });
  } else {
    recorder.record({ event_type: 'authorization_decision', ...common, ...classOf(call) });
  }
}

/** What was asked for between parties; the endpoint put the id of the token that would be made into the parameters. */
function handingOn({ principal }: EndOfRequest, { action, a2a, parameters }: ClassifiedCall): DelegationRecord {
  const id = parameters?.delegation_id;
  const isIssue = action === 'a2a:delegate';
  return {
    phase: isIssue ? 'issue' : 'invoke',
    delegation_id: isIssue && typeof id === 'string' ? id : null,
    delegator_id: principal?.id ?? '',
    actors: principal ? actorIds(principal) : [],
    target_id: a2a?.target_user?.id ?? a2a?.target_agent?.id ?? null,
  };
}

/** A request on lent rights leaves a record of the chain besides its own. */
function recordUse(recorder: AuditRecorder, end: EndOfRequest, principal: Principal): void {
  recorder.record({
    event_type: 'delegation_request',
    ...who(end),
    ...what(end, end.calls?.[0]),
    ...how(end, undefined),
    ...why(end.decisions?.[0]),
    delegation: {
      phase: 'use',
      delegation_id: principal.auth.token_id,
      delegator_id: principal.id,
      actors: actorIds(principal),
      target_id: null,
    },
  });
}

function recordViolations(recorder: AuditRecorder, end: EndOfRequest, call: ClassifiedCall, decision: Decision): void {
  const { deny, would_deny } = decision;
  for (const violation of would_deny?.deny ?? deny) {
    recorder.record({
      event_type: 'policy_violation',
      ...who(end),
      ...what(end, call),
      policy_name: violation.package,
      violation_reason: violation.message,
      attempted_action: call.action,
      resource: shown(`${call.resource.type}:${call.resource.id}`, MAX_PATH),
      severity: violation.severity,
      ...(would_deny === undefined ? {} : { enforced: false }),
    });
  }
}

/** A list is one question with many answers: what was left out of it is not an attempt, so it is no violation. */
function recordList(
  recorder: AuditRecorder,
  end: EndOfRequest,
  calls: readonly ClassifiedCall[],
  decisions: readonly Decision[],
): void {
  const [first] = calls;
  const oneServer = calls.every((call) => call.server === first?.server);
  const shown = decisions.filter((decision) => decision.allow).length;
  const wouldHide = decisions.filter((decision) => decision.would_deny !== undefined).length;
  recorder.record({
    event_type: 'authorization_decision',
    ...who(end),
    ...what(end, first),
    server_name: oneServer ? (first?.server ?? null) : null,
    tool_name: null,
    // That a list was shortened is no refusal; only an error makes it one.
    ...how(end, undefined),
    ...why(decisions.find((decision) => decision.allow) ?? decisions[0]),
    reasons: NO_REASONS,
    offered: calls.length,
    shown,
    ...(end.route?.mode === 'report' ? { would_hide: wouldHide } : {}),
  });
}

function recordEarlyEnd(recorder: AuditRecorder, end: EndOfRequest): void {
  const facts = { ...who(end), ...what(end, end.calls?.[0]), ...how(end, undefined) };
  if (end.error?.code === 'RATE_LIMIT_EXCEEDED') {
    const limit = end.error.extras.details?.limit;
    recorder.record({ event_type: 'rate_limit_exceeded', ...facts, limit: typeof limit === 'number' ? limit : null });
  } else if (end.error === null || end.error === undefined) {
    // Nothing to decide (an empty list): still an end, and still recorded.
    recorder.record({ event_type: 'authorization_decision', ...facts, ...why(undefined) });
  } else {
    recorder.record({ event_type: 'request_refused', ...facts });
  }
}

/** Records the end of one request. Never throws: what cannot be written is counted by the recorder. */
export function auditEnd(recorder: AuditRecorder, end: EndOfRequest): void {
  const { calls, decisions, principal } = end;
  if (principal?.parties !== undefined) recordUse(recorder, end, principal);
  const first = calls?.[0];
  if (first === undefined || decisions === null || decisions === undefined || decisions.length === 0) {
    recordEarlyEnd(recorder, end);
    return;
  }
  if (end.message?.mode === 'filter') {
    recordList(recorder, end, calls ?? [], decisions);
    return;
  }
  for (const [index, call] of (calls ?? []).entries()) {
    const decision = decisions[index];
    recordCall(recorder, end, call, decision);
    if (decision !== undefined) recordViolations(recorder, end, call, decision);
  }
  if (end.error?.code === 'RATE_LIMIT_EXCEEDED') recordEarlyEnd(recorder, end);
}

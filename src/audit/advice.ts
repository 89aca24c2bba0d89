/** Records of what was asked and told on the decision API: nothing passed through this gateway. Source: acceptance SW-01. */
import type { ClassifiedCall } from '../core/call.ts';
import type { Decision } from '../core/decision.ts';
import type { ErrorCode } from '../core/errors.ts';
import { CATALOGUE } from '../core/errors.ts';
import type { Authenticated } from '../core/exchange.ts';
import { scrubText } from '../core/redaction.ts';
import type { AuditDraft } from './event.ts';

const MAX_AGENT = 256;

function who({ received, principal }: Authenticated) {
  const agent = received.headers['user-agent'];
  return {
    request_id: received.id,
    tenant_id: principal.tenant_id,
    user_id: principal.id,
    principal_type: principal.type,
    auth_provider: principal.auth.provider,
    key_id: principal.auth.key_id,
    source_ip: received.peer.address,
    user_agent: agent === undefined ? null : scrubText(agent.slice(0, MAX_AGENT)),
    session_id: principal.auth.session_id,
    ...(principal.actor === null ? undefined : { actor_id: principal.actor.id }),
  };
}

export interface AdviceFacts {
  readonly call: ClassifiedCall;
  readonly decision: Decision;
  readonly allowed: boolean;
  readonly code: ErrorCode | null;
}

/** A decision that was told and that somebody else enforces. `askedBy`: who asked, who may be another than the subject. */
export function adviceDraft(exchange: Authenticated, advice: AdviceFacts, askedBy: string): AuditDraft {
  const { call, decision, allowed, code } = advice;
  const { received, route } = exchange;
  const { tool_type, sensitivity_level, reasons, resources } = call.classification;
  return {
    event_type: 'authorization_decision',
    ...who(exchange),
    route: route.id,
    method: received.method,
    path: received.path,
    action: call.action,
    server_name: call.server,
    tool_name: call.tool,
    outcome: allowed ? 'allowed' : decision.failure === null ? 'denied' : 'failed',
    status: code === null ? 200 : CATALOGUE[code].status,
    code,
    flag: code === null ? 'OK' : CATALOGUE[code].flag,
    duration_ms: 0,
    decision_id: decision.decision_id,
    policy_revision: decision.revision,
    decision_cached: decision.cached,
    reasons: decision.deny.map((one) => ({ code: one.code, message: one.message })),
    tool_type,
    sensitivity_level,
    classification_reasons: reasons,
    resources,
    asked_by: askedBy,
  };
}

/** What another gateway says it did; every text in it is its word. */
export interface ReportFacts {
  readonly event_type: string;
  readonly user_id?: string | null | undefined;
  readonly server_name?: string | null | undefined;
  readonly tool_name?: string | null | undefined;
  readonly action?: string | null | undefined;
  readonly decision?: 'allow' | 'deny' | null | undefined;
  readonly reason?: string | null | undefined;
  readonly timestamp?: string | number | null | undefined;
  readonly gateway_request_id?: string | null | undefined;
  readonly metadata?: Readonly<Record<string, unknown>> | null | undefined;
}

export function reportDraft(exchange: Authenticated, report: ReportFacts): AuditDraft {
  const { event_type, metadata = null, ...rest } = report;
  const reported = Object.fromEntries(
    Object.entries(rest).map(([name, value]) => [name, typeof value === 'string' ? scrubText(value) : (value ?? null)]),
  );
  return {
    event_type: 'reported_event',
    ...who(exchange),
    reported_type: event_type,
    reported,
    details: metadata ?? {},
  };
}

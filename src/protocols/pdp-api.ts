/**
 * The decision API: what the policy says about a call that somebody else makes. `POST /api/v1/gateway/authorize` and
 * `/authorize-a2a`, and `POST /api/v1/gateway/audit` for what came of it. Source: acceptance SW-01..SW-05, design 2.5.
 */
import type { Call } from '../core/call.ts';
import { GatewayError } from '../core/errors.ts';
import type { Admitted } from '../core/exchange.ts';
import type { PermissionRule } from '../core/route.ts';
import { endpointCall } from './api.ts';
import type { Endpoint, EndpointReply, EndpointRequest } from './endpoint.ts';
import type { Advice, Advisor } from './pdp/advisor.ts';
import { decisionDocumentOf } from './pdp/document.ts';
import type { KnownTargets } from './pdp/questions.ts';
import { atDepth, callAbout, callBetween } from './pdp/questions.ts';
import { GATEWAY_API } from './pdp/questions-path.ts';
import type { AuditRequest, AuthorizeA2aRequest, AuthorizeRequest } from './pdp/schemas.ts';
import { auditRequest, authorizeA2aRequest, authorizeRequest } from './pdp/schemas.ts';
import { isSelf, subjectOf } from './pdp/subjects.ts';

export interface PdpOptions extends KnownTargets {
  readonly advisor: Advisor;
  /** One per decision, with the exchange as the subject would have sent it. */
  onAdvice(exchange: Admitted, advice: Advice, askedBy: string): void;
  onReport(exchange: Admitted, report: AuditRequest): void;
}

/** Bytes of a question. It is answered in one go while others wait, so it may hold less than a call that is made. */
export const QUESTION_LIMIT = 1_048_576;
const MAX_DEPTH = 16;

/** The permission that lets a caller ask for others; null where it needs none. */
export const needs = (permission: string, isNeeded: boolean): PermissionRule | null =>
  isNeeded ? { allOf: [permission] } : null;

export function pdpEndpoints(options: PdpOptions): readonly Endpoint[] {
  return [authorizeEndpoint(options), auditEndpoint(options)] as readonly Endpoint[];
}

function authorizeEndpoint(options: PdpOptions): Endpoint<AuthorizeRequest> {
  const path = `${GATEWAY_API}/authorize`;
  return {
    method: 'POST',
    path,
    access: 'authenticated',
    body: { schema: authorizeRequest, limit: QUESTION_LIMIT, misfit: 'INVALID_REQUEST' },
    call: ({ exchange, body }) =>
      endpointCall(exchange, path, needs('gateway:authorize', !isSelf(exchange.principal, body.user))),
    async answer({ exchange, body }) {
      const call = callAbout(options, body);
      const caller = exchange.principal;
      const asked = await options.advisor.as(exchange, subjectOf(caller, body.user));
      const advice = options.advisor.advise(asked, call);
      options.onAdvice(asked, advice, caller.id);
      return { status: 200, body: decisionDocumentOf(exchange, advice) };
    },
  };
}

/** What is asked about agents. */
export function a2aEndpoint(options: PdpOptions): Endpoint<AuthorizeA2aRequest> {
  return {
    method: 'POST',
    path: `${GATEWAY_API}/authorize-a2a`,
    // Nothing about agents is known here: trust and capabilities are the caller's word, so it always takes the right to.
    access: { allOf: ['gateway:authorize-a2a'] },
    body: { schema: authorizeA2aRequest, limit: QUESTION_LIMIT, misfit: 'INVALID_REQUEST' },
    answer: (request) => answerA2a(options, request),
  };
}

async function answerA2a(
  options: PdpOptions,
  { exchange, body }: EndpointRequest<AuthorizeA2aRequest>,
): Promise<EndpointReply> {
  const { principal: caller } = exchange;
  const isDelegation = body.action === 'a2a:delegate';
  const [from, to] = isDelegation ? [body.source_user, body.target_user] : [body.source_agent, body.target_agent];
  if (!from || !to) {
    const missing = isDelegation ? 'source_user, target_user' : 'source_agent, target_agent';
    throw new GatewayError('INVALID_REQUEST', { message: `${missing}: needed for ${body.action}` });
  }
  const source = body.source_user ? subjectOf(caller, body.source_user) : null;
  const target = body.target_user ? subjectOf(caller, body.target_user) : null;
  const subject = isDelegation && source !== null ? source : subjectOf(caller, { id: from.id }, 'agent');
  const call = callBetween(body, { source, target });
  const asked = await options.advisor.as(exchange, subject);
  const advice = options.advisor.advise(asked, call);
  options.onAdvice(asked, advice, caller.id);
  const document = decisionDocumentOf(exchange, advice);
  const max_delegation_depth = advice.allowed ? depthOfRefusal(options.advisor, asked, call) : 0;
  return { status: 200, body: { ...document, max_delegation_depth } };
}

/** Asks the policy itself how many hands further the call may go: its data, not ours, say where it ends. */
function depthOfRefusal(advisor: Advisor, exchange: Admitted, call: Call): number {
  let depth = (call.a2a?.context.delegation_depth ?? 0) + 1;
  while (depth < MAX_DEPTH && advisor.advise(exchange, atDepth(call, depth)).allowed) depth += 1;
  return depth;
}

function auditEndpoint(options: PdpOptions): Endpoint<AuditRequest> {
  return {
    method: 'POST',
    path: `${GATEWAY_API}/audit`,
    access: { allOf: ['gateway:audit'] },
    body: { schema: auditRequest, misfit: 'INVALID_REQUEST' },
    answer({ exchange, body }) {
      options.onReport(exchange, body);
      const { id } = exchange.received;
      return { status: 201, body: { audit_id: id, request_id: id, recorded: true } };
    },
  };
}

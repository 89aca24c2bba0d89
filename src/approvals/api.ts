/**
 * `/approvals`: requesters read the state and the token of their own requests, approvers decide on those of others.
 * Source: contracts 7, design 2.8, acceptance TW-06 and TW-07.
 */
import { z } from 'zod';
import type { Call } from '../core/call.ts';
import { GatewayError, toGatewayError } from '../core/errors.ts';
import type { Admitted } from '../core/exchange.ts';
import type { Endpoint, EndpointReply, EndpointRequest } from '../protocols/endpoint.ts';
import type { ApprovalRecord, ApprovalState } from '../stores/approvals.ts';
import type { ApprovalView, Origin } from './approval.ts';
import { APPROVAL_STATES, viewOf } from './approval.ts';
import type { Approvals } from './approvals.ts';
import { isRequester } from './approvals.ts';

/** Who may decide; roles get it from the policy's data. */
export const DECIDE = 'approvals:decide';

export interface ApprovalsApiOptions {
  readonly approvals: Approvals;
  readonly publicUrl: string | null;
  /** Asks the policy whether the caller holds the permission at all. */
  mayDecide(exchange: Admitted): boolean;
  /** Asks the policy about one request for approval. Throws the refusal. */
  requireDecision(exchange: Admitted, call: Call): void;
  /** Told of each refusal among several decisions in one request; alone it is the end of the request. */
  onRefused(exchange: Admitted, id: string, why: string): void;
}

const reasonBody = z.strictObject({ reason: z.string().max(2000).optional() });
type ReasonBody = z.output<typeof reasonBody>;

const MAX_BATCH = 100;
const batchBody = z.strictObject({
  decisions: z
    .array(
      z.strictObject({
        approval_id: z.string().min(1).max(64),
        action: z.enum(['approve', 'reject']),
        reason: z.string().max(2000).optional(),
      }),
    )
    .min(1)
    .max(MAX_BATCH),
});
type BatchBody = z.output<typeof batchBody>;

export function approvalEndpoints(options: ApprovalsApiOptions): readonly Endpoint[] {
  const decisions = (['approve', 'reject'] as const).flatMap((action) => [
    decideEndpoint(options, action, `/approvals/{id}/${action}`),
    decideEndpoint(options, action, `/${action}/{id}`),
  ]);
  return [
    {
      method: 'GET',
      path: '/approvals',
      access: 'authenticated',
      body: null,
      answer: (request) => list(options, request),
    },
    {
      method: 'GET',
      path: '/approvals/{id}',
      access: 'authenticated',
      body: null,
      answer: (request) => show(options, request),
    },
    ...decisions,
    {
      method: 'POST',
      path: '/approvals/decide',
      access: { allOf: [DECIDE] },
      body: { schema: batchBody },
      answer: (request) => decideMany(options, request as EndpointRequest<BatchBody>),
    },
  ];
}

function decideEndpoint(options: ApprovalsApiOptions, action: 'approve' | 'reject', path: string): Endpoint {
  return {
    method: 'POST',
    path,
    access: { allOf: [DECIDE] },
    body: { schema: reasonBody },
    async call(request) {
      const { exchange } = request;
      const record = await options.approvals.find(exchange.principal.tenant_id, idOf(request));
      return decisionCall(exchange, idOf(request), record);
    },
    async answer(request) {
      const { exchange, body } = request as EndpointRequest<ReasonBody>;
      const verdict = { action, reason: body.reason ?? null };
      const { principal } = exchange;
      const record = await options.approvals.decide(principal, idOf(request), verdict, originOf(exchange));
      return { status: 200, body: viewFor(options, exchange, record) };
    },
  };
}

const idOf = ({ params }: EndpointRequest<unknown>): string => params.id ?? '';

/** An owner that nobody is: whether there is such a request is for those to know who may decide. */
const NOBODY = '-';

/** The question whether this caller may decide on this request. */
function decisionCall({ principal }: Admitted, id: string, record: ApprovalRecord | null): Call {
  return {
    action: DECIDE,
    server: record?.call.server ?? null,
    tool: null,
    parameters: {},
    annotations: null,
    schema_hash: null,
    resource: {
      type: 'approval',
      id,
      tenant_id: principal.tenant_id,
      owner_id: record?.requester.id ?? NOBODY,
      permissions: null,
    },
    llm: null,
  };
}

async function decideMany(
  { approvals, requireDecision, onRefused }: ApprovalsApiOptions,
  { exchange, body }: EndpointRequest<BatchBody>,
): Promise<EndpointReply> {
  const { principal } = exchange;
  const results: object[] = [];
  // One after the other: an id that is there twice is decided once.
  for (const { approval_id, action, reason = null } of body.decisions) {
    try {
      const record = await approvals.find(principal.tenant_id, approval_id);
      requireDecision(exchange, decisionCall(exchange, approval_id, record));
      const { state } = await approvals.decide(principal, approval_id, { action, reason }, originOf(exchange));
      results.push({ approval_id, state });
    } catch (thrown) {
      const { code, message, status } = toGatewayError(thrown);
      if (status >= 500) throw thrown;
      onRefused(exchange, approval_id, message);
      results.push({ approval_id, error: { code, message } });
    }
  }
  return { status: 200, body: { results } };
}

/** Own ones, and for approvers all of the tenant. */
async function list(
  options: ApprovalsApiOptions,
  { exchange, query }: EndpointRequest<unknown>,
): Promise<EndpointReply> {
  const { principal } = exchange;
  const limit = limitIn(query.get('limit'));
  const state = stateIn(query.get('state'));
  const before = query.get('before');
  const isApprover = options.mayDecide(exchange);
  const records = await options.approvals.list(principal.tenant_id, {
    limit,
    ...(state === null ? {} : { state }),
    ...(before === null ? {} : { before }),
    ...(isApprover ? {} : { requester_id: principal.id }),
  });
  // Who acts for somebody did not ask for what that person asked for, nor the other way round.
  const shown = isApprover ? records : records.filter((record) => isRequester(record, principal));
  const items = shown.map((record) => viewOf(record, options.publicUrl));
  const next = records.length === limit ? (records.at(-1)?.id ?? null) : null;
  return { status: 200, body: { items, next } };
}

async function show(options: ApprovalsApiOptions, request: EndpointRequest<unknown>): Promise<EndpointReply> {
  const { exchange } = request;
  const record = await options.approvals.find(exchange.principal.tenant_id, idOf(request));
  const isVisible = record !== null && (isRequester(record, exchange.principal) || options.mayDecide(exchange));
  if (!isVisible) throw new GatewayError('NOT_FOUND');
  return { status: 200, body: viewFor(options, exchange, record) };
}

function viewFor(
  { approvals, publicUrl }: ApprovalsApiOptions,
  { principal }: Admitted,
  record: ApprovalRecord,
): ApprovalView & { readonly token?: string } {
  const token = approvals.tokenFor(record, principal);
  const view = viewOf(record, publicUrl);
  return token === null ? view : { ...view, token };
}

function stateIn(text: string | null): ApprovalState | null {
  if (text === null) return null;
  const state = APPROVAL_STATES.find((known) => known === text);
  if (state !== undefined) return state;
  throw new GatewayError('INVALID_REQUEST', { message: `state: one of ${APPROVAL_STATES.join(', ')}` });
}

function limitIn(text: string | null): number {
  if (text === null) return 100;
  const limit = Number(text);
  if (/^\d{1,4}$/.test(text) && limit >= 1 && limit <= 1000) return limit;
  throw new GatewayError('INVALID_REQUEST', { message: 'limit: a whole number from 1 to 1000' });
}

function originOf({ received }: Admitted): Origin {
  const user_agent = received.headers['user-agent'] ?? null;
  return { request_id: received.id, source_ip: received.peer.address, user_agent };
}

/**
 * The policy enforcement point: one function whose body is the list of stages. Their types make any other order a
 * compile error. Every end of every request, good or bad, is reported exactly once.
 */
import type { ClassifiedCall } from '../core/call.ts';
import type { Decision, RequestFacts } from '../core/decision.ts';
import { GatewayError, toGatewayError } from '../core/errors.ts';
import type { Message, Received, Routed } from '../core/exchange.ts';
import type { Principal } from '../core/principal.ts';
import type { ProtocolName, Route } from '../core/route.ts';
import type { PolicyEngine } from '../policy/engine.ts';
import type { ErrorContext, Protocol } from '../protocols/protocol.ts';
import { tellSpent } from './limits.ts';
import type { RunningExchange, RunningExchanges } from './running.ts';
import type { Admission } from './stages/admit.ts';
import { admit } from './stages/admit.ts';
import type { ApprovalGate } from './stages/approve.ts';
import { decideWithApproval } from './stages/approve.ts';
import type { Authenticator } from './stages/authenticate.ts';
import { authenticate } from './stages/authenticate.ts';
import type { Classify, FactSources } from './stages/classify.ts';
import { classify } from './stages/classify.ts';
import type { Performing } from './stages/decide.ts';
import { Refusal } from './stages/decide.ts';
import { decode } from './stages/decode.ts';
import type { Forwarding } from './stages/forward.ts';
import { forward, sendReply } from './stages/forward.ts';
import type { RouteTable } from './stages/route.ts';
import { route } from './stages/route.ts';

export interface PipelineParts {
  readonly routes: RouteTable;
  authenticator(route: Route): Authenticator;
  readonly admission: Admission;
  protocol(name: ProtocolName): Protocol;
  /** Renders errors of requests that reached no route. */
  readonly fallback: Protocol['encodeError'];
  readonly classify: Classify;
  readonly facts: FactSources;
  readonly engine: PolicyEngine;
  readonly performing: Readonly<Record<ProtocolName, Performing>>;
  readonly forwarding: Forwarding;
  /** Absent: no call can be approved. */
  readonly approvals?: ApprovalGate | null;
  readonly running: RunningExchanges;
  onEnd(end: RequestEnd): void;
}

/** How far a request got, and how it ended: all that audit and metrics need. */
export interface RequestEnd {
  readonly received: Received;
  readonly route: Route | null;
  readonly principal: Principal | null;
  readonly message: Message | null;
  readonly calls: readonly ClassifiedCall[] | null;
  readonly decisions: readonly Decision[] | null;
  readonly status: number;
  readonly error: GatewayError | null;
  /** Of the approval that was presented or asked for. */
  readonly approvalId?: string | null;
}

/** The furthest state reached; each stage's result has the fields of the ones before. */
type Reached = { readonly received: Received; readonly facts?: RequestFacts } & Partial<
  Omit<RequestEnd, 'received' | 'status' | 'error' | 'approvalId'>
>;

/** Handles one request to its end. Never rejects. */
export async function handle(parts: PipelineParts, received: Received): Promise<void> {
  let reached: Reached = { received };
  let running: RunningExchange | null = null;
  try {
    const routed = route(parts.routes, received);
    reached = routed;
    // Stages that have nothing to wait for answer at once: each needless await is a turn of the microtask queue.
    const pending = authenticate(parts.authenticator(routed.route), routed);
    const authenticated = pending instanceof Promise ? await pending : pending;
    reached = authenticated;
    running = parts.running.enter(received, authenticated.principal, authenticated.route.id);
    const counting = admit(parts.admission, authenticated);
    const admitted = counting instanceof Promise ? await counting : counting;
    const decoded = await decode(parts.protocol(routed.route.protocol), admitted);
    reached = decoded;
    const classified = classify(parts.classify, parts.facts, decoded);
    reached = classified;
    running.message = classified.message;
    const performing = parts.performing[routed.route.protocol];
    const deciding = decideWithApproval(parts, performing, classified);
    const permitted = deciding instanceof Promise ? await deciding : deciding;
    reached = permitted;
    const status = await forward(parts.forwarding, permitted);
    if (status === SWITCHING_PROTOCOLS) parts.running.keep(running);
    parts.onEnd(endOf(reached, status, withdrawn(received)));
  } catch (thrown) {
    const error = endedEarly(received) ?? toGatewayError(thrown);
    parts.onEnd(endOf(reached, refuse(parts, reached, error), error));
  } finally {
    if (running !== null && !running.isTunnel) parts.running.leave(running);
  }
}

/** The answer is a tunnel, which outlives it. */
const SWITCHING_PROTOCOLS = 101;

/** Whatever was thrown after the client left, or after the gateway withdrew its permission, is a consequence of that. */
function endedEarly(received: Received): GatewayError | null {
  return received.cancel.aborted && !received.outgoing.writableEnded ? reasonOf(received) : null;
}

/** Why an answer that had begun was broken off from this side; null for one that went its way. */
function withdrawn(received: Received): GatewayError | null {
  if (!received.cancel.aborted) return null;
  const reason = reasonOf(received);
  return reason.code === 'CLIENT_CLOSED' ? null : reason;
}

function reasonOf({ cancel }: Received): GatewayError {
  return cancel.reason instanceof GatewayError ? cancel.reason : new GatewayError('CLIENT_CLOSED');
}

/** Answers with the error in the caller's dialect and returns the status that was sent. */
function refuse(parts: PipelineParts, reached: Reached, error: GatewayError): number {
  const { received } = reached;
  const decision = error instanceof Refusal ? (error.decisions[0]?.decision_id ?? null) : null;
  const context: ErrorContext = {
    requestId: received.id,
    decisionId: decision,
    rpcId: error.extras.rpcId ?? reached.message?.rpcId,
  };
  const routed: Routed | null = reached.route ? { received, route: reached.route } : null;
  const reply =
    routed === null
      ? parts.fallback(error, context, null)
      : parts.protocol(routed.route.protocol).encodeError(error, context, routed);
  const { spent } = error.extras;
  if (spent !== undefined && !received.outgoing.headersSent) tellSpent(received, spent);
  sendReply(received.outgoing, reply, received.id, decision);
  return reply.status;
}

function endOf(reached: Reached, status: number, error: GatewayError | null): RequestEnd {
  return {
    received: reached.received,
    route: reached.route ?? null,
    principal: reached.principal ?? null,
    message: reached.message ?? null,
    calls: reached.calls ?? null,
    decisions: reached.decisions ?? (error instanceof Refusal ? error.decisions : null),
    status,
    error,
    approvalId: reached.facts?.approval.id ?? approvalIn(error),
  };
}

function approvalIn(error: GatewayError | null): string | null {
  const id = error?.extras.data?.approval_id;
  return typeof id === 'string' ? id : null;
}

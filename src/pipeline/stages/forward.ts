/**
 * Stage 7: sends a permitted call upstream and the answer back, piece by piece with back-pressure. It takes a
 * `Permitted`, so forwarding anything undecided does not compile. Source: architecture 4, contracts 4.
 */
import type { ServerResponse } from 'node:http';
import type { GatewayError } from '../../core/errors.ts';
import type { Authenticated, LocalPlan, Permitted, Reply, UpstreamPlan } from '../../core/exchange.ts';
import type { Principal } from '../../core/principal.ts';
import type { Upstream } from '../../upstreams/upstream.ts';
import { obligedHeaders } from '../obligations.ts';
import type { ResponseWriter } from '../response.ts';
import { createResponseWriter } from '../response.ts';

export interface Forwarding {
  upstream(permitted: Permitted, plan: UpstreamPlan): Upstream;
  /** Headers with the gateway's own credential for this upstream; the caller's never leaves. */
  credential(permitted: Permitted, plan: UpstreamPlan): Readonly<Record<string, string>> | null;
  /** Absent: no upstream is told in a signed token who the caller is. */
  readonly identity?: SignedIdentity;
  /** An error event in the caller's dialect for a stream that broke off, or null to cut the connection. */
  streamError(permitted: Permitted, error: GatewayError): string | null;
  /** Joins the client's socket to the upstream's; null when the request is no WebSocket upgrade. */
  tunnel(permitted: Permitted, path: string, headers: Readonly<Record<string, string>>): Promise<number> | null;
}

export interface SignedIdentity {
  /** Headers that carry a token to some upstream, lower case: nobody else fills them. */
  readonly names: readonly string[];
  /** The header with the caller's token for this upstream; null where there is none to be sent. */
  headers(permitted: Permitted, plan: UpstreamPlan): Readonly<Record<string, string>> | null;
}

/** Resolves with the status that was sent; rejects with a GatewayError only while nothing was sent yet. */
export async function forward(forwarding: Forwarding, permitted: Permitted): Promise<number> {
  const { plan } = permitted.message;
  return plan.kind === 'local' ? answerLocally(permitted, plan) : dispatch(forwarding, permitted, plan);
}

async function answerLocally(permitted: Permitted, plan: LocalPlan): Promise<number> {
  const reply = await plan.answer(permitted);
  sendReply(permitted.received.outgoing, reply, permitted.received.id, decisionId(permitted));
  return reply.status;
}

/** Writes a whole answer with the two ids every response carries. */
export function sendReply(outgoing: ServerResponse, reply: Reply, requestId: string, decision: string | null): void {
  if (outgoing.headersSent) {
    outgoing.destroy();
    return;
  }
  // A reply may name the request as its caller does.
  const headers: Record<string, string | number | string[]> = { 'x-request-id': requestId, ...reply.headers };
  if (reply.cookies !== undefined) headers['set-cookie'] = [...reply.cookies];
  if (decision !== null) headers['x-decision-id'] = decision;
  if (reply.status !== 204 && reply.status !== 304) headers['content-length'] = Buffer.byteLength(reply.body);
  outgoing.writeHead(reply.status, headers);
  outgoing.end(reply.body);
}

export function decisionId(permitted: Permitted): string | null {
  return permitted.decisions[0]?.decision_id ?? null;
}

function dispatch(forwarding: Forwarding, permitted: Permitted, plan: UpstreamPlan): Promise<number> {
  const { received, message, route } = permitted;
  const headers = upstreamHeaders(forwarding, permitted, plan);
  const tunnel = forwarding.tunnel(permitted, plan.path, headers);
  if (tunnel !== null) return tunnel;
  const upstream = forwarding.upstream(permitted, plan);
  return new Promise((resolve, reject) => {
    const writer: ResponseWriter = createResponseWriter(permitted, plan, {
      finished: resolve,
      failed: reject,
      streamError: (error) => forwarding.streamError(permitted, error),
    });
    upstream.dispatch(
      {
        method: plan.method,
        path: plan.path,
        headers,
        body: message.body ?? unreadBody(permitted),
        headersTimeoutMs: route.limits.headers_timeout_ms,
        idleTimeoutMs: route.limits.idle_timeout_ms,
      },
      writer,
      received.cancel,
    );
  });
}

/** A body nobody needed to read is piped as it arrives; a request without one has none. */
function unreadBody({ received }: Permitted): NodeJS.ReadableStream | null {
  const { headers, incoming } = received;
  const hasBody = headers['transfer-encoding'] !== undefined || (headers['content-length'] ?? '0') !== '0';
  return hasBody ? incoming : null;
}

function upstreamHeaders(
  forwarding: Forwarding,
  permitted: Permitted,
  plan: UpstreamPlan,
): Readonly<Record<string, string>> {
  const headers: Record<string, string> = { ...plan.headers };
  const obliged = obligedHeaders(permitted.decisions);
  if (obliged !== null) Object.assign(headers, obliged);
  addIdentity(headers, permitted);
  if (forwarding.identity !== undefined) for (const name of forwarding.identity.names) delete headers[name];
  const credential = forwarding.credential(permitted, plan);
  if (credential !== null) Object.assign(headers, credential);
  const identity = forwarding.identity?.headers(permitted, plan) ?? null;
  if (identity !== null) Object.assign(headers, identity);
  return headers;
}

/** What an upstream is told of the caller. It replaces whatever of these names was there. Source: contracts 4. */
export function identityHeaders(exchange: Authenticated): Record<string, string> {
  const headers: Record<string, string> = {};
  addIdentity(headers, exchange);
  return headers;
}

function addIdentity(headers: Record<string, string>, { received, principal, route }: Authenticated): void {
  headers['x-request-id'] = received.id;
  headers['x-auth-user'] = headerText(principal.id);
  // No header rather than an empty one: what an upstream makes of that is anybody's guess.
  const roles = rolesHeader(principal);
  if (roles !== '') headers['x-auth-roles'] = roles;
  if (principal.actor !== null) headers['x-auth-actor'] = headerText(principal.actor.id);
  if (route.tenant_header) headers['x-tenant-id'] = headerText(principal.tenant_id);
  if (route.user_header === true) headers['x-user-id'] = headerText(principal.id);
}

const VISIBLE_ASCII = /^[\x21-\x24\x26-\x7e]*$/;

/** Identity may hold any text; a header may not: everything but visible ASCII is percent-encoded. */
export function headerText(text: string): string {
  return VISIBLE_ASCII.test(text) ? text : encodeURIComponent(text.toWellFormed());
}

const rolesText = new WeakMap<Principal, string>();

/** Principals live in the identity caches, so the text is made once for each. */
function rolesHeader(principal: Principal): string {
  let text = rolesText.get(principal);
  if (text === undefined) {
    text = principal.roles.map((role) => headerText(role).replaceAll(',', '%2C')).join(',');
    rolesText.set(principal, text);
  }
  return text;
}

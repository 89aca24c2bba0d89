/**
 * The states of one request. Each stage of the pipeline takes one and gives the next, so that any other order is a
 * compile error. Source: architecture 3 and 4.
 */
import type { IncomingMessage, ServerResponse } from 'node:http';
import type { Call, ClassifiedCall } from './call.ts';
import type { CancelSignal } from './cancel.ts';
import type { Decision, RequestFacts } from './decision.ts';
import type { GatewayError } from './errors.ts';
import type { JsonValue } from './json.ts';
import type { Principal } from './principal.ts';
import type { Route } from './route.ts';

/** The other end of the client connection. */
export interface Peer {
  /** Client address after trusted proxies were taken off; IPv4-mapped IPv6 is shown as IPv4. */
  readonly address: string;
  readonly encrypted: boolean;
  /** The host name the client asked for, validated; without port. */
  readonly host: string;
}

/** After hygiene: one canonical path, singleton headers, no ambiguity left. */
export interface Received {
  readonly id: string;
  readonly method: string;
  /** Canonical path: starts with `/`, no dot segments, no doubled slashes, no encoded separators. */
  readonly path: string;
  /** Raw query with its `?`, or the empty string. */
  readonly query: string;
  /** Lower-case names; hop-by-hop and identity headers of the client are already gone. */
  readonly headers: Readonly<Record<string, string>>;
  readonly peer: Peer;
  /** Epoch milliseconds: the one clock reading of this request. */
  readonly receivedAt: number;
  readonly incoming: IncomingMessage;
  readonly outgoing: ServerResponse;
  /** Ends it from the gateway's side: `reason` is the answer, or how a begun answer breaks off. Once is enough. */
  abort(reason: GatewayError): void;
  /** Aborted when the client goes away, or by `abort`. Made when first asked for; the data plane uses `cancel`. */
  readonly signal: AbortSignal;
  /** The same, without the cost of an AbortSignal. */
  readonly cancel: CancelSignal;
}

export interface Routed {
  readonly received: Received;
  readonly route: Route;
}

export interface Authenticated extends Routed {
  readonly principal: Principal;
}

export interface Admitted extends Authenticated {
  readonly rate: RequestFacts['rate'];
  /** Epoch milliseconds at which the counting window ends. */
  readonly rateResetAt: number;
}

/** Which error dialect the caller speaks. */
export type Dialect = 'jsonrpc' | 'openai' | 'problem';

/** Where the call goes when it is permitted. */
export interface UpstreamPlan {
  readonly kind: 'upstream';
  /** Name of the upstream (server, model or HTTP route). */
  readonly upstream: string;
  readonly method: string;
  /** Path and query on the upstream. */
  readonly path: string;
  /** Request headers that go upstream besides what the gateway itself sets; already an allow-list. */
  readonly headers: Readonly<Record<string, string>>;
  /** Rewrites response messages (a filtered list); null passes the bytes through untouched. */
  readonly rewrite: MessageRewriter | null;
}

/** Answered by the gateway itself once permitted. */
export interface LocalPlan {
  readonly kind: 'local';
  answer(permitted: Permitted): Promise<Reply> | Reply;
}

export interface Reply {
  readonly status: number;
  readonly headers: Readonly<Record<string, string>>;
  readonly body: string | Buffer;
  /** Lines of `Set-Cookie` besides one among the headers. */
  readonly cookies?: readonly string[];
}

/** Lower-case names; repeated headers as arrays. */
export type ResponseHeaders = Readonly<Record<string, string | readonly string[]>>;

/**
 * Rewrites one JSON message of the response, be it a whole JSON body or the data of one SSE event. Returns null to
 * keep the bytes as received, and `'drop'` to leave the message out (SSE only).
 */
export interface MessageRewriter {
  /**
   * Sees the response head before the client does and gives the headers to send. Throws a GatewayError to refuse the
   * response: then nothing of it is sent, and the error is the answer. Absent: the headers stay as they are.
   */
  head?(status: number, headers: ResponseHeaders): ResponseHeaders;
  message(text: string): string | null | 'drop';
}

/** What a protocol read from the request. */
export interface Message {
  /** What must be decided, in order. */
  readonly calls: readonly Call[];
  /** `all`: each call must be allowed. `filter`: allowed ones are kept and the plan sees which. */
  readonly mode: 'all' | 'filter';
  /** The received bytes, which are what is forwarded; null when the body is streamed without being read. */
  readonly body: Buffer | null;
  readonly dialect: Dialect;
  /** JSON-RPC id to answer under; undefined outside JSON-RPC and for notifications. */
  readonly rpcId: JsonValue | undefined;
  readonly plan: UpstreamPlan | LocalPlan;
  /** The approval token that stood in the message, of which it was taken out. Absent: none. */
  readonly approvalToken?: string;
}

/** What obligations change about a message that is otherwise forwarded as it was received. */
export interface Amendment {
  /** Names of parameters to leave out, compared as `foldName` compares. */
  readonly removed: readonly string[];
  /** Names of members to hide in what comes back. */
  readonly hidden: readonly string[];
  /** The most a numeric parameter may be, by name. */
  readonly ceilings: ReadonlyMap<string, number>;
  /** Request headers to add upstream; null: none. */
  readonly headers: Readonly<Record<string, string>> | null;
}

export interface Decoded extends Admitted {
  readonly message: Message;
}

export interface Classified extends Decoded {
  readonly facts: RequestFacts;
  readonly calls: readonly ClassifiedCall[];
}

declare const permitted: unique symbol;

/** Only `pipeline/stages/decide.ts` makes one, and only one of these can be forwarded. */
export interface Permitted extends Classified {
  /** One per call, same order. */
  readonly decisions: readonly Decision[];
  readonly [permitted]: true;
}

/** What of a route says which entrypoint of the policy decides on it. */
export type AskedRoute = Pick<Route, 'entrypoint' | 'place'>;

/**
 * Asks classify + decide again for calls found on the way (list filtering, tool calls in a stream). `routesOf`: for calls
 * that would be made on other routes than this request; where there are several, all of them must allow.
 */
export type Judge = (
  exchange: Admitted,
  calls: readonly Call[],
  routesOf?: (call: Call) => readonly AskedRoute[],
) => readonly Decision[];

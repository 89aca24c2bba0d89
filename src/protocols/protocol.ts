/** What a protocol does for the pipeline: read the request, and put errors in the caller's words. */
import type { Call } from '../core/call.ts';
import type { GatewayError } from '../core/errors.ts';
import type { Admitted, Amendment, Decoded, Message, Reply, Routed } from '../core/exchange.ts';
import type { JsonValue } from '../core/json.ts';

export interface ErrorContext {
  readonly requestId: string;
  readonly decisionId: string | null;
  /** JSON-RPC id, when the request got far enough to have one. */
  readonly rpcId: JsonValue | undefined;
}

export interface Protocol {
  /** Reads what it needs of the body, checks it, and says what is asked for. Throws a GatewayError for bad input. */
  decode(exchange: Admitted): Promise<Message>;
  /**
   * The message as obligations want it, or null when this protocol cannot do what is asked of this message: then the
   * call is refused. Absent: it can do nothing. Called only for decisions with obligations that change something.
   */
  amend?(decoded: Decoded, amendment: Amendment): Message | null;
  /**
   * The calls with what their servers say of the tools at this moment, or the very same ones where nothing changed; null
   * when a server does not tell. Absent: there is nobody to ask. Called only where a person has a say.
   */
  current?(decoded: Decoded): Promise<readonly Call[] | null>;
  /** The one place that writes errors in this dialect. `exchange` is null when no route was found. */
  encodeError(error: GatewayError, context: ErrorContext, exchange: Routed | null): Reply;
  /**
   * The event that ends an event stream which broke off, so that it never looks complete; absent or null: the
   * connection is cut instead.
   */
  encodeStreamError?(error: GatewayError, context: ErrorContext): string | null;
  /** False: a path below the route that this protocol has nothing for, and a shorter route may. Absent: all of them. */
  serves?(path: string): boolean;
}

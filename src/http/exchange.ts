/** One request and its answer as the door hands them on. */
import type { IncomingMessage, OutgoingHttpHeader, OutgoingHttpHeaders } from 'node:http';
import { ServerResponse } from 'node:http';
import type { Socket } from 'node:net';
import type { CancelListener, CancelSignal } from '../core/cancel.ts';
import { GatewayError } from '../core/errors.ts';
import type { Peer, Received } from '../core/exchange.ts';
import type { Grant } from './cors.ts';
import { withGrant } from './cors.ts';
import type { Clean } from './hygiene.ts';

/** A `Received` that is its own cancel signal; a real abort signal is made only when somebody asks for it. */
export class Exchange implements Received, CancelSignal {
  readonly id: string;
  readonly method: string;
  readonly path: string;
  readonly query: string;
  readonly headers: Readonly<Record<string, string>>;
  readonly peer: Peer;
  readonly receivedAt: number;
  readonly incoming: IncomingMessage;
  readonly outgoing: DoorResponse;
  private controller: AbortController | null = null;
  private listeners: CancelListener[] | null = null;
  private gone: GatewayError | null = null;

  constructor(id: string, clean: Clean, receivedAt: number, outgoing: DoorResponse) {
    this.id = id;
    this.method = clean.method;
    this.path = clean.path;
    this.query = clean.query;
    this.headers = clean.headers;
    this.peer = clean.peer;
    this.receivedAt = receivedAt;
    this.incoming = outgoing.req;
    this.outgoing = outgoing;
  }

  get signal(): AbortSignal {
    if (this.controller === null) {
      this.controller = new AbortController();
      if (this.gone !== null) this.controller.abort(this.gone);
    }
    return this.controller.signal;
  }

  get cancel(): CancelSignal {
    return this;
  }

  get aborted(): boolean {
    return this.gone !== null;
  }

  get reason(): unknown {
    return this.gone ?? undefined;
  }

  addEventListener(_type: 'abort', listener: CancelListener): void {
    if (this.listeners === null) this.listeners = [listener];
    else this.listeners.push(listener);
  }

  removeEventListener(_type: 'abort', listener: CancelListener): void {
    const at = this.listeners?.indexOf(listener) ?? -1;
    if (at >= 0) this.listeners?.splice(at, 1);
  }

  /** By default: the connection is gone before the answer was complete. */
  abort(reason: GatewayError = new GatewayError('CLIENT_CLOSED')): void {
    if (this.gone !== null) return;
    this.gone = reason;
    this.controller?.abort(this.gone);
    // A copy: listeners take themselves off.
    for (const listener of [...(this.listeners ?? [])]) listener.handleEvent();
  }
}

/** Connections whose last answer has been decided on while the client may still be sending. */
const over = new WeakSet<Socket>();

/** Whatever else arrives on this connection must have no effect: its answer could never be delivered. */
export function isOver(socket: Socket): boolean {
  return over.has(socket);
}

/** @returns false when it was over already */
export function markOver(socket: Socket): boolean {
  if (over.has(socket)) return false;
  over.add(socket);
  return true;
}

/** Connections whose client is still sending a body that has had its answer. */
const answered = new WeakSet<Socket>();

/** True while what arrives is the rest of a body that was answered before it was whole: it gets no second answer. */
export function isAnswered(socket: Socket): boolean {
  return answered.has(socket);
}

type HeaderList = OutgoingHttpHeaders | OutgoingHttpHeader[];

/**
 * Adds what every answer carries, in the one place that every answer passes: the request id, the CORS grant of the door
 * (and no other), and `Connection: close` where the connection must not be used again.
 */
export class DoorResponse extends ServerResponse<IncomingMessage> {
  /** Request id; empty until the door has given one. */
  id = '';
  exchange: Exchange | null = null;
  /** Headers for a browser page; null when CORS plays no part in this answer. */
  grant: Grant | null = null;
  /** Nothing else may be read from this connection. */
  lastOnConnection = false;
  /** Somebody has the connection for a tunnel of their own and answered there. */
  takenOver = false;
  /** The door's requests in flight, this one among them until its answer is over. */
  private active: Set<Exchange> | null = null;

  /** Gives the answer its request, which counts as in flight until the answer is written or the connection gone. */
  open(exchange: Exchange, active: Set<Exchange>): void {
    this.id = exchange.id;
    this.exchange = exchange;
    this.active = active;
    active.add(exchange);
    this.on('close', this.release);
  }

  /** Takes the request out of those in flight; aborts it when its answer is not complete. */
  release(): void {
    const { exchange, active } = this;
    if (exchange === null || active === null || !active.delete(exchange)) return;
    if (!this.writableFinished) exchange.abort();
  }

  override detachSocket(socket: Socket): void {
    super.detachSocket(socket);
    if (!this.headersSent) this.takenOver = true;
  }

  override writeHead(status: number, reason?: string | HeaderList, headers?: HeaderList): this {
    const given = typeof reason === 'string' ? headers : reason;
    const text = typeof reason === 'string' ? reason : undefined;
    if (this.lastOnConnection) this.endConnection();
    else if (!this.req.complete) this.settleBody();
    const found = scan(given);
    const final = this.grant === null && !found.grants ? given : withGrant(given, this.grant);
    if (!found.id && this.id !== '') this.setHeader('x-request-id', this.id);
    return text === undefined ? super.writeHead(status, final) : super.writeHead(status, text, final);
  }

  /**
   * Part of the request body is still to come while the answer begins. A small rest is read and thrown away, so that the
   * next request is found where it starts; for more, or where the client waits for `100 Continue`, the connection ends.
   */
  private settleBody(): void {
    if (this.exchange === null) return;
    const { headers } = this.exchange;
    const length = Number(headers['content-length'] ?? 0);
    const chunked = headers['transfer-encoding'] !== undefined;
    if (!chunked && length === 0) return;
    if (chunked || length > DISCARDED_BYTES || headers.expect !== undefined) this.leaveBodyUnread();
    else this.discardRest();
  }

  private discardRest(): void {
    const { req } = this;
    answered.add(req.socket);
    req.once('end', () => answered.delete(req.socket));
    this.once('finish', discardBody);
  }

  private endConnection(): void {
    this.shouldKeepAlive = false;
    over.add(this.req.socket);
  }

  /** The connection ends with this answer; what is still sent of the body is read for a moment and thrown away. */
  leaveBodyUnread(): void {
    this.endConnection();
    this.req.socket.destroySoon = lingering;
    this.once('finish', discardBody);
  }
}

const NOTHING = { id: false, grants: false };
const ID = { id: true, grants: false };
const GRANTS = { id: false, grants: true };
const BOTH = { id: true, grants: true };

/** Looks for a request id, and for CORS headers that somebody behind the door wrote. */
function scan(headers: HeaderList | undefined): { readonly id: boolean; readonly grants: boolean } {
  if (headers === undefined) return NOTHING;
  let id = false;
  let grants = false;
  if (Array.isArray(headers)) {
    for (let i = 0; i < headers.length; i += 2) {
      const name = String(headers[i]);
      if (isIdName(name)) id = true;
      else if (isGrantName(name)) grants = true;
    }
  } else {
    for (const name in headers) {
      if (isIdName(name)) id = true;
      else if (isGrantName(name)) grants = true;
    }
  }
  if (id) return grants ? BOTH : ID;
  return grants ? GRANTS : NOTHING;
}

const isIdName = (name: string): boolean => name.length === 12 && name.toLowerCase() === 'x-request-id';

const isGrantName = (name: string): boolean =>
  name.length > 15 && (name.charCodeAt(0) | 32) === 0x61 && name.toLowerCase().startsWith('access-control-');

/** A body of up to this many bytes is cheaper to read than a new connection. */
const DISCARDED_BYTES = 65_536;

function discardBody(this: DoorResponse): void {
  this.req.resume();
}

function lingering(this: Socket): void {
  lingeringClose(this);
}

/** How long a refused upload is still read, so that the answer is not destroyed by a reset. */
const LINGER_MS = 1000;

/**
 * Ends a connection whose client may still be sending: the answer first, then a half-close, then a short time of
 * reading and discarding. Closing at once would make the kernel reset the connection and the answer be lost
 * (RFC 9112 section 9.6).
 */
export function lingeringClose(socket: Socket): void {
  if (socket.destroyed) return;
  if (!socket.writableEnded) socket.end();
  const timer = setTimeout(() => socket.destroy(), LINGER_MS);
  timer.unref();
  socket.once('close', () => clearTimeout(timer));
  socket.once('end', () => socket.destroy());
}

/** The contract of a listener: what it needs and what it offers. */
import type { AddressInfo, Socket } from 'node:net';
import type { Clock } from '../core/clock.ts';
import type { GatewayError } from '../core/errors.ts';
import type { Received, Reply } from '../core/exchange.ts';
import type { Logger } from '../core/module.ts';
import type { ConnectionLimits } from './connections.ts';
import type { ControlApp } from './control.ts';
import type { CorsPolicy } from './cors.ts';
import type { HostRule } from './host.ts';
import type { TlsFiles } from './tls.ts';

/** Limits of a listener, spelled as in the config. */
export interface DoorLimits extends ConnectionLimits {
  readonly header_bytes: number;
  readonly header_count: number;
  readonly target_bytes: number;
  readonly headers_timeout_ms: number;
  readonly request_timeout_ms: number;
  readonly keep_alive_ms: number;
  readonly write_timeout_ms: number;
  readonly max_in_flight: number;
}

/** What a refused request is known by: for audit and metrics. `received` is null when the request itself was unreadable. */
export interface DoorRefusal {
  readonly id: string;
  readonly error: GatewayError;
  readonly method: string | null;
  /** Raw request target without its query, at most 256 characters; it may hold anything. */
  readonly target: string | null;
  readonly address: string;
  readonly received: Received | null;
}

export interface DoorOptions {
  /** `HOST:PORT` or `[V6]:PORT`; port 0 takes a free one. */
  readonly listen: string;
  readonly limits: DoorLimits;
  readonly tls?: TlsFiles | undefined;
  /** CIDR ranges whose `X-Forwarded-*` and `X-Request-ID` are believed. */
  readonly trustedProxies: readonly string[];
  /** Which Host headers are answered: see `hostRule`. */
  readonly hosts: HostRule;
  readonly cors: CorsPolicy;
  /**
   * Paths where a page of a foreign origin is refused with ORIGIN_DENIED instead of merely not being able to read. With
   * credentials that a browser adds by itself (`ambient.ts`) it is refused everywhere.
   */
  guardsOrigin(path: string): boolean;
  /** Paths of the data plane; all others go to `app`. */
  isDataPath(path: string): boolean;
  /** Handles a data-plane request to its end. */
  onRequest(received: Received): void | Promise<void>;
  /** Handles a WebSocket upgrade; answers through `outgoing`, or detaches it from the socket and takes that over. */
  readonly onUpgrade?: ((received: Received, socket: Socket, head: Buffer) => void | Promise<void>) | undefined;
  readonly app: ControlApp;
  /** Renders the door's own refusals. */
  renderError(error: GatewayError, requestId: string): Reply;
  onRefused?(refusal: DoorRefusal): void;
  /** A connection over a limit was not taken. */
  onConnectionRefused?(reason: 'total' | 'address'): void;
  /** The certificate files changed: whether the new ones are in use. */
  onTlsReload?(ok: boolean): void;
  readonly clock: Clock;
  readonly logger: Logger;
}

export interface Door {
  /** Resolves once connections are accepted. Rejects when the address is taken. */
  start(): Promise<AddressInfo>;
  /** Requests being served right now. */
  readonly inFlight: number;
  readonly connections: number;
  readonly draining: boolean;
  /**
   * Ends the listener without losing a request: goes on accepting for `settleMs` while answers say `Connection: close`,
   * then stops accepting and waits for what is in flight, in all at most `ms` milliseconds. What is left is answered with
   * SHUTTING_DOWN, or cut when its answer had begun.
   */
  drain(ms: number, settleMs?: number): Promise<{ readonly drained: boolean }>;
  /** Cuts everything at once. */
  close(): Promise<void>;
}

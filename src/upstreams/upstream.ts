/** One upstream origin: pool, breaker, time-outs. Source: acceptance S-80, S-85; contracts 8. */

import type { CancelSignal } from '../core/cancel.ts';

export interface UpstreamRequest {
  readonly method: string;
  /** Path and query. */
  readonly path: string;
  readonly headers: Readonly<Record<string, string>>;
  readonly body: Buffer | NodeJS.ReadableStream | null;
  readonly headersTimeoutMs: number;
  readonly idleTimeoutMs: number;
}

/** Pauses and resumes the upstream socket: back-pressure from the client. */
export interface Flow {
  pause(): void;
  resume(): void;
  abort(reason: Error): void;
}

/** Receives the response. Exactly one of `end` and `error` comes last. */
export interface ResponseSink {
  /** `headers`: lower-case names, hop-by-hop ones removed; repeated headers (set-cookie) as arrays. */
  head(status: number, headers: Readonly<Record<string, string | readonly string[]>>, flow: Flow): void;
  data(chunk: Buffer): void;
  end(): void;
  /**
   * A GatewayError: UPSTREAM_ERROR, UPSTREAM_CIRCUIT_OPEN, GATEWAY_TIMEOUT, CLIENT_CLOSED, INVALID_REQUEST (it cannot be
   * written as HTTP) or SHUTTING_DOWN.
   */
  error(error: Error): void;
}

export interface BufferedResponse {
  readonly status: number;
  readonly headers: Readonly<Record<string, string | readonly string[]>>;
  readonly body: Buffer;
}

export interface UpstreamHealth {
  readonly state: 'closed' | 'open' | 'half_open';
  readonly active: number;
  readonly idle: number;
  readonly waiting: number;
}

export interface Upstream extends AsyncDisposable {
  readonly name: string;
  /** Base path of the configured URL, without trailing slash; `''` for none. */
  readonly basePath: string;
  readonly encrypted: boolean;
  /** Streams: the data plane's way. */
  dispatch(request: UpstreamRequest, sink: ResponseSink, signal: CancelSignal): void;
  /** Buffers up to `maxBytes`: for calls the gateway makes for itself. Rejects with a GatewayError. */
  request(request: UpstreamRequest, signal: CancelSignal, maxBytes: number): Promise<BufferedResponse>;
  health(): UpstreamHealth;
  /** Closes the breaker by hand. */
  reset(): void;
}

/**
 * An HTTP/1.1 upstream on one undici pool per origin. No interceptor, no retry, no cache, no decoding: bytes in, bytes
 * out, with back-pressure. Source: acceptance S-80, S-85, SF-65; security 2.2 (outbound).
 */
import type { Socket } from 'node:net';
import type { Readable } from 'node:stream';
import { buildConnector, Client, type Dispatcher, Pool } from 'undici';
import type { UpstreamOptions } from '../config/schema.ts';
import type { CancelSignal } from '../core/cancel.ts';
import { GatewayError } from '../core/errors.ts';
import { Attempt, reasonOf } from './attempt.ts';
import { Breaker, type BreakerState } from './breaker.ts';
import { requestHeaders } from './headers.ts';
import type { BufferedResponse, Flow, ResponseSink, Upstream, UpstreamHealth, UpstreamRequest } from './upstream.ts';

export interface HttpUpstreamOptions {
  readonly name: string;
  /** Configured URL: its origin is pooled, its path becomes `basePath`. */
  readonly url: string;
  /** Time-outs, breaker and pool figures; `ca` is a path and not read here. */
  readonly options: UpstreamOptions;
  /** PEM text of the certificate authority to trust instead of the system's, or null. */
  readonly ca: string | null;
  /** Told of every change of the breaker. */
  onStateChange?(state: BreakerState): void;
}

/** Time for connecting and waiting for headers may pass before the breaker gives a call up; undici's timers are coarse. */
const SLACK_MS = 1000;
const RESPONSE_HEADER_BYTES = 32_768;
const SWEEP_MS = 1000;

const ignore = (): void => {};

/** Makes the pool of one origin. Connections are opened when needed; dispose it to close them. */
export function createHttpUpstream(options: HttpUpstreamOptions): Upstream {
  return new HttpUpstream(options);
}

class HttpUpstream implements Upstream {
  readonly name: string;
  readonly basePath: string;
  readonly encrypted: boolean;
  readonly #pool: Pool;
  readonly #breaker: Breaker;
  readonly #idle: IdleConnections;

  constructor({ name, url, options, ca, onStateChange }: HttpUpstreamOptions) {
    const parsed = new URL(url);
    this.name = name;
    this.basePath = parsed.pathname.replace(/\/+$/, '');
    this.encrypted = parsed.protocol === 'https:';
    this.#idle = new IdleConnections(options.pool.max_keepalive);
    this.#pool = createPool(parsed.origin, options, ca, this.#idle);
    this.#breaker = new Breaker({
      ...options.breaker,
      timeout_ms: options.pool.connect_timeout_ms + options.headers_timeout_ms + SLACK_MS,
      ...(onStateChange === undefined ? {} : { onStateChange }),
    });
  }

  dispatch(request: UpstreamRequest, sink: ResponseSink, signal: CancelSignal): void {
    if (signal.aborted) {
      sink.error(reasonOf(signal));
      return;
    }
    const retryAfter = this.#breaker.refusal();
    if (retryAfter !== null) {
      sink.error(new GatewayError('UPSTREAM_CIRCUIT_OPEN', { retryAfter }));
      return;
    }
    this.#breaker.run(new Attempt(request, sink, signal, this.#start));
  }

  request(request: UpstreamRequest, signal: CancelSignal, maxBytes: number): Promise<BufferedResponse> {
    return new Promise((resolve, reject) => {
      this.dispatch(request, new Collector(maxBytes, resolve, reject), signal);
    });
  }

  health(): UpstreamHealth {
    const { connected, running, pending } = this.#pool.stats;
    return {
      state: this.#breaker.state,
      active: running,
      idle: Math.max(0, connected - running),
      waiting: pending,
    };
  }

  reset(): void {
    this.#breaker.reset();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#idle.close();
    await this.#pool.destroy();
    this.#breaker.close();
  }

  /** Shared by all attempts, so that none needs a closure. */
  readonly #start = (attempt: Attempt): void => {
    const { request } = attempt;
    const streamed = request.body !== null && !Buffer.isBuffer(request.body);
    // undici listens only while it sends: an upload that breaks before or after must not become an uncaught error.
    if (streamed) (request.body as Readable).on('error', ignore);
    this.#pool.dispatch(
      {
        path: request.path,
        method: request.method,
        headers: requestHeaders(request.headers, streamed),
        body: request.body as Buffer | Readable | null,
        headersTimeout: request.headersTimeoutMs,
        bodyTimeout: request.idleTimeoutMs,
      },
      attempt as Dispatcher.DispatchHandler,
    );
    this.#idle.schedule();
  };
}

function createPool(origin: string, options: UpstreamOptions, ca: string | null, idle: IdleConnections): Pool {
  const { pool } = options;
  const connect = buildConnector({
    timeout: pool.connect_timeout_ms,
    // HTTP/2 frames requests differently from what was inspected, and one connection would carry many callers.
    allowH2: false,
    keepAlive: true,
    ...(ca === null ? {} : { ca }),
  });
  return new Pool(origin, {
    connections: pool.max_connections,
    pipelining: 1,
    allowH2: false,
    connect,
    // A hint of the upstream may shorten the life of an idle connection, never lengthen it.
    keepAliveTimeout: pool.keepalive_expiry_ms,
    keepAliveMaxTimeout: pool.keepalive_expiry_ms,
    maxHeaderSize: RESPONSE_HEADER_BYTES,
    headersTimeout: options.headers_timeout_ms,
    bodyTimeout: options.idle_timeout_ms,
    factory: (to, clientOptions) => idle.track(to, clientOptions, connect),
  });
}

/** undici bounds connections but not idle ones: after a burst, those beyond the limit are closed. */
class IdleConnections {
  readonly #limit: number;
  readonly #sockets = new Map<Client, Socket | null>();
  #sweep: NodeJS.Timeout | null = null;

  constructor(limit: number) {
    this.#limit = limit;
  }

  track(origin: URL, options: object, connect: buildConnector.connector): Client {
    const client: Client = new Client(origin, {
      ...options,
      connect: (to: buildConnector.Options, done: buildConnector.Callback) => {
        connect(to, (...result) => {
          if (this.#sockets.has(client)) this.#sockets.set(client, result[1]);
          done(...result);
        });
      },
    });
    this.#sockets.set(client, null);
    // The pool retires a client whose connection failed.
    client.once('connectionError', () => this.#sockets.delete(client));
    return client;
  }

  /** Looks again in a second when there are more connections than may idle. */
  schedule(): void {
    if (this.#sweep !== null || this.#sockets.size <= this.#limit) return;
    this.#sweep = setTimeout(() => {
      this.#sweep = null;
      if (this.trim() > 0) this.schedule();
    }, SWEEP_MS);
    this.#sweep.unref();
  }

  /** Closes idle connections beyond the limit; answers how many others are open beyond it. */
  trim(): number {
    let idle = 0;
    let open = 0;
    for (const [client, socket] of this.#sockets) {
      if (socket === null || socket.destroyed) continue;
      if (client.stats.size > 0) open++;
      else if (++idle > this.#limit) socket.destroy();
      else open++;
    }
    return open - this.#limit;
  }

  close(): void {
    if (this.#sweep !== null) clearTimeout(this.#sweep);
    this.#sockets.clear();
  }
}

/** Holds a whole answer, up to a limit. */
class Collector implements ResponseSink {
  readonly #maxBytes: number;
  readonly #resolve: (response: BufferedResponse) => void;
  readonly #reject: (error: Error) => void;
  readonly #chunks: Buffer[] = [];
  #size = 0;
  #status = 0;
  #headers: BufferedResponse['headers'] = {};
  #flow: Flow | null = null;

  constructor(maxBytes: number, resolve: (response: BufferedResponse) => void, reject: (error: Error) => void) {
    this.#maxBytes = maxBytes;
    this.#resolve = resolve;
    this.#reject = reject;
  }

  head(status: number, headers: BufferedResponse['headers'], flow: Flow): void {
    this.#status = status;
    this.#headers = headers;
    this.#flow = flow;
  }

  data(chunk: Buffer): void {
    this.#size += chunk.length;
    if (this.#size <= this.#maxBytes) {
      this.#chunks.push(chunk);
      return;
    }
    const message = `The upstream answered with more than ${this.#maxBytes} bytes`;
    this.#flow?.abort(new GatewayError('UPSTREAM_ERROR', { message }));
  }

  end(): void {
    this.#resolve({ status: this.#status, headers: this.#headers, body: Buffer.concat(this.#chunks, this.#size) });
  }

  error(error: Error): void {
    this.#reject(error);
  }
}

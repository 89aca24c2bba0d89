/**
 * One call to an upstream: receives undici's callbacks, tells the sink, the breaker and the client's abort signal
 * apart. A class with few fields, because one is made for every request. Source: acceptance S-80, X-06; security 2.2.
 */
import type { CancelSignal } from '../core/cancel.ts';
import { GatewayError } from '../core/errors.ts';
import type { Trial, Verdict } from './breaker.ts';
import { responseHeaders } from './headers.ts';
import type { Flow, ResponseSink, UpstreamRequest } from './upstream.ts';

/** What undici hands to its handler: the part that is used here. */
export interface Controller extends Flow {
  readonly aborted: boolean;
}

/** Interim responses are swallowed; an upstream that sends more of them than this is not answering. */
const MAX_INTERIM = 16;

type RawHeaders = Readonly<Record<string, string | readonly string[] | undefined>>;

export class Attempt implements Trial {
  readonly request: UpstreamRequest;
  readonly #sink: ResponseSink;
  readonly #signal: CancelSignal;
  readonly #start: (attempt: Attempt) => void;
  #report: ((verdict: Verdict) => void) | null = null;
  #controller: Controller | null = null;
  /** Set when it ended before undici had a connection for it: such a request is cut as soon as it starts. */
  #cause: Error | null = null;
  #interim = 0;
  #sent = false;
  #ended = false;

  constructor(request: UpstreamRequest, sink: ResponseSink, signal: CancelSignal, start: (attempt: Attempt) => void) {
    this.request = request;
    this.#sink = sink;
    this.#signal = signal;
    this.#start = start;
  }

  begin(report: (verdict: Verdict) => void): void {
    this.#report = report;
    this.#signal.addEventListener('abort', this);
    this.#start(this);
  }

  /** A client that uploads slowly is nobody's fault and may go on; all other calls without an answer are cut. */
  overdue(): Verdict {
    this.#report = null;
    if (this.#ended) return 'neutral';
    const started = this.#controller !== null;
    const uploading = started && !this.#sent && isStream(this.request.body);
    if (!uploading) this.#cut(timedOut(started ? undefined : 'No connection to the upstream was free in time'));
    return started && !uploading ? 'fault' : 'neutral';
  }

  /** The client went away (an `EventListenerObject`, so that no closure is needed). */
  handleEvent(): void {
    this.#verdict('neutral');
    this.#cut(reasonOf(this.#signal));
  }

  onRequestStart(controller: Controller): void {
    this.#controller = controller;
    if (this.#cause !== null) controller.abort(this.#cause);
  }

  onRequestSent(): void {
    this.#sent = true;
  }

  onResponseStart(controller: Controller, status: number, headers: RawHeaders): void {
    if (this.#ended) return;
    if (status < 200) {
      if (++this.#interim > MAX_INTERIM) controller.abort(failed('The upstream sent too many interim responses'));
      return;
    }
    // 501 speaks of the method, not of the upstream's health.
    this.#verdict(status >= 500 && status !== 501 ? 'fault' : 'answered');
    this.#sink.head(status, responseHeaders(headers), controller);
  }

  onResponseData(_controller: Controller, chunk: Buffer): void {
    if (!this.#ended) this.#sink.data(chunk);
  }

  onResponseEnd(): void {
    if (!this.#finish()) return;
    this.#sink.end();
  }

  onResponseError(_controller: Controller | null, cause: Error): void {
    if (!this.#finish()) return;
    const error = errorOf(cause, this.#signal);
    this.#verdict(isUpstreamFault(error, cause) ? 'fault' : 'neutral');
    this.#sink.error(error);
  }

  #cut(cause: Error): void {
    if (this.#ended) return;
    this.#cause = cause;
    // undici answers an abort with onResponseError; without a controller there is nobody who would.
    if (this.#controller !== null) this.#controller.abort(cause);
    this.onResponseError(null, cause);
  }

  #verdict(verdict: Verdict): void {
    const report = this.#report;
    this.#report = null;
    report?.(verdict);
  }

  #finish(): boolean {
    if (this.#ended) return false;
    this.#ended = true;
    this.#signal.removeEventListener('abort', this);
    return true;
  }
}

const isStream = (body: UpstreamRequest['body']): boolean => body !== null && !Buffer.isBuffer(body);

const failed = (message: string): GatewayError => new GatewayError('UPSTREAM_ERROR', { message });

const timedOut = (message?: string): GatewayError =>
  new GatewayError('GATEWAY_TIMEOUT', message === undefined ? {} : { message });

/** Why a call was aborted: the reason itself when it is one of ours, a time-out of the caller's, or the client. */
export function reasonOf(signal: CancelSignal): GatewayError {
  const reason: unknown = signal.reason;
  if (reason instanceof GatewayError) return reason;
  return reason instanceof DOMException && reason.name === 'TimeoutError'
    ? timedOut()
    : new GatewayError('CLIENT_CLOSED');
}

const TIMEOUTS = new Set(['UND_ERR_CONNECT_TIMEOUT', 'UND_ERR_HEADERS_TIMEOUT', 'UND_ERR_BODY_TIMEOUT', 'ETIMEDOUT']);
/** Faults of the request or of this process: the upstream never saw it. */
const OURS = new Set([
  'UND_ERR_INVALID_ARG',
  'UND_ERR_NOT_SUPPORTED',
  'UND_ERR_REQ_CONTENT_LENGTH_MISMATCH',
  'UND_ERR_DESTROYED',
  'UND_ERR_CLOSED',
]);

function errorOf(cause: Error, signal: CancelSignal): GatewayError {
  if (cause instanceof GatewayError) return cause;
  if (signal.aborted) return reasonOf(signal);
  const code = codeOf(cause);
  if (TIMEOUTS.has(code)) return new GatewayError('GATEWAY_TIMEOUT', { cause });
  if (code === 'UND_ERR_DESTROYED' || code === 'UND_ERR_CLOSED') return new GatewayError('SHUTTING_DOWN', { cause });
  return OURS.has(code)
    ? new GatewayError('INVALID_REQUEST', { cause })
    : new GatewayError('UPSTREAM_ERROR', { cause });
}

function isUpstreamFault(error: GatewayError, cause: Error): boolean {
  return (error.code === 'UPSTREAM_ERROR' || error.code === 'GATEWAY_TIMEOUT') && !OURS.has(codeOf(cause));
}

function codeOf(cause: Error): string {
  return 'code' in cause && typeof cause.code === 'string' ? cause.code : '';
}

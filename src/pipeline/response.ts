/** Writes an upstream's response to the client: untouched, or message by message when a list has to be filtered. */
import type { ServerResponse } from 'node:http';
import { GatewayError, toGatewayError } from '../core/errors.ts';
import type { MessageRewriter, Permitted, UpstreamPlan } from '../core/exchange.ts';
import { SseEvent, SseSplitter } from '../protocols/sse.ts';
import type { Flow, ResponseSink } from '../upstreams/upstream.ts';

export type ResponseWriter = ResponseSink;

export interface ResponseEnd {
  finished(status: number): void;
  failed(error: GatewayError): void;
  streamError(error: GatewayError): string | null;
}

type Headers = Readonly<Record<string, string | readonly string[]>>;

/** What a body goes through on its way. `push` and `end` give the bytes to send. */
interface Transform {
  push(chunk: Buffer): Buffer | null;
  end(): Buffer | null;
  /** `whole`: nothing comes out before the end. `stream`: pieces come out as they go in, of another length. */
  readonly kind: 'whole' | 'stream';
}

/** A whole JSON document that has to be rewritten is held in memory; larger ones are refused. */
const WHOLE_BODY_LIMIT = 33_554_432;

export function createResponseWriter(permitted: Permitted, plan: UpstreamPlan, end: ResponseEnd): ResponseWriter {
  return new Writer(permitted, plan, end);
}

/** A body announced as no longer than this is waited for, so that head and body leave in one write. */
const ONE_WRITE_BYTES = 65_536;
const EMPTY = Buffer.alloc(0);

class Writer implements ResponseSink {
  readonly #permitted: Permitted;
  readonly #plan: UpstreamPlan;
  readonly #end: ResponseEnd;
  #status = 0;
  #flow: Flow | null = null;
  #transform: Transform | null = null;
  #isEventStream = false;
  #waiting = false;
  #refusal: GatewayError | null = null;
  /** The head while it waits for its body; null once it is sent. */
  #held: string[] | null = null;
  /** Bytes the body was announced with, while the head is held. */
  #expected = 0;
  #first: Buffer = EMPTY;
  #done = false;

  constructor(permitted: Permitted, plan: UpstreamPlan, end: ResponseEnd) {
    this.#permitted = permitted;
    this.#plan = plan;
    this.#end = end;
  }

  head(status: number, received: Headers, flow: Flow): void {
    this.#flow = flow;
    this.#status = status;
    const headers = this.#checkedHead(status, received, flow);
    if (headers === null) return;
    const type = headers['content-type'];
    this.#isEventStream = typeof type === 'string' && type.startsWith('text/event-stream');
    this.#transform = chooseTransform(this.#plan.rewrite, type, this.#isEventStream);
    const { outgoing } = this.#permitted.received;
    if (outgoing.destroyed) {
      flow.abort(new GatewayError('CLIENT_CLOSED'));
      return;
    }
    this.#held = responseHeaders(headers, this.#permitted, this.#transform !== null);
    this.#expected = Number(headers['content-length'] ?? Number.NaN);
    const waits = this.#transform === null ? this.#expected <= ONE_WRITE_BYTES : this.#transform.kind === 'whole';
    if (!waits) this.#sendHead();
    // The client must see that a stream began before its first event arrives.
    if (this.#isEventStream) outgoing.flushHeaders();
  }

  /** The rewriter may change the headers or refuse the response; then nothing of it is sent. */
  #checkedHead(status: number, headers: Headers, flow: Flow): Headers | null {
    const { rewrite } = this.#plan;
    if (rewrite?.head === undefined) return headers;
    try {
      return rewrite.head(status, headers);
    } catch (thrown) {
      this.#refusal = toGatewayError(thrown);
      flow.abort(this.#refusal);
      return null;
    }
  }

  #sendHead(): void {
    if (this.#held === null) return;
    this.#permitted.received.outgoing.writeHead(this.#status, this.#held);
    this.#held = null;
  }

  data(chunk: Buffer): void {
    if (this.#refusal !== null) return;
    if (this.#transform !== null) {
      const bytes = this.#run((transform) => transform.push(chunk));
      if (bytes !== null && bytes.length > 0) this.#write(bytes);
    } else if (this.#held !== null && chunk.length === this.#expected) {
      this.#first = chunk;
    } else {
      this.#sendHead();
      this.#write(chunk);
    }
  }

  end(): void {
    const rest = this.#transform === null ? this.#first : (this.#run((transform) => transform.end()) ?? EMPTY);
    // Refused at the very end: the upstream is done and will not report an abort any more.
    if (this.#refusal !== null) {
      this.error(this.#refusal);
      return;
    }
    const { outgoing } = this.#permitted.received;
    if (this.#transform?.kind === 'whole') this.#held?.push('content-length', String(rest.length));
    this.#sendHead();
    if (rest.length === 0) outgoing.end();
    else outgoing.end(rest);
    this.#end.finished(this.#status);
  }

  error(cause: Error): void {
    if (this.#done) return;
    this.#done = true;
    const error = this.#refusal ?? toGatewayError(cause);
    const { outgoing } = this.#permitted.received;
    if (outgoing.headersSent) {
      this.#breakOff(outgoing, error);
      this.#end.finished(this.#status);
    } else {
      this.#end.failed(error);
    }
  }

  /** A stream that broke must never look complete: an error event where the dialect has one, else a cut connection. */
  #breakOff(outgoing: ServerResponse, error: GatewayError): void {
    const event = this.#isEventStream ? this.#end.streamError(error) : null;
    // A client whose permission was withdrawn gets no time to take what waits for it.
    const isLate = outgoing.writableNeedDrain && this.#permitted.received.cancel.aborted;
    if (event === null || outgoing.destroyed || isLate) outgoing.destroy();
    else outgoing.end(event);
  }

  #write(bytes: Buffer): void {
    const { outgoing } = this.#permitted.received;
    if (outgoing.write(bytes) || this.#waiting || this.#flow === null) return;
    const flow = this.#flow;
    this.#waiting = true;
    flow.pause();
    outgoing.once('drain', () => {
      this.#waiting = false;
      flow.resume();
    });
  }

  /** A transform that fails (too large, not the JSON it claims to be) ends the exchange; nothing unfiltered leaks. */
  #run(step: (transform: Transform) => Buffer | null): Buffer | null {
    if (this.#transform === null) return null;
    try {
      return step(this.#transform);
    } catch (thrown) {
      this.#refusal = toGatewayError(thrown);
      this.#flow?.abort(this.#refusal);
      return null;
    }
  }
}

function chooseTransform(
  rewrite: MessageRewriter | null,
  type: string | readonly string[] | undefined,
  isEventStream: boolean,
): Transform | null {
  if (rewrite === null) return null;
  if (isEventStream) return eventTransform(rewrite);
  return typeof type === 'string' && type.startsWith('application/json') ? jsonTransform(rewrite) : null;
}

function jsonTransform(rewrite: MessageRewriter): Transform {
  const chunks: Buffer[] = [];
  let size = 0;
  return {
    kind: 'whole',
    push(chunk) {
      size += chunk.length;
      if (size > WHOLE_BODY_LIMIT) throw new GatewayError('UPSTREAM_ERROR');
      chunks.push(chunk);
      return null;
    },
    end() {
      const whole = Buffer.concat(chunks);
      const text = rewrite.message(whole.toString('utf8'));
      if (text === 'drop') throw new GatewayError('UPSTREAM_ERROR');
      return text === null ? whole : Buffer.from(text);
    },
  };
}

function eventTransform(rewrite: MessageRewriter): Transform {
  const splitter = new SseSplitter();
  return {
    kind: 'stream',
    push(chunk) {
      const out: Buffer[] = [];
      for (const event of splitter.push(chunk)) {
        const data = event.data;
        const text = data === null || data === '' ? null : rewrite.message(data);
        if (text === null) out.push(event.raw);
        else if (text !== 'drop') out.push(event.withData(text));
      }
      return out.length === 1 ? (out[0] ?? null) : Buffer.concat(out);
    },
    end() {
      const rest = splitter.end();
      if (rest === null) return null;
      // A client that takes a cut-off event for a whole one must not get it unfiltered.
      const event = new SseEvent(rest);
      const { data } = event;
      const text = data === null || data === '' ? null : rewrite.message(data);
      return text === null ? rest : text === 'drop' ? null : event.withData(text);
    },
  };
}

function responseHeaders(headers: Headers, permitted: Permitted, changesLength: boolean): string[] {
  const flat: string[] = [];
  for (const name in headers) {
    if (name === 'x-request-id' || name === 'x-decision-id') continue;
    if (changesLength && name === 'content-length') continue;
    const value = headers[name];
    if (typeof value === 'string') flat.push(name, value);
    else if (value !== undefined) for (const each of value) flat.push(name, each);
  }
  flat.push('x-request-id', permitted.received.id);
  const decision = permitted.decisions[0];
  if (decision !== undefined) flat.push('x-decision-id', decision.decision_id);
  return flat;
}

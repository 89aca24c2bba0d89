/** Writes an upstream's response to the client: untouched, or message by message when a list has to be filtered. */
import type { ServerResponse } from 'node:http';
import { GatewayError, toGatewayError } from '../core/errors.ts';
import type { MessageRewriter, Permitted, UpstreamPlan } from '../core/exchange.ts';
import { SseSplitter } from '../protocols/sse.ts';
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
  /** True when the length is not known before the end. */
  readonly changesLength: boolean;
}

/** A whole JSON document that has to be rewritten is held in memory; larger ones are refused. */
const WHOLE_BODY_LIMIT = 33_554_432;

export function createResponseWriter(permitted: Permitted, plan: UpstreamPlan, end: ResponseEnd): ResponseWriter {
  return new Writer(permitted, plan, end);
}

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
    outgoing.writeHead(status, responseHeaders(headers, this.#permitted, this.#transform?.changesLength ?? false));
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

  data(chunk: Buffer): void {
    if (this.#refusal !== null) return;
    const bytes = this.#transform === null ? chunk : this.#run(() => this.#transform?.push(chunk) ?? null);
    if (bytes !== null && bytes.length > 0) this.#write(bytes);
  }

  end(): void {
    if (this.#refusal !== null) {
      this.#end.failed(this.#refusal);
      return;
    }
    const { outgoing } = this.#permitted.received;
    const rest = this.#transform === null ? null : this.#run(() => this.#transform?.end() ?? null);
    if (rest === null) outgoing.end();
    else outgoing.end(rest);
    this.#end.finished(this.#status);
  }

  error(cause: Error): void {
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
    if (event === null || outgoing.destroyed) outgoing.destroy();
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
  #run(step: () => Buffer | null): Buffer | null {
    try {
      return step();
    } catch (thrown) {
      this.#flow?.abort(toGatewayError(thrown));
      this.#permitted.received.outgoing.destroy();
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
    changesLength: true,
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
    changesLength: true,
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
    end: () => splitter.end(),
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

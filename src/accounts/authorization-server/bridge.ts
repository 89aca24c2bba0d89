/**
 * Between an endpoint of ours and a handler that wants Node's request and response: a request made of what hygiene left
 * of the real one, under the name clients know us by, and a response that is kept instead of sent.
 */
import { IncomingMessage, ServerResponse } from 'node:http';
import { Socket } from 'node:net';
import type { EndpointReply } from '../../protocols/endpoint.ts';

/** What the handler is asked. */
export interface BridgedRequest {
  readonly method: string;
  /** Path and query as the gateway knows them, without a prefix of the public URL. */
  readonly url: string;
  readonly headers: Readonly<Record<string, string>>;
  readonly body: Buffer;
}

/** Request and response for one call, and what was answered. */
export interface Bridged {
  readonly request: IncomingMessage;
  readonly response: KeptResponse;
}

/** Only these say something a handler has to know; the rest, forwarding headers above all, is nobody's to say here. */
const PASSED = ['accept', 'authorization', 'content-type', 'cookie', 'user-agent'] as const;

/** @param base the issuer: scheme, host and prefix are what clients see, whatever proxy stands in between */
export function bridge(asked: BridgedRequest, base: URL): Bridged {
  const socket = new Socket();
  Object.defineProperty(socket, 'encrypted', { value: base.protocol === 'https:' });
  const request = new IncomingMessage(socket);
  request.method = asked.method;
  request.url = asked.url;
  const prefix = base.pathname.replace(/\/$/, '');
  Object.defineProperty(request, 'originalUrl', { value: `${prefix}${asked.url}` });
  request.headers = { host: base.host };
  for (const name of PASSED) {
    const value = asked.headers[name];
    if (value !== undefined) request.headers[name] = value;
  }
  if (asked.body.length > 0) {
    request.headers['content-length'] = String(asked.body.length);
    request.push(asked.body);
  }
  request.push(null);
  return { request, response: new KeptResponse(request) };
}

/** Keeps what is written to it. */
export class KeptResponse extends ServerResponse<IncomingMessage> {
  readonly #chunks: Buffer[] = [];
  readonly #ended = Promise.withResolvers<void>();

  /** Resolves once the handler has ended its answer. */
  get ended(): Promise<void> {
    return this.#ended.promise;
  }

  override write(chunk: unknown): boolean {
    this.#keep(chunk);
    return true;
  }

  override end(chunk?: unknown): this {
    this.#keep(chunk);
    this.#ended.resolve();
    return this;
  }

  #keep(chunk: unknown): void {
    if (typeof chunk === 'string') this.#chunks.push(Buffer.from(chunk));
    else if (chunk instanceof Uint8Array) this.#chunks.push(Buffer.from(chunk));
  }

  /** What was answered, as an endpoint replies. CORS is the door's affair. */
  reply(): EndpointReply {
    const headers: Record<string, string> = {};
    const cookies: string[] = [];
    for (const [name, value] of Object.entries(this.getHeaders())) {
      if (value === undefined || name === 'content-length' || name.startsWith('access-control-')) continue;
      if (name === 'set-cookie') cookies.push(...[value].flat().map(String));
      else headers[name] = String(value);
    }
    const text = Buffer.concat(this.#chunks).toString('utf8');
    return { status: this.statusCode, headers, text, cookies };
  }
}

/**
 * WebSocket through the gateway: once permitted, both sockets are joined and nothing in between is read. A connection of
 * its own for each, outside the pool. Source: acceptance VW-03, RFC 6455 4, RFC 9110 7.8.
 */
import { request as httpRequest, type IncomingMessage, type RequestOptions, type ServerResponse } from 'node:http';
import { request as httpsRequest } from 'node:https';
import type { Duplex } from 'node:stream';
import { GatewayError } from '../core/errors.ts';
import { reasonOf } from './attempt.ts';
import { requestHeaders, responseHeaders } from './headers.ts';

export interface UpgradeTarget {
  /** Configured URL; only its origin counts. */
  readonly url: string;
  /** PEM text of the authority to trust instead of the system's, or null. */
  readonly ca: string | null;
  /** Milliseconds until the upstream's answer. */
  readonly headersTimeoutMs: number;
  /** Milliseconds without a byte in either direction after which the tunnel is closed. */
  readonly idleTimeoutMs: number;
}

export interface UpgradeRequest {
  /** Path and query on the upstream. */
  readonly path: string;
  /** Headers for the upstream, already an allow-list, with its credential; `sec-websocket-…` included. */
  readonly headers: Readonly<Record<string, string>>;
  /** The client's connection and what it already sent after its request. */
  readonly socket: Duplex;
  readonly head: Buffer;
  /** Attached to `socket`; answers with it, or is detached when the tunnel stands. */
  readonly outgoing: ServerResponse;
  readonly signal: AbortSignal;
  /** Added to the answer, whatever it is: request id, decision id. */
  readonly answerHeaders: Readonly<Record<string, string>>;
}

/**
 * Resolves with 101 when the tunnel stands (it lives on until one side closes it), or with the status of the upstream's
 * refusal once that was passed on. Rejects with a GatewayError while nothing was sent to the client.
 */
export function proxyUpgrade(target: UpgradeTarget, request: UpgradeRequest): Promise<number> {
  if (request.signal.aborted) return Promise.reject(reasonOf(request.signal));
  return new Promise((resolve, reject) => {
    const call = send(target, request);
    const abort = (): void => void call.destroy(reasonOf(request.signal));
    request.signal.addEventListener('abort', abort, { once: true });
    call.setTimeout(target.headersTimeoutMs, () => call.destroy(new GatewayError('GATEWAY_TIMEOUT')));
    call.on('error', (cause) => {
      request.signal.removeEventListener('abort', abort);
      reject(cause instanceof GatewayError ? cause : new GatewayError('UPSTREAM_ERROR', { cause }));
    });
    call.on('response', (response) => resolve(passOn(response, request)));
    call.on('upgrade', (response, upstream, head) => {
      request.signal.removeEventListener('abort', abort);
      if (response.headers.upgrade?.toLowerCase() !== 'websocket') {
        upstream.destroy();
        reject(new GatewayError('UPSTREAM_ERROR', { message: 'The upstream switched to another protocol' }));
        return;
      }
      join(target, request, response, upstream, head);
      resolve(101);
    });
    call.end();
  });
}

function send({ url, ca }: UpgradeTarget, { path, headers }: UpgradeRequest) {
  const origin = new URL(url);
  const options: RequestOptions = {
    protocol: origin.protocol,
    hostname: origin.hostname.replace(/^\[|\]$/g, ''),
    port: origin.port,
    path,
    method: 'GET',
    agent: false,
    headers: [...requestHeaders(headers, false), 'host', origin.host, 'connection', 'Upgrade', 'upgrade', 'websocket'],
  };
  return origin.protocol === 'https:' ? httpsRequest(ca === null ? options : { ...options, ca }) : httpRequest(options);
}

/** An upstream that does not switch has answered like to any request. */
function passOn(response: IncomingMessage, { outgoing, answerHeaders }: UpgradeRequest): number {
  const status = response.statusCode ?? 502;
  outgoing.writeHead(status, { ...(responseHeaders(response.headers) as Record<string, string>), ...answerHeaders });
  response.on('error', () => outgoing.destroy());
  response.pipe(outgoing);
  return status;
}

function join(
  { idleTimeoutMs }: UpgradeTarget,
  { socket, head, outgoing, answerHeaders, signal }: UpgradeRequest,
  response: IncomingMessage,
  upstream: Duplex,
  upstreamHead: Buffer,
): void {
  outgoing.detachSocket(socket as Parameters<ServerResponse['detachSocket']>[0]);
  const close = (): void => {
    socket.destroy();
    upstream.destroy();
  };
  // The tunnel also ends when the permission for it does.
  signal.addEventListener('abort', close, { once: true });
  for (const side of [socket, upstream]) {
    side.on('error', close);
    side.on('close', close);
    if ('setTimeout' in side && typeof side.setTimeout === 'function') side.setTimeout(idleTimeoutMs, close);
  }
  socket.write(switchingHead(response, answerHeaders), 'latin1');
  if (upstreamHead.length > 0) socket.write(upstreamHead);
  if (head.length > 0) upstream.write(head);
  socket.pipe(upstream);
  upstream.pipe(socket);
}

function switchingHead(response: IncomingMessage, answerHeaders: Readonly<Record<string, string>>): string {
  let text = 'HTTP/1.1 101 Switching Protocols\r\nconnection: Upgrade\r\nupgrade: websocket\r\n';
  for (const [name, value] of Object.entries({ ...responseHeaders(response.headers), ...answerHeaders })) {
    for (const each of typeof value === 'string' ? [value] : value) text += `${name}: ${each}\r\n`;
  }
  return `${text}\r\n`;
}

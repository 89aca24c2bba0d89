/** Refusals before there is a request to answer: written straight to the socket. */
import { STATUS_CODES } from 'node:http';
import type { Socket } from 'node:net';
import type { ErrorCode } from '../core/errors.ts';
import { GatewayError } from '../core/errors.ts';
import type { Reply } from '../core/exchange.ts';
import { lingeringClose } from './exchange.ts';

/** What the HTTP parser or a timer found wrong; null when there is nobody left to tell. */
export function parserFault(error: NodeJS.ErrnoException): GatewayError | null {
  const code = faultCode(error.code ?? '');
  return code === null ? null : new GatewayError(code, { cause: error });
}

function faultCode(code: string): ErrorCode | null {
  if (code === 'HPE_HEADER_OVERFLOW') return 'HEADERS_TOO_LARGE';
  if (code === 'HPE_CHUNK_EXTENSIONS_OVERFLOW') return 'PAYLOAD_TOO_LARGE';
  if (code === 'ERR_HTTP_REQUEST_TIMEOUT') return 'REQUEST_TIMEOUT';
  return code.startsWith('HPE_') && code !== 'HPE_INVALID_EOF_STATE' ? 'INVALID_REQUEST' : null;
}

/** Writes a whole answer with `Connection: close` and ends the connection. */
export function refuseOnSocket(socket: Socket, reply: Reply, id: string): void {
  if (!socket.writable) {
    socket.destroy();
    return;
  }
  let head = `HTTP/1.1 ${reply.status} ${STATUS_CODES[reply.status] ?? 'Error'}\r\n`;
  for (const [name, value] of Object.entries(reply.headers)) head += `${name}: ${value}\r\n`;
  head += `x-request-id: ${id}\r\ndate: ${new Date().toUTCString()}\r\n`;
  head += `content-length: ${Buffer.byteLength(reply.body)}\r\nconnection: close\r\n\r\n`;
  socket.write(head);
  socket.write(reply.body);
  lingeringClose(socket);
}

/**
 * The first look at a request: one canonical path, one meaning per header, nothing a client may say about itself.
 * What can be read in two ways is refused, never repaired. Source: RFC 9110, RFC 9112 sections 3, 5, 6 and 11.
 */
import type { IncomingMessage } from 'node:http';
import type { Socket } from 'node:net';
import type { ErrorCode } from '../core/errors.ts';
import { GatewayError } from '../core/errors.ts';
import type { Peer } from '../core/exchange.ts';
import { canonicalAddress } from './addresses.ts';
import {
  CLIENT_CERT,
  connectionNames,
  FOLDABLE,
  FORWARDED,
  HOP,
  headerKind,
  IDENTITY,
  KEPT,
  SINGLE,
} from './headers.ts';
import type { HostRule } from './host.ts';
import { hostName } from './host.ts';
import { canonicalTarget } from './path.ts';

export interface HygieneRules {
  /** Header lines. */
  readonly headerCount: number;
  /** Bytes of all header lines together. */
  readonly headerBytes: number;
  /** Bytes of path and query. */
  readonly targetBytes: number;
  readonly hosts: HostRule;
  /** Whether the address of a connection is a proxy whose `X-Forwarded-*` headers are believed. */
  trusted(address: string): boolean;
}

export interface Clean {
  readonly ok: true;
  readonly method: string;
  readonly path: string;
  readonly query: string;
  readonly headers: Readonly<Record<string, string>>;
  readonly peer: Peer;
  /** The request id a trusted proxy gave, or null. */
  readonly requestId: string | null;
}

export type Inspection = Clean | { readonly ok: false; readonly error: GatewayError };

/** A record that inherits nothing, so that no header name can hit a built-in property; faster than `Object.create(null)`. */
class HeaderBag {
  [name: string]: string;
}
Object.setPrototypeOf(HeaderBag.prototype, null);
Reflect.deleteProperty(HeaderBag.prototype, 'constructor');

const fail = (code: ErrorCode, message?: string): Inspection => ({
  ok: false,
  error: new GatewayError(code, message === undefined ? {} : { message }),
});

/** Methods that are answered, and whether a body belongs to them. Anything else is not implemented. */
const methods: Readonly<Record<string, boolean>> = {
  __proto__: null as never,
  GET: false,
  HEAD: false,
  OPTIONS: false,
  DELETE: false,
  POST: true,
  PUT: true,
  PATCH: true,
};

/** Checks and cleans one request whose header section has been received. Never throws, keeps no state of the request. */
export function inspect(req: IncomingMessage, rules: HygieneRules): Inspection {
  const method = req.method ?? '';
  const takesBody = methods[method];
  if (takesBody === undefined) return fail(isRefusedMethod(method) ? 'METHOD_NOT_ALLOWED' : 'NOT_IMPLEMENTED');
  if (req.httpVersionMajor !== 1 || req.httpVersionMinor > 1) return fail('INVALID_REQUEST', 'HTTP/1.1 is required');
  const connection = connectionOf(req.socket, rules);
  const read = readHeaders(req.rawHeaders, rules, connection.trusted);
  if (read instanceof GatewayError) return { ok: false, error: read };
  const { headers } = read;
  const fault = framingFault(req, headers, takesBody) ?? nominationFault(read);
  if (fault !== null) return { ok: false, error: fault };
  const url = req.url ?? '';
  if (url.length > rules.targetBytes) return fail('URI_TOO_LONG');
  const origin = url.charCodeAt(0) === 0x2f ? url : originForm(url, headers.host);
  const target = canonicalTarget(origin);
  if (!target.ok) return fail('AMBIGUOUS_PATH', target.reason);
  const peer = peerOf(connection, headers.host, req.httpVersionMinor, read.forwarded, rules);
  if (peer instanceof GatewayError) return { ok: false, error: peer };
  const requestId = acceptableId(read.forwarded?.requestId);
  return { ok: true, method, path: target.path, query: target.query, headers, peer, requestId };
}

function isRefusedMethod(method: string): boolean {
  return method === 'TRACE' || method === 'CONNECT' || method === 'TRACK';
}

interface Forwarded {
  address?: string;
  proto?: string;
  host?: string;
  requestId?: string;
}

interface ReadHeaders {
  readonly headers: Record<string, string>;
  /** All `Connection` headers. */
  readonly connection: string;
  /** What a trusted proxy says, or null. */
  readonly forwarded: Forwarded | null;
}

const DROPPED = FOLDABLE | IDENTITY;
const UNUSUAL = DROPPED | HOP | FORWARDED | CLIENT_CERT;

function readHeaders(raw: readonly string[], rules: HygieneRules, trusted: boolean): ReadHeaders | GatewayError {
  if (raw.length > rules.headerCount * 2) return new GatewayError('HEADERS_TOO_LARGE');
  const headers: Record<string, string> = new HeaderBag();
  let connection = '';
  let forwarded: Forwarded | null = null;
  let bytes = 0;
  for (let i = 0; i < raw.length; i += 2) {
    const rawName = raw[i] as string;
    const value = raw[i + 1] as string;
    bytes += rawName.length + value.length + 4;
    const { name, flags } = headerKind(rawName);
    if ((flags & UNUSUAL) !== 0) {
      if ((flags & DROPPED) !== 0) continue;
      if ((flags & HOP) !== 0) {
        if (name === 'connection') connection = connection === '' ? value : `${connection},${value}`;
        continue;
      }
      if (!trusted) continue;
      if ((flags & FORWARDED) !== 0) {
        forwarded ??= {};
        noteForwarded(forwarded, name, value);
        continue;
      }
    }
    const before = headers[name];
    if (before === undefined) headers[name] = value;
    else if ((flags & SINGLE) !== 0) return repeated(name);
    else headers[name] = `${before}, ${value}`;
  }
  if (bytes > rules.headerBytes) return new GatewayError('HEADERS_TOO_LARGE');
  return { headers, connection, forwarded };
}

const repeated = (name: string): GatewayError =>
  new GatewayError('INVALID_REQUEST', { message: `The header ${name} is given more than once` });

function noteForwarded(forwarded: Forwarded, name: string, value: string): void {
  const join = (before: string | undefined): string => (before === undefined ? value : `${before},${value}`);
  if (name === 'x-forwarded-for') forwarded.address = join(forwarded.address);
  else if (name === 'x-forwarded-proto') forwarded.proto = join(forwarded.proto);
  else if (name === 'x-forwarded-host') forwarded.host = join(forwarded.host);
  else if (name === 'x-request-id') forwarded.requestId = join(forwarded.requestId);
}

/** Where the body ends must be beyond doubt: RFC 9112 section 6.3, and stricter. */
function framingFault(req: IncomingMessage, headers: Record<string, string>, takesBody: boolean): GatewayError | null {
  const coding = headers['transfer-encoding'];
  const length = headers['content-length'];
  if (coding !== undefined) {
    if (coding.toLowerCase() !== 'chunked') return malformed('Only the transfer coding "chunked" is understood');
    if (req.httpVersionMinor === 0) return malformed('Transfer-Encoding needs HTTP/1.1');
    if (length !== undefined) return malformed('Transfer-Encoding and Content-Length exclude each other');
  }
  if (length !== undefined && !isLength(length)) return malformed('Content-Length is not a number');
  if (!takesBody && (coding !== undefined || (length !== undefined && length !== '0'))) {
    return malformed(`A ${req.method} request has no body`);
  }
  const content = headers['content-encoding'];
  if (content !== undefined) {
    if (content.toLowerCase() !== 'identity') return new GatewayError('UNSUPPORTED_MEDIA_TYPE');
    delete headers['content-encoding'];
  }
  const expect = headers.expect;
  if (expect !== undefined && expect.toLowerCase() !== '100-continue') return new GatewayError('EXPECTATION_FAILED');
  return null;
}

const malformed = (message: string): GatewayError => new GatewayError('INVALID_REQUEST', { message });

function isLength(text: string): boolean {
  if (text.length === 0 || text.length > 15) return false;
  for (let i = 0; i < text.length; i++) {
    const code = text.charCodeAt(i);
    if (code < 0x30 || code > 0x39) return false;
  }
  return true;
}

const PROTECTED = KEPT | IDENTITY | FORWARDED | CLIENT_CERT;

/**
 * Takes off what `Connection` names. Naming a header that carries identity, credentials or framing is an old trick to
 * make a later hop drop it, so that is refused.
 */
function nominationFault({ connection, headers }: ReadHeaders): GatewayError | null {
  if (connection === '' || connection === 'keep-alive' || connection === 'close') return null;
  for (const name of connectionNames(connection)) {
    const { flags } = headerKind(name);
    if ((flags & PROTECTED) !== 0) return malformed(`Connection must not name ${name}`);
    delete headers[name];
  }
  return null;
}

/** `http://host/path` as `/path` when the host is the one of the Host header; otherwise the target as it is. */
function originForm(url: string, host: string | undefined): string {
  const scheme = /^https?:\/\//i.exec(url)?.[0];
  if (scheme === undefined || host === undefined) return url;
  const rest = url.slice(scheme.length);
  const end = rest.search(/[/?#]/);
  const authority = end === -1 ? rest : rest.slice(0, end);
  if (authority.toLowerCase() !== host.toLowerCase()) return url;
  const target = end === -1 ? '' : rest.slice(end);
  return target.startsWith('/') ? target : `/${target}`;
}

/** Facts of a connection, found once and kept on its socket. */
interface Connection {
  readonly address: string;
  readonly trusted: boolean;
  readonly encrypted: boolean;
  /** The last peer: the same for nearly every request of a connection. */
  peer: Peer | null;
  peerHost: string | undefined;
}

const CONNECTION = Symbol('connection');

type KnownSocket = Socket & { [CONNECTION]?: Connection; encrypted?: boolean };

function connectionOf(socket: KnownSocket, rules: HygieneRules): Connection {
  const known = socket[CONNECTION];
  if (known !== undefined) return known;
  const remote = socket.remoteAddress ?? '';
  const address = canonicalAddress(remote.split('%', 1)[0] ?? '') ?? '';
  const made: Connection = {
    address,
    trusted: rules.trusted(address),
    encrypted: socket.encrypted === true,
    peer: null,
    peerHost: undefined,
  };
  socket[CONNECTION] = made;
  return made;
}

function peerOf(
  connection: Connection,
  header: string | undefined,
  minor: number,
  forwarded: Forwarded | null,
  rules: HygieneRules,
): Peer | GatewayError {
  if (connection.peer !== null && forwarded === null && connection.peerHost === header) return connection.peer;
  if (header === undefined && minor > 0) return malformed('A Host header is required');
  const named = lastOf(forwarded?.host) ?? header;
  const host = named === undefined ? '' : hostName(named);
  if (host === null || (header !== undefined && hostName(header) === null))
    return malformed('The Host header is not valid');
  // A request without any Host cannot come from a browser, so it cannot be a rebinding attack.
  if (rules.hosts !== 'any' && named !== undefined && !rules.hosts.has(host)) {
    return new GatewayError('ORIGIN_DENIED', { message: 'This host name is not served here' });
  }
  if (forwarded !== null) {
    return {
      address: clientAddress(connection.address, forwarded.address, rules),
      encrypted: forwarded.proto === undefined ? connection.encrypted : everyHopEncrypted(forwarded.proto),
      host,
    };
  }
  connection.peer = { address: connection.address, encrypted: connection.encrypted, host };
  connection.peerHost = header;
  return connection.peer;
}

function lastOf(list: string | undefined): string | undefined {
  return list?.slice(list.lastIndexOf(',') + 1).trim();
}

function everyHopEncrypted(list: string): boolean {
  return list.split(',').every((proto) => proto.trim().toLowerCase() === 'https');
}

/** Right to left: the first address that is no trusted proxy. An entry that is no address ends the search: nobody vouches for what stands before it. */
function clientAddress(remote: string, list: string | undefined, rules: HygieneRules): string {
  let client = remote;
  if (list === undefined) return client;
  const hops = list.split(',');
  for (let i = hops.length - 1; i >= 0; i--) {
    const hop = canonicalAddress((hops[i] ?? '').trim());
    if (hop === null) return client;
    client = hop;
    if (!rules.trusted(hop)) return client;
  }
  return client;
}

/** An id that is safe in headers, logs and file names. */
function acceptableId(text: string | undefined): string | null {
  return text !== undefined && /^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$/.test(text) ? text : null;
}

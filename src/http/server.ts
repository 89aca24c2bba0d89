/**
 * The door: a listener with explicit limits, where every request is cleaned, numbered and handed on, and every request on
 * an accepted connection is answered. Source: architecture 4, contracts 4 and 8.
 */
import type { IncomingMessage, Server, ServerOptions } from 'node:http';
import { createServer as createHttpServer } from 'node:http';
import { createServer as createHttpsServer } from 'node:https';
import type { AddressInfo, Socket } from 'node:net';
import type { TLSSocket } from 'node:tls';
import { GatewayError, toGatewayError } from '../core/errors.ts';
import type { Received } from '../core/exchange.ts';
import { makeId } from '../core/ids.ts';
import { addressMatcher } from './addresses.ts';
import { isAmbient } from './ambient.ts';
import { Connections } from './connections.ts';
import { controlListener } from './control.ts';
import { createCors } from './cors.ts';
import type { Door, DoorOptions } from './door.ts';
import { DoorResponse, Exchange, isAnswered, isOver, lingeringClose, markOver } from './exchange.ts';
import { originAllowed } from './host.ts';
import type { HygieneRules } from './hygiene.ts';
import { inspect } from './hygiene.ts';
import { parserFault, refuseOnSocket } from './refusal.ts';
import { SlowReaders } from './slow-readers.ts';
import type { SecureServer, TlsFiles } from './tls.ts';
import { noteClientAuthorities, readTls, watchTls } from './tls.ts';

export type { Door, DoorLimits, DoorOptions, DoorRefusal } from './door.ts';

/** Makes a listener; nothing is bound before `start`. Throws for ranges, origins or certificates that cannot be used. */
export function createDoor(options: DoorOptions): Door {
  return new Listener(options);
}

/** Ends a response that could not be answered in time gets this long to reach the client. */
const FLUSH_MS = 500;
const IDLE_CHECK_MS = 100;

class Listener implements Door {
  readonly #options: DoorOptions;
  readonly #rules: HygieneRules;
  readonly #server: Server;
  readonly #connections: Connections;
  readonly #active = new Set<Exchange>();
  readonly #control: (received: Received) => Promise<void>;
  readonly #cors: ReturnType<typeof createCors>;
  readonly #origins: { readonly origins: ReadonlySet<string>; readonly local: boolean };
  readonly #slowReaders: SlowReaders;
  #stopWatching: () => void = () => {};
  #draining = false;

  constructor(options: DoorOptions) {
    this.#options = options;
    const { limits } = options;
    this.#rules = {
      headerCount: limits.header_count,
      headerBytes: limits.header_bytes,
      targetBytes: limits.target_bytes,
      hosts: options.hosts,
      trusted: addressMatcher(options.trustedProxies),
    };
    this.#control = controlListener(options.app, (thrown, received) => this.#controlFailed(thrown, received));
    this.#cors = createCors(options.cors);
    const local = options.hosts !== 'any' && options.hosts.has('localhost');
    this.#origins = { origins: new Set(options.cors.origins), local };
    this.#slowReaders = new SlowReaders(limits.write_timeout_ms);
    this.#server = this.#makeServer();
    this.#connections = new Connections(
      this.#server,
      limits,
      (address) => this.#rules.trusted(address),
      (reason) => options.onConnectionRefused?.(reason),
    );
  }

  get inFlight(): number {
    return this.#active.size;
  }

  get connections(): number {
    return this.#connections.sockets.size;
  }

  get draining(): boolean {
    return this.#draining;
  }

  #makeServer(): Server {
    const { limits, tls } = this.#options;
    const settings: ServerOptions<typeof IncomingMessage, typeof DoorResponse> = {
      ServerResponse: DoorResponse,
      // The target has a limit of its own, checked by hygiene, and must not eat into that of the headers.
      maxHeaderSize: limits.header_bytes + limits.target_bytes,
      headersTimeout: limits.headers_timeout_ms,
      requestTimeout: Math.max(limits.request_timeout_ms, limits.headers_timeout_ms),
      keepAliveTimeout: limits.keep_alive_ms,
      connectionsCheckingInterval: 1000,
      // Hygiene says it in the house's own words.
      requireHostHeader: false,
      insecureHTTPParser: false,
      shouldUpgradeCallback: isWebSocketUpgrade,
    };
    const secured = tls === undefined ? null : { ...readTls(tls), ...askForCertificate(tls) };
    const server = secured === null ? createHttpServer(settings) : createHttpsServer({ ...settings, ...secured });
    if (secured !== null) noteClientAuthorities(server, secured);
    // Node would drop what is beyond the count in silence; hygiene refuses it.
    server.maxHeadersCount = 0;
    server.on('request', (req: IncomingMessage, res) => this.#accept(req, res as DoorResponse));
    server.on('checkContinue', (req: IncomingMessage, res) => {
      continueWhenRead(req, res as DoorResponse);
      this.#accept(req, res as DoorResponse);
    });
    server.on('checkExpectation', (req: IncomingMessage, res) => this.#accept(req, res as DoorResponse));
    server.on('connect', (req: IncomingMessage, socket) => this.#refuseConnect(req, socket as Socket));
    server.on('upgrade', (req: IncomingMessage, socket, head) => this.#upgrade(req, socket as Socket, head));
    server.on('clientError', (error: NodeJS.ErrnoException, socket) => this.#clientError(error, socket as Socket));
    // Before Node's own listener, for with TLS 1.3 the first request may have come along.
    server.prependListener('secureConnection', refuseForeignCertificate);
    return server as Server;
  }

  #accept(req: IncomingMessage, res: DoorResponse): void {
    const exchange = this.#receive(req, res);
    if (exchange === null || !this.#admit(exchange)) return;
    if (!this.#options.isDataPath(exchange.path)) {
      this.#guard(exchange, this.#control(exchange));
      return;
    }
    if (this.#isFull(exchange)) return;
    this.#hand(exchange, () => this.#options.onRequest(exchange));
  }

  /** True when the request was turned away because too many others are in flight. */
  #isFull(exchange: Exchange): boolean {
    if (this.#active.size <= this.#options.limits.max_in_flight) return false;
    this.#refuse(exchange, new GatewayError('OVERLOADED', { retryAfter: 1 }));
    return true;
  }

  /** Cleans and numbers; null when the request was refused. */
  #receive(req: IncomingMessage, res: DoorResponse): Exchange | null {
    if (isOver(req.socket)) {
      req.resume();
      return null;
    }
    const now = this.#options.clock.now();
    const seen = inspect(req, this.#rules);
    if (!seen.ok) {
      res.id = makeId('req_', now);
      // Whoever sends what can be read in two ways may mean the bytes behind it to be another request.
      res.lastOnConnection = true;
      res.leaveBodyUnread();
      this.#answerError(res, seen.error);
      this.#reportRaw(res.id, seen.error, req);
      return null;
    }
    const id = seen.requestId ?? makeId('req_', now);
    const exchange = new Exchange(id, seen, now, res);
    res.lastOnConnection ||= this.#draining;
    res.open(exchange, this.#active);
    return exchange;
  }

  /** CORS and foreign origins, before anybody is authenticated. False when the request has been answered. */
  #admit(exchange: Exchange): boolean {
    const { headers, outgoing, peer, path } = exchange;
    const { origin } = headers;
    if (this.#cors.enabled) outgoing.grant = this.#cors.grant(origin);
    if (origin === undefined) return true;
    const listed = this.#cors.allows(origin);
    if (exchange.method === 'OPTIONS' && headers['access-control-request-method'] !== undefined) {
      if (listed) {
        outgoing.grant = this.#cors.preflight(origin, headers['access-control-request-headers']);
        outgoing.writeHead(204, {});
        outgoing.end();
      } else {
        this.#refuse(exchange, new GatewayError('ORIGIN_DENIED'));
      }
      return false;
    }
    const isGuarded = this.#options.guardsOrigin(path) || isAmbient(headers, exchange.incoming);
    if (listed || !isGuarded || originAllowed(origin, peer.host, this.#origins)) return true;
    this.#refuse(exchange, new GatewayError('ORIGIN_DENIED'));
    return false;
  }

  #hand(exchange: Exchange, run: () => void | Promise<void>): void {
    try {
      const done = run();
      if (done !== undefined) this.#guard(exchange, done);
    } catch (thrown) {
      this.#fail(exchange, thrown);
    }
  }

  #guard(exchange: Exchange, done: Promise<void>): void {
    done.catch((thrown: unknown) => this.#fail(exchange, thrown));
  }

  /** A handler that throws is a defect; its request still gets an answer. */
  #fail(exchange: Exchange, thrown: unknown): void {
    this.#refuse(exchange, this.#noteDefect(thrown, exchange.id));
  }

  #controlFailed(thrown: unknown, { id }: Received): Response {
    const { status, headers, body } = this.#options.renderError(this.#noteDefect(thrown, id), id);
    return new Response(typeof body === 'string' ? body : new Uint8Array(body), { status, headers: { ...headers } });
  }

  #noteDefect(thrown: unknown, id: string): GatewayError {
    const error = toGatewayError(thrown);
    if (error.code === 'INTERNAL_ERROR') {
      this.#options.logger.error({ err: thrown, request_id: id }, 'a request handler failed');
    }
    return error;
  }

  #refuse(exchange: Exchange, error: GatewayError): void {
    this.#answerError(exchange.outgoing, error);
    this.#options.onRefused?.({
      id: exchange.id,
      error,
      method: exchange.method,
      target: exchange.path.slice(0, 256),
      address: exchange.peer.address,
      received: exchange,
    });
  }

  #answerError(res: DoorResponse, error: GatewayError): void {
    if (res.headersSent) {
      if (!res.writableFinished) res.destroy();
      return;
    }
    const reply = this.#options.renderError(error, res.id);
    res.writeHead(reply.status, { ...reply.headers, 'content-length': Buffer.byteLength(reply.body) });
    res.end(reply.body);
  }

  #reportRaw(id: string, error: GatewayError, req: IncomingMessage | null, socket?: Socket): void {
    this.#options.onRefused?.({
      id,
      error,
      method: req?.method ?? null,
      target: req?.url?.split('?', 1)[0]?.slice(0, 256) ?? null,
      address: (req?.socket ?? socket)?.remoteAddress ?? '',
      received: null,
    });
  }

  #upgrade(req: IncomingMessage, socket: Socket, head: Buffer): void {
    const res = new DoorResponse(req);
    res.assignSocket(socket);
    // After a refusal nothing else can be read from this connection.
    res.lastOnConnection = true;
    socket.on('error', () => socket.destroy());
    res.on('finish', () => {
      res.release();
      res.detachSocket(socket);
      socket.resume();
      lingeringClose(socket);
    });
    socket.once('close', () => res.release());
    const exchange = this.#receive(req, res);
    if (exchange === null || !this.#admit(exchange)) return;
    const { onUpgrade } = this.#options;
    if (onUpgrade === undefined || !this.#options.isDataPath(exchange.path)) {
      this.#refuse(exchange, new GatewayError('NOT_IMPLEMENTED'));
      return;
    }
    if (this.#isFull(exchange)) return;
    this.#hand(exchange, () => onUpgrade(exchange, socket, head));
  }

  #refuseConnect(req: IncomingMessage, socket: Socket): void {
    const id = makeId('req_', this.#options.clock.now());
    const error = new GatewayError('METHOD_NOT_ALLOWED');
    socket.on('error', () => socket.destroy());
    refuseOnSocket(socket, this.#options.renderError(error, id), id);
    this.#reportRaw(id, error, req);
  }

  /** Bytes that are no HTTP, headers over the limit, or a request that took too long to arrive. */
  #clientError(error: NodeJS.ErrnoException, socket: Socket): void {
    if (!markOver(socket)) return;
    const fault = parserFault(error);
    if (fault === null || isAnswered(socket)) {
      socket.destroy();
      return;
    }
    const pending = [...this.#active].filter((exchange) => exchange.incoming.socket === socket);
    const broken = pending.find((exchange) => !exchange.incoming.complete);
    if (broken !== undefined && (broken.outgoing.headersSent || pending.length > 1)) {
      socket.destroy();
      return;
    }
    const id = broken?.id ?? makeId('req_', this.#options.clock.now());
    const answer = (): void => refuseOnSocket(socket, this.#options.renderError(fault, id), id);
    // Answers to whole requests that came before on this connection go first.
    const before = broken === undefined ? pending.at(-1) : undefined;
    if (before === undefined) answer();
    else before.outgoing.once('close', answer);
    broken?.abort();
    this.#reportRaw(id, fault, broken?.incoming ?? null, socket);
  }

  async start(): Promise<AddressInfo> {
    const { host, port } = splitAddress(this.#options.listen);
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    this.#server.once('error', reject);
    this.#server.listen({ host, port, backlog: 1024 }, resolve);
    await promise;
    this.#server.off('error', reject);
    this.#server.on('error', (error) => this.#options.logger.error({ err: error }, 'the listener failed'));
    this.#slowReaders.start(() => [...this.#active].map(({ outgoing }) => outgoing.socket));
    const { tls } = this.#options;
    if (tls !== undefined) {
      const secure = this.#server as unknown as SecureServer;
      this.#stopWatching = watchTls(secure, tls, this.#options.logger, (ok) => this.#options.onTlsReload?.(ok));
    }
    return this.#server.address() as AddressInfo;
  }

  async drain(ms: number, settleMs: number = Math.min(1000, ms / 4)): Promise<{ readonly drained: boolean }> {
    const began = performance.now();
    const left = (): number => Math.max(0, ms - (performance.now() - began));
    this.#draining = true;
    for (const exchange of this.#active) exchange.outgoing.lastOnConnection = true;
    if (settleMs > 0) await new Promise((resolve) => setTimeout(resolve, Math.min(settleMs, ms)));
    await this.#connections.acceptWaiting();
    this.#connections.stopAccepting();
    let drained = false;
    do {
      await this.#connections.closeIdle();
      drained = await this.#connections.allClosed(Math.min(IDLE_CHECK_MS, left()));
    } while (!drained && left() > 0);
    if (!drained) await this.#giveUp();
    this.#finish();
    return { drained };
  }

  /** The deadline: what has no answer yet is told so, the rest is cut. */
  async #giveUp(): Promise<void> {
    for (const exchange of this.#active) {
      if (!exchange.outgoing.takenOver) this.#refuse(exchange, new GatewayError('SHUTTING_DOWN', { retryAfter: 1 }));
    }
    await this.#connections.closeIdle();
    await this.#connections.allClosed(FLUSH_MS);
  }

  #finish(): void {
    this.#stopWatching();
    this.#slowReaders.stop();
    this.#connections.destroyAll();
    // Also ends Node's timer that looks for slow requests.
    this.#server.close();
  }

  async close(): Promise<void> {
    this.#draining = true;
    const listening = this.#server.listening;
    this.#finish();
    if (listening) await new Promise<void>((resolve) => this.#server.once('close', () => resolve()));
  }
}

function isWebSocketUpgrade(req: IncomingMessage): boolean {
  return req.method === 'GET' && req.headers.upgrade?.toLowerCase() === 'websocket';
}

function askForCertificate(tls: TlsFiles): { requestCert: boolean; rejectUnauthorized: boolean } {
  // Not required at this level: a route may take another credential instead. A bad certificate ends the connection below.
  return { requestCert: tls.client_ca !== undefined, rejectUnauthorized: false };
}

/** A certificate that was shown but is of no listed authority, or expired, is a failed login and not "no login". */
function refuseForeignCertificate(socket: TLSSocket): void {
  if (socket.authorized || socket.authorizationError === undefined) return;
  const shown = socket.getPeerX509Certificate();
  if (shown === undefined) return;
  markOver(socket);
  socket.destroy();
}

/** Says `100 Continue` only when somebody wants the body, so that a refused upload is never sent. */
function continueWhenRead(req: IncomingMessage, res: DoorResponse): void {
  req.on('newListener', function wanted(event: string | symbol) {
    if (event !== 'data' && event !== 'readable') return;
    req.off('newListener', wanted);
    if (!res.headersSent) res.writeContinue();
  });
}

function splitAddress(listen: string): { host: string; port: number } {
  const colon = listen.lastIndexOf(':');
  return { host: listen.slice(0, colon).replace(/^\[|\]$/g, ''), port: Number(listen.slice(colon + 1)) };
}

/**
 * Where a browser comes back to a program: a listener on 127.0.0.1 with a port of the system's choice that takes one
 * answer to what was asked and is gone. Source: RFC 8252 7.3 and 8.3, RFC 9700 4.
 */
import { hash, timingSafeEqual } from 'node:crypto';
import { createServer, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';

/** The way back of a browser. */
export interface Landing {
  readonly url: URL;
  /** Tells the person in the browser how it ended; resolves when that was sent. */
  reply(isGood: boolean): Promise<void>;
}

export interface Loopback extends AsyncDisposable {
  readonly redirectUri: string;
  /**
   * The first request to the redirect URI that carries the state of this login: what follows it is refused. Others on this
   * machine may come first; who does not know the state neither ends the login nor has it wait for less.
   */
  landing(state: string): Promise<Landing>;
}

const PATH = '/callback';

const page = (title: string, text: string): string =>
  `<!doctype html><html lang="en"><meta charset="utf-8"><title>${title}</title><h1>${title}</h1><p>${text}</p></html>\n`;
const GOOD = page('You are logged in', 'You may close this window.');
const BAD = page('The login failed', 'The terminal says why. You may close this window.');

/** Nothing of the request is repeated, nothing is kept, and no other page may frame or read it. */
const HEADERS = {
  'content-type': 'text/html; charset=utf-8',
  'cache-control': 'no-store',
  'content-security-policy': "default-src 'none'; frame-ancestors 'none'",
  'referrer-policy': 'no-referrer',
  'x-content-type-options': 'nosniff',
  connection: 'close',
};

function end(response: ServerResponse, status: number, body: string): Promise<void> {
  return new Promise((done) => {
    response.once('close', done);
    response.writeHead(status, HEADERS).end(body);
  });
}

/** Once, and this very one: of two nobody knows which counts. */
function hasState(url: URL, state: string): boolean {
  const [given, ...more] = url.searchParams.getAll('state');
  return more.length === 0 && given !== undefined && timingSafeEqual(digest(given), digest(state));
}

const digest = (text: string): Buffer => hash('sha256', text, 'buffer');

/** Rejects when the port cannot be had. */
export async function openLoopback(): Promise<Loopback> {
  const { promise, resolve } = Promise.withResolvers<Landing>();
  let isTaken = false;
  /** Null: no browser was sent away yet. */
  let expected: string | null = null;
  let origin = '';
  const server = createServer((request, response) => {
    const url = URL.parse(request.url ?? '', origin);
    // A name that was made to point here (DNS rebinding) is not the address the issuer was told.
    const isOurs = `http://${request.headers.host}` === origin && url?.origin === origin;
    if (url === null || !isOurs) return void end(response, 400, BAD);
    if (url.pathname !== PATH) return void end(response, 404, BAD);
    if (request.method !== 'GET') return void end(response, 405, BAD);
    if (expected === null || !hasState(url, expected)) return void end(response, 400, BAD);
    if (isTaken) return void end(response, 410, BAD);
    isTaken = true;
    resolve({ url, reply: (isGood) => end(response, isGood ? 200 : 400, isGood ? GOOD : BAD) });
  });
  await new Promise<void>((done, fail) => server.once('error', fail).listen(0, '127.0.0.1', done));
  origin = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  return {
    redirectUri: `${origin}${PATH}`,
    landing(state) {
      expected = state;
      return promise;
    },
    async [Symbol.asyncDispose]() {
      server.closeAllConnections();
      await new Promise((done) => server.close(done));
    },
  };
}

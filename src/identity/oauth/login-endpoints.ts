/** `/auth/oauth`: browsers log in at an OpenID provider, come back with a session, and end it. */
import { GatewayError } from '../../core/errors.ts';
import type { Admitted } from '../../core/exchange.ts';
import type { Endpoint, EndpointReply } from '../../protocols/endpoint.ts';
import { type Begun, LOGIN_SECONDS } from './login.ts';
import { cookieValue, type SessionCookie } from './session-cookie.ts';

/** One provider that logs browsers in. Ends that are not good are GatewayErrors, thrown. */
export interface BrowserLogin {
  readonly provider: string;
  readonly sessionSeconds: number;
  begin(redirectUri: string, returnTo: string, now: number): Promise<Begun>;
  /** The text for the session's cookie; null when the claims make no principal. */
  finish(query: string, sealed: string | null, now: number): Promise<{ returnTo: string; session: string | null }>;
  end(session: string): Promise<void>;
}

const CALLBACK = '/auth/oauth/callback';

/** Ends the session of a cookie, of whatever kind; nothing happens for one that is no good. */
export type EndSession = (text: string, exchange: Admitted) => Promise<void>;

/**
 * @param logins at least one; the first is meant when none is named
 * @param endOther for cookies that are not of these logins
 */
export function loginEndpoints(
  logins: readonly BrowserLogin[],
  cookie: SessionCookie,
  publicUrl: string,
  endOther?: EndSession,
): readonly Endpoint[] {
  const [first] = logins;
  if (first === undefined) return [];
  const endSession: EndSession = async (text, exchange) => {
    await first.end(text);
    await endOther?.(text, exchange);
  };
  // RFC 9700 4.4: each issuer its own address, so that an answer cannot be taken for another issuer's.
  const paths = new Map(
    logins.map((login) => [login, logins.length === 1 ? CALLBACK : `${CALLBACK}/${login.provider}`]),
  );
  const start: Endpoint = {
    ...{ method: 'GET', path: '/auth/oauth/start', access: 'anyone', body: null },
    async answer({ exchange, query }) {
      const wanted = query.get('provider');
      const login = wanted === null ? first : logins.find(({ provider }) => provider === wanted);
      if (login === undefined) throw new GatewayError('NOT_FOUND', { message: 'No such login' });
      const redirectUri = `${publicUrl.replace(/\/$/, '')}${paths.get(login)}`;
      const begun = await login.begin(
        redirectUri,
        safeReturn(query.getAll('return_to'), publicUrl),
        exchange.received.receivedAt,
      );
      return redirect(begun.location, cookie.line(cookie.loginName(begun.state), begun.sealed, LOGIN_SECONDS));
    },
  };
  const end: Endpoint = {
    ...{ method: 'POST', path: '/auth/oauth/logout', access: 'anyone', body: null },
    async answer({ exchange }) {
      const { headers, method } = exchange.received;
      if (!cookie.isOwn(headers, method)) throw new GatewayError('ORIGIN_DENIED');
      const session = read(headers.cookie, cookie.name);
      if (session !== null) await endSession(session, exchange);
      return { status: 204, headers: { 'set-cookie': cookie.line(cookie.name, '', 0) } };
    },
  };
  return [start, end, ...[...paths].map(([login, path]) => callback(login, path, cookie, endSession))];
}

function callback(login: BrowserLogin, path: string, cookie: SessionCookie, endSession: EndSession): Endpoint {
  return {
    ...{ method: 'GET', path, access: 'anyone', body: null },
    async answer({ exchange, query }) {
      const { headers, receivedAt, query: text } = exchange.received;
      const sealed = read(headers.cookie, cookie.loginName(query.get('state') ?? ''));
      const { session, returnTo } = await login.finish(text, sealed, receivedAt);
      if (session === null) throw new GatewayError('FORBIDDEN', { message: 'Who logged in has no place here' });
      // One browser, one session: nobody could end the one whose cookie is replaced.
      const before = cookieValue(headers.cookie ?? '', cookie.name);
      if (typeof before === 'string') await endSession(before, exchange);
      return redirect(returnTo, cookie.line(cookie.name, session, login.sessionSeconds));
    },
  };
}

function read(header: string | undefined, name: string): string | null {
  const value = header === undefined ? null : cookieValue(header, name);
  if (value instanceof GatewayError) throw value;
  return value;
}

function redirect(location: string, cookie: string): EndpointReply {
  return { status: 302, headers: { location, 'set-cookie': cookie, 'referrer-policy': 'no-referrer' } };
}

/** A path on this gateway, as a browser would read it; anything else would let others use our name to send people on. */
function safeReturn(given: readonly string[], publicUrl: string): string {
  const [wanted = '/'] = given;
  const refuse = () => new GatewayError('INVALID_REQUEST', { message: 'return_to must be a path on this gateway' });
  if (given.length > 1 || wanted.length > 2048 || !/^\/(?![/\\])[\x21-\x7e]*$/.test(wanted) || wanted.includes('\\'))
    throw refuse();
  const url = URL.parse(wanted, publicUrl);
  if (url === null || url.origin !== new URL(publicUrl).origin || url.pathname.startsWith('//')) throw refuse();
  return `${url.pathname}${url.search}`;
}

/**
 * The cookie of a browser session, and when a request that carries it is the user's own. Source: RFC 6265bis 4.1.3
 * (`__Host-`), Fetch Metadata, security 2.4.
 */
import { GatewayError } from '../../core/errors.ts';
import { Secret } from '../../core/secret.ts';
import type { Credential, IdentityFacts } from '../provider.ts';

/** A header that pages of other origins cannot send without being asked for: it proves a page of ours, or a program. */
const PROOF_HEADER = 'x-requested-with';
/** Where a cookie says nothing about who asks: beginning and ending sessions must work with a stale one. */
const LOGIN_PATHS = ['/auth/session', '/auth/login'];
const LOGIN_FOLDER = '/auth/oauth/';

const isLogin = (path: string): boolean => path.startsWith(LOGIN_FOLDER) || LOGIN_PATHS.includes(path);

type Headers = Readonly<Record<string, string>>;

export class SessionCookie {
  readonly #origin: string;
  readonly #isSecure: boolean;

  /** @param publicUrl what browsers call the gateway */
  constructor(publicUrl: string) {
    const url = new URL(publicUrl);
    this.#origin = url.origin;
    this.#isSecure = url.protocol === 'https:';
  }

  get name(): string {
    return this.#named('portcullis');
  }

  loginName(state: string): string {
    return this.#named(`portcullis_login_${state.slice(0, 8)}`);
  }

  #named(name: string): string {
    return this.#isSecure ? `__Host-${name}` : name;
  }

  /**
   * The Set-Cookie line. @param seconds until the browser forgets it; 0 at once. @param site `Lax` where the browser comes
   * back from another site with it, as from a login there
   */
  line(name: string, value: string, seconds: number, site: 'Lax' | 'Strict' = 'Lax'): string {
    const secure = this.#isSecure ? '; Secure' : '';
    return `${name}=${value}; Path=/; Max-Age=${seconds}; HttpOnly${secure}; SameSite=${site}`;
  }

  /** What the cookie says, whatever it is good for; null when there is none. Throws when it is there twice. */
  shown(headers: Headers): string | null {
    const value = headers.cookie === undefined ? null : cookieValue(headers.cookie, this.name);
    if (value instanceof GatewayError) throw value;
    return value;
  }

  /** What the browser brought back to the login of this state; null when there is nothing, or more than one. */
  loginShown(headers: Headers, state: string): string | null {
    const value = headers.cookie === undefined ? null : cookieValue(headers.cookie, this.loginName(state));
    return value instanceof GatewayError ? null : value;
  }

  /**
   * The session as a credential; null when there is none. An error when the cookie is there twice, or when a page of
   * another site may have sent it.
   */
  read(headers: Headers, facts: Pick<IdentityFacts, 'method' | 'path'>): Credential | GatewayError | null {
    if (headers.cookie === undefined || isLogin(facts.path)) return null;
    const value = cookieValue(headers.cookie, this.name);
    if (value === null) return null;
    if (value instanceof GatewayError) return value;
    if (!this.isOwn(headers, facts.method)) {
      return new GatewayError('ORIGIN_DENIED', { message: 'A page of another origin may not use the session' });
    }
    return { kind: 'session', value: new Secret(value), source: 'cookie' };
  }

  /** True when the request was made by the user or a page of ours, as far as a browser tells. */
  isOwn(headers: Headers, method: string): boolean {
    const { origin } = headers;
    if (origin !== undefined) return origin === this.#origin;
    if (headers[PROOF_HEADER] !== undefined) return true;
    const site = headers['sec-fetch-site'];
    const isReading = (method === 'GET' || method === 'HEAD') && headers.upgrade === undefined;
    if (site === 'same-origin') return true;
    if (!isReading) return false;
    // An address typed or a link followed: the page is shown to the user, and nobody else can read it.
    return site === undefined || site === 'none' || headers['sec-fetch-mode'] === 'navigate';
  }
}

/** Null when there is no such cookie, an error when there are two: one of them was put there by somebody else. */
export function cookieValue(header: string, name: string): string | GatewayError | null {
  let found: string | null = null;
  for (const part of header.split(';')) {
    const equals = part.indexOf('=');
    if (equals < 0 || part.slice(0, equals).trim() !== name) continue;
    if (found !== null) return new GatewayError('INVALID_REQUEST', { message: 'A cookie is there twice' });
    found = part.slice(equals + 1).trim();
  }
  return found;
}

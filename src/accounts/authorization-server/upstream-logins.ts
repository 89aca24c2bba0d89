/**
 * Logins at other providers on the way of an agent: begun from one login page, in one browser, and finished in the same.
 * What the provider sends back is good only with what this browser got when it was sent there, once, and for the login
 * under way from which it was begun; where the browser goes then stands nowhere in what it brings.
 * Source: RFC 9700 4.4 and 4.7, OpenID Connect Core 3.1.
 */
import { GatewayError } from '../../core/errors.ts';
import type { PersonLogin } from '../../identity/oauth/person-login.ts';
import type { SessionCookie } from '../../identity/oauth/session-cookie.ts';
import type { Vouched } from '../linked-accounts.ts';

export interface UpstreamLoginsOptions {
  /** As browsers know us; with the prefix of a proxy, if there is one. */
  readonly issuer: string;
  readonly logins: readonly PersonLogin[];
  readonly cookie: SessionCookie;
  /** How long a login may take. */
  readonly seconds: number;
}

/** One text for everything that is wrong: which it was helps only who did not begin the login. */
const NOT_OURS = 'This login was not begun by this browser, was finished before, or took too long: begin again';

type Headers = Readonly<Record<string, string>>;

export class UpstreamLogins {
  readonly #issuer: string;
  readonly #logins: ReadonlyMap<string, PersonLogin>;
  readonly #cookie: SessionCookie;
  readonly #seconds: number;

  constructor({ issuer, logins, cookie, seconds }: UpstreamLoginsOptions) {
    this.#issuer = issuer;
    this.#logins = new Map(logins.map((login) => [login.provider, login]));
    this.#cookie = cookie;
    this.#seconds = seconds;
  }

  /** What a login page leads to. */
  linksOf(uid: string): { readonly name: string; readonly href: string }[] {
    return [...this.#logins.keys()].map((name) => ({ name, href: this.#address(uid, 'with', name) }));
  }

  #address(uid: string, step: 'with' | 'from', provider: string): string {
    return `${this.#issuer}/oauth/login/${encodeURIComponent(uid)}/${step}/${encodeURIComponent(provider)}`;
  }

  #login(provider: string): PersonLogin {
    const login = this.#logins.get(provider);
    if (login === undefined) throw new GatewayError('NOT_FOUND', { message: 'No such login' });
    return login;
  }

  /** Where to send a browser, and the cookie it has to bring back. Rejects with AUTH_UNAVAILABLE. */
  async begin(provider: string, uid: string, now: number): Promise<{ location: string; cookie: string }> {
    const login = this.#login(provider);
    // RFC 9700 4.4: each issuer its own address, so that an answer cannot be taken for another issuer's.
    const back = `${this.#issuer}/oauth/callback/${encodeURIComponent(provider)}`;
    const { location, state, sealed } = await login.begin(back, uid, now);
    return { location, cookie: this.#cookie.line(this.#cookie.loginName(state), sealed, this.#seconds) };
  }

  /**
   * Where a browser that comes back goes on: below the page it came from, which is where the cookie of that page is sent.
   * Throws INVALID_REQUEST for one that was not sent away from here.
   */
  goOn(provider: string, query: string, headers: Headers): string {
    const sealed = this.#sealed(query, headers);
    const uid = sealed === null ? null : this.#login(provider).returnsTo(sealed);
    if (uid === null) throw new GatewayError('INVALID_REQUEST', { message: NOT_OURS });
    return `${this.#address(uid, 'from', provider)}${query}`;
  }

  /** Who logged in there for this login under way. Rejects as `Login.finish` does; for other logins' answers likewise. */
  async finish(provider: string, uid: string, query: string, headers: Headers, now: number): Promise<Vouched> {
    const login = this.#login(provider);
    const sealed = this.#sealed(query, headers);
    // Before anything is used up or asked: another login's answer stays good for that one.
    if (sealed === null || login.returnsTo(sealed) !== uid)
      throw new GatewayError('INVALID_REQUEST', { message: NOT_OURS });
    const { person } = await login.finish(query, sealed, now);
    if (person === null) throw new GatewayError('FORBIDDEN', { message: 'Who logged in has no place here' });
    const { principal, verifiedEmail: email, fullName: full_name } = person;
    const { id: subject, tenant_id, type, roles } = principal;
    // A name is but a name, whoever has looked at it.
    const username = principal.username ?? principal.email;
    return {
      ...{ provider, issuer: login.issuer, subject, tenant_id, type, username, email, full_name, roles },
      mfa_at: factorTime(principal.auth, now),
    };
  }

  /** The line that takes away the cookie of a login that is over. */
  forget(query: string): string {
    return this.#cookie.line(this.#cookie.loginName(stateOf(query)), '', 0);
  }

  #sealed(query: string, headers: Headers): string | null {
    return this.#cookie.loginShown(headers, stateOf(query));
  }
}

/** Only what a state can be made of: it becomes part of a cookie's name. */
function stateOf(query: string): string {
  return (new URLSearchParams(query).get('state') ?? '').replaceAll(/[^\w-]/g, '');
}

/** Never later than now: a provider's clock must not make a login look younger. */
function factorTime({ mfa_verified, mfa_at }: { mfa_verified: boolean; mfa_at: number | null }, now: number) {
  if (!mfa_verified) return null;
  return mfa_at === null ? now : Math.min(Math.floor(mfa_at * 1000), now);
}

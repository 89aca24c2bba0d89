/** An upstream OpenID provider that tells each user's claims, and a browser that logs in there on the way of an agent. */

import { AccountAdministration } from '../../src/composition/account-administration.ts';
import { Secret } from '../../src/core/secret.ts';
import { openDatabase } from '../../src/stores/database.ts';
import { ACCOUNTS } from './accounts.ts';
import { locationOf, PlainBrowser } from './agent-login.ts';
import { type AuthorizationServer, GATEWAY_CLIENT, startAuthorizationServer } from './authorization-server.ts';
import { scenarioConfig } from './gateway.ts';

export type Claims = Readonly<Record<string, unknown>>;

export interface Upstream extends AuthorizationServer {
  /** What is said of a subject from now on. */
  say(subject: string, claims: Claims): void;
}

export const OTHER_CLIENT = { client_id: 'somebody-else', client_secret: 'a-secret-of-somebody-else-there' } as const;

const TOLD = ['email', 'email_verified', 'preferred_username', 'name', 'roles', 'tenant_id', 'amr'];

/** Says what it is told of each subject. */
export async function startUpstream(redirectUris: readonly string[]): Promise<Upstream> {
  const said = new Map<string, Claims>();
  const server = await startAuthorizationServer({
    clients: [
      { ...GATEWAY_CLIENT, redirect_uris: [...redirectUris] },
      { ...OTHER_CLIENT, redirect_uris: [...redirectUris] },
    ],
    more: {
      claims: { openid: ['sub', ...TOLD] },
      findAccount: (context, id) => {
        const { amr } = said.get(id) ?? {};
        // As if its login page had asked for that.
        if (Array.isArray(amr) && context.oidc.session !== undefined) context.oidc.session.amr = amr.map(String);
        return { accountId: id, claims: () => ({ sub: id, ...said.get(id) }) };
      },
    },
  });
  return {
    ...server,
    say: (subject, claims) => void said.set(subject, claims),
    [Symbol.asyncDispose]: () => server[Symbol.asyncDispose](),
  };
}

/** A browser without pages over several sites: cookies of each, and the button of every form that the provider shows. */
export class Travelling {
  readonly gateway: PlainBrowser;
  readonly upstream: PlainBrowser;
  readonly #base: string;
  readonly #issuer: string;

  constructor(base: string, issuer: string) {
    this.#base = base;
    this.#issuer = issuer;
    this.gateway = new PlainBrowser(base);
    this.upstream = new PlainBrowser(issuer);
  }

  /** From an agent's request to the login page; gives its address. */
  async toLogin(url: string): Promise<string> {
    return locationOf(await this.gateway.go(url));
  }

  /** From the link on a login page to the callback, which is not visited. */
  async toCallback(login: string, subject: string, provider = 'corp'): Promise<URL> {
    const away = await this.gateway.go(`${login}/with/${provider}`);
    if (away.status !== 303)
      throw new Error(`the way to the provider was answered with ${away.status}: ${login} ${await away.text()}`);
    return this.through(locationOf(away), subject);
  }

  /** Logs in at the provider and agrees there. */
  async through(start: string, subject: string): Promise<URL> {
    let at = start;
    let form: Record<string, string> | undefined;
    for (let step = 0; step < 12; step++) {
      const answer: Response = await this.upstream.go(at, form);
      form = undefined;
      const location = answer.headers.get('location');
      if (location !== null) {
        at = new URL(location, this.#issuer).href;
        if (at.startsWith(this.#base)) return new URL(at);
        continue;
      }
      const prompt = (await answer.text()).includes('name="login"') ? 'login' : 'consent';
      form = { prompt, login: subject, password: 'x' };
    }
    throw new Error(`the login came to no end: ${at}`);
  }

  /** From the callback on to what the gateway says in the end: a page, or where it sends the browser away. */
  async land(callback: URL): Promise<Response> {
    return this.gateway.go(locationOf(await this.gateway.go(callback.href)));
  }

  /** The whole way to the consent page; gives its address. */
  async toConsent(url: string, subject: string): Promise<string> {
    const entered = await this.land(await this.toCallback(await this.toLogin(url), subject));
    if (entered.status !== 303)
      throw new Error(`the login was answered with ${entered.status}: ${await entered.text()}`);
    return locationOf(await this.gateway.go(locationOf(entered)));
  }
}

/** An operator's work, on the database of the gateway that runs in this folder. */
export async function administered<T>(
  home: string,
  act: (administration: AccountAdministration) => Promise<T>,
): Promise<T> {
  await using database = await openDatabase('sqlite:./portcullis.db', { baseDir: home });
  const { accounts } = scenarioConfig({ identity: { accounts: { kind: 'local' } }, accounts: ACCOUNTS }, home);
  const pepper = new Secret('p'.repeat(43));
  return await act(new AccountAdministration({ config: accounts, database, pepper, clock: { now: () => Date.now() } }));
}

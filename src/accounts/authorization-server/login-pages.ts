/** The two pages on the way: who it is, and whether this client may. Both are bound to one browser and one request. */
import { timingSafeEqual } from 'node:crypto';
import { z } from 'zod';
import { GatewayError } from '../../core/errors.ts';
import type { Admitted } from '../../core/exchange.ts';
import type { EndpointReply } from '../../protocols/endpoint.ts';
import type { SessionStanding } from '../../stores/sessions.ts';
import type { AccountReports } from '../account.ts';
import { originOf } from '../api.ts';
import type { Sealing } from './adapter.ts';
import type { Bridged } from './bridge.ts';
import type { Pending } from './engine-options.ts';
import { consentPage, errorPage, type FormFacts, leadsTo, loginPage, shown } from './pages.ts';
import type { GrantFacts, LoginOutcome } from './people.ts';
import type { AuthorizationServer } from './server.ts';
import type { UpstreamLogins } from './upstream-logins.ts';

export const loginForm = z.strictObject({
  csrf: z.string().max(128).default(''),
  action: z.enum(['login', 'allow', 'deny', 'switch']),
  username: z.string().max(254).default(''),
  password: z.string().max(4096).default(''),
  code: z.string().max(64).default(''),
});

export type LoginForm = z.output<typeof loginForm>;

export interface LoginPagesOptions {
  readonly server: AuthorizationServer;
  readonly seal: Pick<Sealing, 'nameOf'>;
  readonly reports: AccountReports;
  readonly upstreams: UpstreamLogins;
  /** Milliseconds from consent to the end of a grant. */
  readonly grantMs: number;
}

/** One request to the pages. */
interface Visit {
  readonly exchange: Admitted;
  readonly bridged: Bridged;
  readonly pending: Pending;
}

const MINUTE_MS = 60_000;
const DAY_MS = 86_400_000;

const WRONG_CODE = 'Your account has a second factor: type the password again, and the code of your app.';
const NO_FACTOR = 'Your account needs a second factor, and where you logged in none was asked for.';
const AWAY = 'This provider does not answer at the moment: try again in a few seconds, or log in in another way.';
const MUST_ENROL = 'Your account needs a second factor before it can be used: enrol one first.';

export class LoginPages {
  readonly #options: LoginPagesOptions;

  constructor(options: LoginPagesOptions) {
    this.#options = options;
  }

  /** The page that comes next. Faults are pages too. */
  show(exchange: Admitted, uid: string): Promise<EndpointReply> {
    return asPage(async () => {
      const visit = await this.#visit(exchange, uid);
      if (visit.pending.prompt === 'login') return this.#loginPage(visit.pending, 200, null);
      const person = await this.#person(visit);
      const { resources } = visit.pending;
      const lent = this.#lent(visit, person);
      const withheld = visit.pending.scopes.filter((scope) => !lent.includes(scope));
      const about = { username: person.username, resources, scopes: lent, withheld };
      const facts = { ...this.#facts(visit.pending), ...about };
      return shown(200, consentPage(facts));
    });
  }

  /** What somebody pressed. */
  submit(exchange: Admitted, uid: string, form: LoginForm): Promise<EndpointReply> {
    return asPage(async () => {
      this.#requireOwnForm(exchange, uid, form);
      const visit = await this.#visit(exchange, uid);
      if (form.action === 'deny') return this.#deny(visit);
      if (form.action === 'switch') return this.#switch(visit);
      // One page's button is nothing on the other one.
      if ((form.action === 'login') !== (visit.pending.prompt === 'login'))
        throw new GatewayError('INVALID_REQUEST', { message: 'This is not what was asked' });
      return form.action === 'login' ? this.#login(visit, form) : this.#allow(visit);
    });
  }

  /** Sends a browser to another provider, to come back here. */
  leave(exchange: Admitted, uid: string, provider: string): Promise<EndpointReply> {
    return asPage(async () => {
      const visit = await this.#loginVisit(exchange, uid);
      const { server, upstreams } = this.#options;
      return this.#orAgain(visit, async () => {
        await server.admit('upstream', server.options.config.requests_per_minute, MINUTE_MS, exchange);
        const { location, cookie } = await upstreams.begin(provider, uid, exchange.received.receivedAt);
        return { ...seeOther(location), cookies: [cookie] };
      });
    });
  }

  /** A browser is back from another provider. */
  arrive({ received: { query, headers } }: Admitted, provider: string): Promise<EndpointReply> {
    return asPage(async () => seeOther(this.#options.upstreams.goOn(provider, query, headers)));
  }

  /** And on the page it was sent from. */
  enter(exchange: Admitted, uid: string, provider: string): Promise<EndpointReply> {
    return asPage(async () => {
      const visit = await this.#loginVisit(exchange, uid);
      const { upstreams, server } = this.#options;
      const { query, headers, receivedAt } = exchange.received;
      const reply = await this.#orAgain(visit, async () => {
        const outcome = await server.options.people.logInElsewhere(
          provider,
          () => upstreams.finish(provider, uid, query, headers, receivedAt),
          originOf(exchange),
        );
        return outcome.kind === 'in' ? this.#goOn(visit, outcome) : this.#loginPage(visit.pending, 403, NO_FACTOR);
      });
      return { ...reply, cookies: [upstreams.forget(query)] };
    });
  }

  async #loginVisit(exchange: Admitted, uid: string): Promise<Visit> {
    const visit = await this.#visit(exchange, uid);
    if (visit.pending.prompt === 'login') return visit;
    throw new GatewayError('INVALID_REQUEST', { message: 'This is not what was asked' });
  }

  /** An end that is not good leads back to the login page, which says what it was; other ways to log in may be open. */
  async #orAgain({ pending }: Visit, act: () => Promise<EndpointReply>): Promise<EndpointReply> {
    try {
      return await act();
    } catch (error) {
      if (!(error instanceof GatewayError) || (error.status >= 500 && error.code !== 'AUTH_UNAVAILABLE')) throw error;
      const isAway = error.code === 'AUTH_UNAVAILABLE';
      return this.#loginPage(pending, error.status, isAway ? AWAY : error.message, '', error.extras.retryAfter);
    }
  }

  #loginPage(
    pending: Pending,
    status: number,
    fault: string | null,
    username = '',
    retryAfter?: number,
  ): EndpointReply {
    const links = this.#options.upstreams.linksOf(pending.uid);
    const more: Readonly<Record<string, string>> =
      retryAfter === undefined ? {} : { 'retry-after': String(retryAfter) };
    return shown(status, loginPage(this.#facts(pending), links, username, fault), more);
  }

  async #visit(exchange: Admitted, uid: string): Promise<Visit> {
    const { server } = this.#options;
    const bridged = server.bridged(exchange, { method: 'GET' });
    return { exchange, bridged, pending: await server.pending(exchange, bridged, uid) };
  }

  #facts({ uid, clientId, clientName, redirectUri }: Pending): FormFacts {
    const action = `${this.#options.server.options.issuer}/oauth/login/${encodeURIComponent(uid)}`;
    return { action, csrf: this.#csrf(uid), clientId, clientName, redirectUri };
  }

  #csrf(uid: string): string {
    return this.#options.seal.nameOf(`form\n${uid}`);
  }

  /** Forms of other sites have no effect here, with whatever cookies they come. */
  #requireOwnForm({ received: { headers } }: Admitted, uid: string, { csrf }: LoginForm): void {
    const { origin, 'sec-fetch-site': site } = headers;
    const own = new URL(this.#options.server.options.issuer).origin;
    const mine = Buffer.from(this.#csrf(uid));
    const given = Buffer.from(csrf);
    const isOwn = given.length === mine.length && timingSafeEqual(given, mine);
    if (!isOwn || (origin !== undefined && origin !== own) || (site !== undefined && site !== 'same-origin'))
      throw new GatewayError('ORIGIN_DENIED');
  }

  async #goOn({ bridged, pending }: Visit, outcome: Extract<LoginOutcome, { kind: 'in' }>): Promise<EndpointReply> {
    if (pending.accountId !== null && pending.accountId !== outcome.accountId) return this.#restart(bridged, pending);
    return seeOther(await this.#options.server.options.engine.loggedIn(bridged, outcome));
  }

  async #login(visit: Visit, form: LoginForm): Promise<EndpointReply> {
    const again = (status: number, fault: string, retryAfter?: number) =>
      this.#loginPage(visit.pending, status, fault, form.username, retryAfter);
    try {
      const outcome = await this.#options.server.options.people.logIn(form, originOf(visit.exchange));
      if (outcome.kind === 'code-missing') return again(401, WRONG_CODE);
      if (outcome.kind === 'must-enrol') return again(403, MUST_ENROL);
      return await this.#goOn(visit, outcome);
    } catch (error) {
      if (!(error instanceof GatewayError) || error.status >= 500) throw error;
      return again(error.status, error.message, error.extras.retryAfter);
    }
  }

  /** Who is logged in with this browser, as long as that session stands; throws FORBIDDEN otherwise. */
  async #person(visit: Visit): Promise<SessionStanding> {
    const person = await this.#whoever(visit);
    if (person === null) throw new GatewayError('FORBIDDEN', { message: 'Nobody is logged in any more: begin again' });
    return person;
  }

  async #whoever({ bridged, pending, exchange }: Visit): Promise<SessionStanding | null> {
    const { engine, people } = this.#options.server.options;
    const browser = await engine.browser(bridged);
    if (browser === null || browser.accountId !== pending.accountId || browser.sessionId === null) return null;
    return people.standing(browser.sessionId, browser.accountId, exchange.received.receivedAt);
  }

  async #allow(visit: Visit): Promise<EndpointReply> {
    const { engine, people, entries, config } = this.#options.server.options;
    const { bridged, pending, exchange } = visit;
    const person = await this.#person(visit);
    const origin = originOf(exchange);
    const sid = await people.beginGrant(person, origin);
    const lent = this.#lent(visit, person);
    const grantId = await engine.grant({ ...pending, accountId: person.account_id, lent });
    const facts: GrantFacts = {
      ...{ sid, accountId: person.account_id, amr: (await engine.browser(bridged))?.amr ?? [], grantedAt: origin.now },
      ...{ clientId: pending.clientId, clientName: pending.clientName, sentTo: leadsTo(pending.redirectUri).shown },
      ...{ scopes: lent, resources: pending.resources },
    };
    await people.bindGrant(entries, grantId, facts, Math.ceil(this.#options.grantMs / 1000));
    await entries.prolongClient(pending.clientId, config.registration.idle_days * DAY_MS);
    this.#report('oauth_authorization_granted', visit, person, sid, lent);
    return seeOther(await engine.consented(bridged, grantId));
  }

  /** What the client gets of what it asks for. */
  #lent({ pending: { scopes } }: Visit, { role }: SessionStanding): readonly string[] {
    return this.#options.server.options.engine.lendable(role, scopes);
  }

  async #deny(visit: Visit): Promise<EndpointReply> {
    const person = await this.#whoever(visit);
    this.#report('oauth_authorization_denied', visit, person, null, visit.pending.scopes);
    return seeOther(await this.#options.server.options.engine.refused(visit.bridged));
  }

  /** Ends the session of this browser, here and in the account. */
  async #switch(visit: Visit): Promise<EndpointReply> {
    const person = await this.#person(visit);
    await this.#options.server.options.people.endSession(
      person.session_id,
      person.account_id,
      originOf(visit.exchange),
    );
    return this.#restart(visit.bridged, visit.pending);
  }

  async #restart(bridged: Bridged, pending: Pending): Promise<EndpointReply> {
    const { engine, issuer } = this.#options.server.options;
    await engine.forgetBrowser(bridged);
    return seeOther(`${issuer}/oauth/authorize?${pending.query}`);
  }

  #report(
    type: 'oauth_authorization_granted' | 'oauth_authorization_denied',
    { exchange, pending }: Visit,
    person: SessionStanding | null,
    session_id: string | null,
    scopes: readonly string[],
  ): void {
    const account = person === null ? null : { id: person.account_id, tenant_id: person.tenant_id };
    const { clientId, clientName, redirectUri, resources } = pending;
    const details = { client_id: clientId, client_name: clientName, sent_to: leadsTo(redirectUri).shown };
    this.#options.reports.event({
      ...{ type, origin: originOf(exchange), account, session_id, key_id: null },
      details: { ...details, resources, scopes },
    });
  }
}

function seeOther(location: string): EndpointReply {
  return { status: 303, headers: { location, 'referrer-policy': 'no-referrer' } };
}

/** People read pages. */
async function asPage(make: () => Promise<EndpointReply>): Promise<EndpointReply> {
  try {
    return await make();
  } catch (error) {
    if (!(error instanceof GatewayError) || error.status >= 500) throw error;
    return shown(error.status, errorPage(error.code.toLowerCase(), error.message));
  }
}

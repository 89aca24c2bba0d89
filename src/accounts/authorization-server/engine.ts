/**
 * The one file that knows the authorization server library (oidc-provider): what it may do here, and what it is asked.
 * Off is everything that an agent with a browser does not need. Source: OAuth 2.1, RFC 7591, 7636, 8252, 8414, 8707,
 * 9068, 9207, 9700; MCP authorization (2026-07-28).
 */
import { createPublicKey, KeyObject, sign } from 'node:crypto';
import type { EventEmitter } from 'node:events';
import Provider, {
  type Account,
  type Adapter,
  type Configuration,
  ExternalSigningKey,
  errors,
  interactionPolicy,
  type KoaContextWithOIDC,
} from 'oidc-provider';
import { GatewayError } from '../../core/errors.ts';
import type { Signer, SigningRing } from '../../identity/signing-ring.ts';
import type { Bridged } from './bridge.ts';
import { type EngineOptions, type Pending, SCOPE } from './engine-options.ts';
import { errorPage } from './pages.ts';
import { isRedirect, shownName } from './registration.ts';

const PATHS = {
  authorization: '/oauth/authorize',
  jwks: '/.well-known/jwks.json',
  registration: '/oauth/register',
  revocation: '/oauth/revoke',
  token: '/oauth/token',
} as const;

const INTERACTION_SECONDS = 600;

/** Signs with whatever key the ring signs with, which changes while the gateway runs. */
class RingKey extends ExternalSigningKey {
  readonly #keys = new Map<string, KeyObject>();
  readonly #algorithm: string;
  #current: string;

  constructor(first: Signer) {
    super();
    this.#algorithm = first.algorithm;
    this.#current = '';
    this.take(first);
  }

  take({ kid, key }: Signer): void {
    if (kid === null || !(key instanceof KeyObject)) throw new Error('a shared secret signs no tokens for others');
    this.#current = kid;
    this.#keys.set(kid, key);
  }

  override get kid(): string {
    return this.#current;
  }

  override get alg(): string {
    return this.#algorithm;
  }

  #key(kid: string): KeyObject {
    const key = this.#keys.get(kid);
    if (key === undefined) throw new Error('there is no signing key of this name');
    return key;
  }

  override keyObject(): KeyObject {
    return createPublicKey(this.#key(this.#current));
  }

  /** By the key that the header names: another may have come between the two. */
  override sign(data: Uint8Array): Uint8Array {
    const text = Buffer.from(data).toString('latin1');
    const header = JSON.parse(Buffer.from(text.slice(0, text.indexOf('.')), 'base64url').toString()) as { kid: string };
    const key = this.#key(header.kid);
    return sign(this.#algorithm === 'EdDSA' ? null : 'sha256', data, { key, dsaEncoding: 'ieee-p1363' });
  }
}

/** Who is logged in with a browser, and how that was shown (RFC 8176). */
export interface Browser {
  readonly accountId: string;
  readonly sessionId: string | null;
  readonly amr: readonly string[];
}

type Answer = (request: Bridged['request'], response: Bridged['response']) => Promise<void>;

/** The library, set up, with the few things it is asked. */
export class Engine {
  readonly #provider: Provider;
  readonly #options: EngineOptions;
  readonly #ring: SigningRing;
  readonly #key: RingKey;
  readonly #answer: Answer;

  private constructor(options: EngineOptions, key: RingKey) {
    this.#options = options;
    this.#ring = options.ring;
    this.#key = key;
    this.#provider = new Provider(options.issuer, configurationOf(options, key));
    this.#answer = this.#provider.callback() as Answer;
    this.#listen();
  }

  /** Rejects when the signing keys cannot be read. */
  static async open(options: EngineOptions): Promise<Engine> {
    return new Engine(options, new RingKey(await options.ring.signer(options.clock.now())));
  }

  #listen(): void {
    const provider = this.#provider;
    const { notes } = this.#options;
    // Faults are answered by the library; what they were is for the operator, without anything that was sent.
    provider.on('server_error', (_context, error) => notes.fault(error));
    (provider as unknown as EventEmitter).on('error', (error: unknown) => notes.fault(error));
    provider.on('registration_create.success', (_context, client) => {
      notes.registered(client.clientId, client.clientName ?? null, client.redirectUris ?? []);
    });
    provider.on('grant.error', (context, error) => {
      const { RefreshToken: token, Client: client } = context.oidc.entities;
      const what = context.oidc.params?.grant_type === 'refresh_token' ? 'refresh_token' : 'authorization_code';
      if (/already (used|consumed)/.test(error.error_detail ?? ''))
        notes.reused(what, token?.accountId ?? null, client?.clientId ?? null);
    });
    provider.on('grant.success', (context) => {
      const { Client: client, AccessToken: token } = context.oidc.entities;
      const grantType = String(context.oidc.params?.grant_type ?? '');
      if (client !== undefined && token !== undefined)
        notes.issued({ clientId: client.clientId, accountId: token.accountId, grantType });
    });
  }

  /** Answers one request; the response has ended afterwards. */
  async answer({ request, response }: Bridged): Promise<void> {
    this.#key.take(await this.#ring.signer(this.#options.clock.now()));
    await Promise.all([this.#answer(request, response), response.ended]);
  }

  /** The login or consent this browser is in the middle of. Throws NOT_FOUND when there is none of this name. */
  async pending({ request, response }: Bridged, uid: string): Promise<Pending> {
    const found = await this.#provider.interactionDetails(request, response).catch((error: unknown) => {
      if (error instanceof errors.SessionNotFound) return null;
      throw error;
    });
    if (found === null || found.uid !== uid) throw new GatewayError('NOT_FOUND', { message: 'This login is over' });
    const client = await this.#provider.Client.find(String(found.params.client_id)).catch((error: unknown) => {
      // Its document is not what it was, or is away.
      if (error instanceof errors.OIDCProviderError) return undefined;
      throw error;
    });
    if (client === undefined) throw new GatewayError('NOT_FOUND', { message: 'The client is not known any more' });
    return {
      uid,
      prompt: found.prompt.name === 'login' ? 'login' : 'consent',
      clientId: client.clientId,
      // A client of a release before may be called anything.
      clientName: shownName(client.clientName ?? '') || null,
      redirectUri: String(found.params.redirect_uri),
      scopes: String(found.params.scope ?? '').split(' '),
      resources: [found.params.resource ?? []].flat().map(String),
      accountId: found.session?.accountId ?? null,
      query: new URLSearchParams(Object.entries(found.params).flatMap(texts)).toString(),
    };
  }

  /** Goes on with a login; gives the address to send the browser to. */
  loggedIn(bridged: Bridged, { accountId, sessionId, amr }: { accountId: string; sessionId: string; amr: string[] }) {
    // `acr` carries the session of our own: the library keeps it with its session and shows it to nobody.
    const login = { accountId, acr: sessionId, amr, remember: true };
    return this.#provider.interactionResult(bridged.request, bridged.response, { login });
  }

  /** Those of the scopes that somebody with this role may lend. */
  lendable(role: string, scopes: readonly string[]): readonly string[] {
    return this.#options.accounts.lendable(role, scopes);
  }

  consented(bridged: Bridged, grantId: string): Promise<string> {
    return this.#provider.interactionResult(bridged.request, bridged.response, { consent: { grantId } });
  }

  refused(bridged: Bridged): Promise<string> {
    const result = { error: 'access_denied', error_description: 'The user said no' };
    return this.#provider.interactionResult(bridged.request, bridged.response, result);
  }

  /** Writes down what was consented to: of what was asked for, the scopes that may be `lent`. */
  async grant({
    accountId,
    clientId,
    scopes,
    resources,
    lent,
  }: Pick<Pending, 'clientId' | 'scopes' | 'resources'> & { accountId: string; lent: readonly string[] }) {
    const grant = new this.#provider.Grant({ accountId, clientId });
    const { openid, rest } = byKind(scopes);
    const withheld = rest.filter((scope) => !lent.includes(scope)).join(' ');
    if (openid.length > 0) grant.addOIDCScope(openid.join(' '));
    for (const resource of resources) {
      grant.addResourceScope(resource, rest.filter((scope) => lent.includes(scope)).join(' '));
      // Else it would be asked for again.
      if (withheld !== '') grant.rejectResourceScope(resource, withheld);
    }
    return grant.save();
  }

  /** Who is logged in with this browser. */
  async browser({ request, response }: Bridged): Promise<Browser | null> {
    const session = await this.#provider.Session.get(this.#provider.createContext(request, response) as never);
    const { accountId, acr, amr = [] } = session;
    return accountId === undefined ? null : { accountId, sessionId: acr ?? null, amr };
  }

  /** Nobody is logged in with this browser any more. */
  async forgetBrowser({ request, response }: Bridged): Promise<void> {
    const session = await this.#provider.Session.get(this.#provider.createContext(request, response) as never);
    if (session.accountId !== undefined) await session.destroy();
  }
}

const texts = ([name, value]: [string, unknown]): [string, string][] =>
  [value ?? []].flat().map((one): [string, string] => [name, String(one)]);

const OPENID = new Set(['openid', 'offline_access']);

function byKind(scopes: readonly string[]): { openid: string[]; rest: string[] } {
  return { openid: scopes.filter((one) => OPENID.has(one)), rest: scopes.filter((one) => !OPENID.has(one)) };
}

function configurationOf(options: EngineOptions, key: RingKey): Configuration {
  const { config, entries, cookieKey } = options;
  const { client_documents: documents } = config;
  const configuration: Configuration = {
    adapter: (kind: string) => inTheirWords(entries.adapter(kind)),
    jwks: { keys: [key] } as never,
    routes: PATHS,
    clientDefaults: { grant_types: ['authorization_code'], id_token_signed_response_alg: key.alg as never },
    clientAuthMethods: ['none', 'client_secret_basic', 'client_secret_post', 'private_key_jwt'],
    responseTypes: ['code'],
    scopes: ['openid', 'offline_access'],
    claims: { openid: ['sub'], acr: null as never, auth_time: null as never, iss: null as never },
    pkce: { required: () => true },
    allowOmittingSingleRegisteredRedirectUri: false,
    extraClientMetadata: { properties: ['redirect_uris'], validator: requireRedirects },
    cookies: cookiesOf(options.issuer, cookieKey),
    fetch: ((url: string | URL) => options.fetch(url)) as never,
    fetchResponseBodyLimits: { 'client_id metadata document': documents.max_bytes, jwks_uri: documents.max_bytes },
    ttl: {
      ...{ AccessToken: config.access_seconds, AuthorizationCode: config.code_seconds, IdToken: config.access_seconds },
      ...{ Grant: Math.ceil(options.grantMs / 1000), RefreshToken: Math.ceil(options.grantMs / 1000) },
      ...{ Interaction: INTERACTION_SECONDS, Session: config.login_seconds },
    },
    features: featuresOf(options, key),
    interactions: { policy: policyOf(), url: (_context, { uid }) => `${prefixOf(options.issuer)}/oauth/login/${uid}` },
    ...subjectsOf(options),
    expiresWithSession: () => false,
    issueRefreshToken: async (_context, client) => client.grantTypeAllowed('refresh_token'),
    rotateRefreshToken: () => true,
    revokeGrantPolicy: () => true,
    clientBasedCORS: () => false,
    renderError: (context, out) => {
      const page = errorPage(out.error, out.error_description ?? null);
      context.set(page.headers);
      context.body = page.text;
    },
  };
  return configuration;
}

/** Off is everything that is not needed: what cannot be asked for cannot be abused. */
function featuresOf(options: EngineOptions, key: RingKey): NonNullable<Configuration['features']> {
  const { registration, client_documents: documents } = options.config;
  return {
    devInteractions: { enabled: false },
    rpInitiatedLogout: { enabled: false },
    userinfo: { enabled: false },
    claimsParameter: { enabled: false },
    pushedAuthorizationRequests: { enabled: false },
    dPoP: { enabled: false },
    revocation: { enabled: true, allowedPolicy: (_context, client, token) => token.clientId === client.clientId },
    registration: { enabled: registration.enabled, issueRegistrationAccessToken: false },
    clientIdMetadataDocument: {
      ...{ enabled: documents.enabled, ack: 'draft-02', cacheDuration: { min: 60, max: documents.cache_seconds } },
      allowFetch: () => options.mayFetch(),
    },
    externalSigningSupport: { enabled: true, ack: 'experimental-01' },
    resourceIndicators: resourcesOf(options, key),
  };
}

/** Who tokens are of, and what they say of them. */
function subjectsOf({ accounts }: EngineOptions): Pick<Configuration, 'loadExistingGrant' | 'findAccount' | 'formats'> {
  return {
    loadExistingGrant: async (context) => {
      const grantId = context.oidc.result?.consent?.grantId;
      return grantId === undefined ? undefined : context.oidc.provider.Grant.find(grantId);
    },
    findAccount: async (context, accountId, token) => {
      const grantId = (token as { grantId?: string } | undefined)?.grantId;
      const sessionId = grantId === undefined ? (context.oidc.session?.acr ?? null) : await accounts.sessionOf(grantId);
      const isGood = sessionId !== null && (await accounts.isGood(sessionId, accountId));
      return isGood ? ({ accountId, claims: () => ({ sub: accountId }) } satisfies Account) : undefined;
    },
    formats: {
      customizers: {
        jwt: async (_context, token, parts) => {
          const { grantId, accountId } = token as { grantId?: string; accountId?: string };
          const facts = await accounts.claims(grantId ?? '', accountId ?? '');
          // It ended a moment ago, at another gateway.
          if (facts === null) throw new errors.InvalidGrant('the session has ended');
          Object.assign(parts.payload, facts, { typ: 'access' });
          // What was lent once, and the owner may not have any more.
          const { scope } = parts.payload as { scope?: string };
          if (scope !== undefined)
            Object.assign(parts.payload, { scope: accounts.lendable(facts.role, scope.split(' ')).join(' ') });
        },
      },
    },
  };
}

/** Outcomes of our own, in words that clients of the protocol know. */
function inTheirWords(adapter: Adapter): Adapter {
  const told = (error: unknown): never => {
    if (!(error instanceof GatewayError)) throw error;
    if (error.code === 'CONFLICT') throw new errors.InvalidGrant(error.message);
    if (error.code === 'OVERLOADED') throw new errors.CustomOIDCProviderError('temporarily_unavailable', error.message);
    throw error;
  };
  return {
    ...adapter,
    consume: (id) => Promise.resolve(adapter.consume(id)).catch(told),
    upsert: (id, payload, seconds) => Promise.resolve(adapter.upsert(id, payload, seconds)).catch(told),
  };
}

/** The library lets clients of the web have codes sent over plain http, to wherever. */
function requireRedirects(_context: unknown, _name: string, value: unknown): void {
  // What is no list, and how long it may be, the library says.
  if (Array.isArray(value) && !value.every(isRedirect))
    throw new errors.InvalidRedirectUri('redirect_uris must be https, http to loopback, or an app’s own scheme');
}

const prefixOf = (issuer: string): string => new URL(issuer).pathname.replace(/\/$/, '');

function cookiesOf(issuer: string, key: string): NonNullable<Configuration['cookies']> {
  const attributes = { httpOnly: true, sameSite: 'lax', signed: true, secure: issuer.startsWith('https:') } as const;
  return {
    keys: [key],
    names: { session: 'pc_oauth', interaction: 'pc_oauth_login', resume: 'pc_oauth_resume' },
    long: { ...attributes, path: `${prefixOf(issuer)}/oauth` },
    short: attributes,
  };
}

function resourcesOf(
  { resources, config, publicResource }: EngineOptions,
  key: RingKey,
): NonNullable<NonNullable<Configuration['features']>['resourceIndicators']> {
  return {
    enabled: true,
    defaultResource: (_context: KoaContextWithOIDC, _client, oneOf) => (oneOf === undefined ? publicResource : oneOf),
    useGrantedResource: () => true,
    getResourceServerInfo: (_context, indicator) => {
      const found = resources(indicator);
      if (found === null) throw new errors.InvalidTarget();
      return {
        scope: [SCOPE, ...found.scopes, ...found.optional].join(' '),
        audience: found.audience,
        accessTokenTTL: config.access_seconds,
        accessTokenFormat: 'jwt',
        jwt: { sign: { alg: key.alg as never } },
      };
    },
  };
}

/** Nobody is let through without having said yes to this client this time: who began it may not be who it says. */
function policyOf() {
  const { base, Check } = interactionPolicy;
  const policy = base();
  const always = new Check('every_time', 'consent is asked for every time', 'consent_required', (context) =>
    context.oidc.result?.consent === undefined ? Check.REQUEST_PROMPT : Check.NO_NEED_TO_PROMPT,
  );
  policy.get('consent')?.checks.add(always);
  const ended = new Check('session_ended', 'the account is logged out', 'login_required', (context) =>
    context.oidc.account === undefined ? Check.REQUEST_PROMPT : Check.NO_NEED_TO_PROMPT,
  );
  policy.get('login')?.checks.add(ended);
  return policy;
}

/**
 * Logging a browser in: authorization code with PKCE, state, nonce and issuer. What has to be remembered until the
 * browser is back travels sealed in its own cookie, so that beginning logins fills no memory here; each can be finished
 * once. Source: RFC 9700, RFC 9207, OpenID Connect Core 3.1, acceptance S-62 to S-65, SF-50.
 */
import type { Configuration } from 'openid-client';
import {
  AuthorizationResponseError,
  authorizationCodeGrant,
  buildAuthorizationUrl,
  ClientError,
  calculatePKCECodeChallenge,
  fetchUserInfo,
  ResponseBodyError,
  randomNonce,
  randomPKCECodeVerifier,
  randomState,
} from 'openid-client';
import { GatewayError } from '../../core/errors.ts';
import type { JsonObject } from '../../core/json.ts';
import type { Logger } from '../../core/module.ts';
import type { Secret } from '../../core/secret.ts';
import type { Shared } from '../../stores/shared.ts';
import { idTokenProblem } from './id-token.ts';
import { Seal } from './seal.ts';
import type { AuthorizationServer } from './server.ts';

export interface LoginOptions {
  readonly provider: string;
  /** Keeps logins that are begun for one thing from being finished for another one. */
  readonly purpose: string;
  readonly server: AuthorizationServer;
  readonly clientId: string;
  readonly scopes: readonly string[];
  readonly algorithms: readonly string[];
  readonly withUserinfo: boolean;
  /** The server knows PKCE with S256 although its document does not say so. */
  readonly assumePkce: boolean;
  readonly shared: Shared;
  readonly pepper: Secret;
  readonly logger: Logger;
}

/** A login that was begun: where to send the browser, and what it has to bring back. */
export interface Begun {
  readonly location: string;
  readonly state: string;
  readonly sealed: string;
}

/** A login that succeeded. */
export interface Finished {
  readonly claims: JsonObject;
  readonly returnTo: string;
}

/** Seconds a login may take. */
export const LOGIN_SECONDS = 600;

interface Transaction {
  readonly state: string;
  readonly nonce: string;
  readonly verifier: string;
  readonly redirect_uri: string;
  readonly return_to: string;
  readonly until: number;
}

/** One text for everything that is wrong with a state: which it was helps only who did not begin the login. */
const NOT_OURS = 'This login was not begun by this browser, was finished before, or took too long: begin again';

export class Login {
  readonly #options: LoginOptions;
  readonly #seal: Seal;

  constructor(options: LoginOptions) {
    this.#options = options;
    this.#seal = new Seal(options.pepper, options.purpose);
  }

  get provider(): string {
    return this.#options.provider;
  }

  async begin(redirectUri: string, returnTo: string, now: number): Promise<Begun> {
    const configuration = await this.#configuration();
    const transaction: Transaction = {
      ...{ state: randomState(), nonce: randomNonce(), verifier: randomPKCECodeVerifier() },
      ...{ redirect_uri: redirectUri, return_to: returnTo, until: now + LOGIN_SECONDS * 1000 },
    };
    const url = buildAuthorizationUrl(configuration, {
      redirect_uri: redirectUri,
      scope: this.#options.scopes.join(' '),
      state: transaction.state,
      nonce: transaction.nonce,
      code_challenge: await calculatePKCECodeChallenge(transaction.verifier),
      code_challenge_method: 'S256',
    });
    const sealed = this.#seal.close(JSON.stringify(transaction), this.#context);
    return { location: url.href, state: transaction.state, sealed };
  }

  /** A transaction of one provider is nothing to another one: a code never gets to the wrong server. */
  get #context(): string {
    return `${this.#options.provider}\n${this.#options.server.issuer}`;
  }

  /** What a login was begun for; null when `sealed` was not made here. Uses nothing up. */
  returnsTo(sealed: string): string | null {
    const text = this.#seal.open(sealed, this.#context);
    return text === null ? null : (JSON.parse(text) as Transaction).return_to;
  }

  /**
   * @param query of the callback, with its `?`
   * @param sealed what the browser brought back
   */
  async finish(query: string, sealed: string | null, now: number): Promise<Finished> {
    const transaction = await this.#take(new URLSearchParams(query).getAll('state'), sealed, now);
    const configuration = await this.#configuration();
    try {
      const current = new URL(`${transaction.redirect_uri}${query}`);
      const claims = await this.#exchange(configuration, current, transaction);
      this.#options.logger.info({ provider: this.#options.provider }, 'oauth2_authentication_success');
      return { claims, returnTo: transaction.return_to };
    } catch (error) {
      throw this.#failure(error);
    }
  }

  /** The transaction of this state, which is used up by it. */
  async #take(states: readonly string[], sealed: string | null, now: number): Promise<Transaction> {
    const [state] = states;
    const text = sealed === null ? null : this.#seal.open(sealed, this.#context);
    // What was sealed here has this form.
    const transaction = text === null ? null : (JSON.parse(text) as Transaction);
    const isGood =
      transaction !== null && states.length === 1 && transaction.state === state && now < transaction.until;
    if (!isGood) throw new GatewayError('INVALID_REQUEST', { message: NOT_OURS });
    const key = `oauth-login:${this.#seal.nameOf(transaction.state)}`;
    if (!(await this.#options.shared.claim(key, '1', transaction.until - now))) {
      throw new GatewayError('INVALID_REQUEST', { message: NOT_OURS });
    }
    return transaction;
  }

  async #exchange(configuration: Configuration, current: URL, transaction: Transaction): Promise<JsonObject> {
    const tokens = await authorizationCodeGrant(configuration, current, {
      expectedState: transaction.state,
      expectedNonce: transaction.nonce,
      pkceCodeVerifier: transaction.verifier,
      idTokenExpected: true,
    });
    const { clientId, algorithms, withUserinfo } = this.#options;
    const checked = idTokenProblem(tokens.id_token ?? '', { accessToken: tokens.access_token, clientId, algorithms });
    if (typeof checked === 'string') throw new IdTokenFault(checked);
    if (!withUserinfo) return checked;
    const more = (await fetchUserInfo(
      configuration,
      tokens.access_token,
      String(checked.sub),
    )) as unknown as JsonObject;
    return { ...more, ...checked };
  }

  async #configuration(): Promise<Configuration> {
    const found = await this.#options.server.configuration();
    const problem = found === null ? 'the issuer is not known' : loginProblem(found, this.#options.assumePkce);
    if (found !== null && problem === null) return found;
    this.#options.logger.warn({ provider: this.#options.provider, problem }, 'oauth2_authentication_failed');
    throw new GatewayError('AUTH_UNAVAILABLE', { retryAfter: 5 });
  }

  #failure(error: unknown): GatewayError {
    if (error instanceof GatewayError) return error;
    const { logger, provider } = this.#options;
    logger.warn({ provider, reason: reasonOf(error) }, 'oauth2_authentication_failed');
    if (error instanceof AuthorizationResponseError) {
      return new GatewayError('FORBIDDEN', { message: 'The identity provider did not let the login pass' });
    }
    if (isVerdict(error)) {
      return new GatewayError('INVALID_CREDENTIALS', {
        message: 'The login could not be confirmed: begin again',
        challenge: 'Bearer realm="portcullis"',
      });
    }
    return new GatewayError('AUTH_UNAVAILABLE', { retryAfter: 5 });
  }
}

/** An ID token that is not good; the message is for the operator. */
class IdTokenFault extends Error {}

/** Codes of openid-client for answers that are none. */
const NO_VERDICT = new Set<string | undefined>([
  undefined,
  'OAUTH_TIMEOUT',
  'OAUTH_ABORT',
  'OAUTH_RESPONSE_IS_NOT_CONFORM',
  'OAUTH_RESPONSE_IS_NOT_JSON',
  'OAUTH_PARSE_ERROR',
]);

/** True when the server, or what it sent, says no; false when nobody can say. */
function isVerdict(error: unknown): boolean {
  if (error instanceof ResponseBodyError) return error.status < 500;
  return error instanceof IdTokenFault || (error instanceof ClientError && !NO_VERDICT.has(error.code));
}

/** A word for the operator's log; never what the server wrote, which may hold anything. */
function reasonOf(error: unknown): string {
  if (error instanceof AuthorizationResponseError || error instanceof ResponseBodyError)
    return error.error.slice(0, 64);
  if (error instanceof ClientError && error.code !== undefined) return error.code;
  if (error instanceof IdTokenFault) return error.message;
  return 'the authorization server could not be asked';
}

/** What keeps a server from logging anybody in. */
function loginProblem(configuration: Configuration, assumePkce: boolean): string | null {
  const server = configuration.serverMetadata();
  for (const name of ['authorization_endpoint', 'token_endpoint', 'jwks_uri'] as const) {
    if (server[name] === undefined) return `the issuer has no ${name}`;
  }
  // RFC 9700 2.1.1: without PKCE a stolen code is worth something.
  return assumePkce || server.supportsPKCE('S256') ? null : 'the issuer does not offer PKCE with S256';
}

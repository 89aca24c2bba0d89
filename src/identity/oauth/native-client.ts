/**
 * A program of a person as a client of an authorization server: no secret, PKCE, tokens for one resource. How the person
 * comes to the server's pages is told by the caller. Source: RFC 8252, RFC 7591, RFC 8707, RFC 9207, RFC 9700.
 */
import type { Configuration, ServerMetadata, TokenEndpointResponse } from 'openid-client';
import {
  AuthorizationResponseError,
  authorizationCodeGrant,
  buildAuthorizationUrl,
  ClientError,
  calculatePKCECodeChallenge,
  customFetch,
  None,
  ResponseBodyError,
  randomNonce,
  randomPKCECodeVerifier,
  randomState,
  refreshTokenGrant,
  tokenRevocation,
} from 'openid-client';
import type { Clock } from '../../core/clock.ts';
import { isJsonObject } from '../../core/json.ts';
import { Secret } from '../../core/secret.ts';
import { fetchDocument, isFetchable } from '../key-fetch.ts';
import { readJsonObject } from '../strict-json.ts';
import { ASYMMETRIC_ALGORITHMS } from '../verification-keys.ts';
import { idTokenProblem } from './id-token.ts';
import { AuthorizationServer, documentProblem } from './server.ts';
import { boundedFetch, WireError } from './wire.ts';

/** The login came to no good end, in words for the person. `isOutage`: nobody could be asked, so nobody said no. */
export class LoginFault extends Error {
  readonly isOutage: boolean;

  constructor(message: string, isOutage = false) {
    super(message);
    this.isOutage = isOutage;
  }
}

/** What a login gives. */
export interface GrantedTokens {
  readonly access: Secret;
  readonly refresh: Secret | null;
  /** Epoch milliseconds; null when the server does not say. */
  readonly expiresAt: number | null;
  /** Words, separated by spaces; null when the server granted what was asked. */
  readonly scope: string | null;
  /** `sub` of the ID token, where there is one. */
  readonly subject: string | null;
}

/** What is asked for. */
export interface LoginWish {
  readonly scope: string;
  /** Whom the tokens are for (RFC 8707); null: not said. */
  readonly resource: string | null;
}

/** Milliseconds for one question: a person waits, so more than the gateway allows itself. */
const TIMEOUT_MS = 10_000;

/** What the issuer's discovery document says, checked to be its own. Throws LoginFault. */
export async function openIssuer(issuer: string, clientId: string, clock: Clock): Promise<Configuration> {
  if (!isFetchable(issuer)) throw new LoginFault('the issuer must be an https address, or http on this machine');
  let why = 'it does not answer';
  const quiet = () => {};
  const warn = (fields: object | string) => {
    const { err } = fields as { err?: unknown };
    if (err instanceof Error) why = err.message;
  };
  const server = new AuthorizationServer({
    ...{ provider: 'login', issuer, clientId, authentication: None(), timeoutMs: TIMEOUT_MS, clock, known: null },
    logger: { debug: quiet, info: quiet, error: quiet, warn },
  });
  const found = (await server.configuration()) ?? (await openPlainIssuer(issuer, clientId, clock));
  if (found === null) throw new LoginFault(`the discovery document of ${issuer} cannot be used: ${why}`, true);
  return found;
}

/** An authorization server that is no OpenID provider says what it is at another address (RFC 8414 3.1). */
async function openPlainIssuer(issuer: string, clientId: string, clock: Clock): Promise<Configuration | null> {
  const { origin, pathname } = new URL(issuer);
  const address = `${origin}/.well-known/oauth-authorization-server${pathname.replace(/\/$/, '')}`;
  const document = readJsonObject(await fetchDocument(address).catch(() => Buffer.alloc(0)));
  if (document === null || documentProblem(document, issuer) !== null) return null;
  const quiet = () => {};
  return new AuthorizationServer({
    ...{ provider: 'login', issuer, clientId, authentication: None(), timeoutMs: TIMEOUT_MS, clock },
    logger: { debug: quiet, info: quiet, error: quiet, warn: quiet },
    // Every member that is used was checked above.
    known: document as unknown as ServerMetadata,
  }).configuration();
}

/** Makes a client for this one login; its id. Throws LoginFault where the issuer does not let programs do that. */
export async function registerClient(issuer: string, redirectUri: string, clock: Clock): Promise<string> {
  const server = (await openIssuer(issuer, 'unregistered', clock)).serverMetadata();
  const { registration_endpoint } = server;
  if (registration_endpoint === undefined) {
    throw new LoginFault(`${issuer} does not let programs register themselves: name a client with --client-id`);
  }
  const device = server.device_authorization_endpoint === undefined ? [] : [DEVICE_GRANT];
  const wanted = {
    ...{ client_name: 'portcullis', application_type: 'native', token_endpoint_auth_method: 'none' },
    ...{ redirect_uris: [redirectUri], response_types: ['code'] },
    grant_types: ['authorization_code', 'refresh_token', ...device],
  };
  try {
    const response = await boundedFetch(TIMEOUT_MS)(registration_endpoint, {
      ...{ method: 'POST', redirect: 'manual', body: JSON.stringify(wanted) },
      headers: { 'content-type': 'application/json', accept: 'application/json' },
    });
    const answer: unknown = await response.json().catch(() => null);
    const { client_id: id } = isJsonObject(answer) ? answer : {};
    if (response.status === 201 && typeof id === 'string' && id !== '' && id.length <= 2048) return id;
    throw new LoginFault(
      `${issuer} does not register this program (status ${response.status}): name a client with --client-id`,
    );
  } catch (error) {
    throw faultOf(error);
  }
}

/** A login that was begun: where to send the browser, and what turns its way back into tokens. */
export interface CodeLogin {
  readonly url: string;
  /** Comes back with the browser, and nobody else knows it (RFC 6749 10.12). */
  readonly state: string;
  /** @param callback the address the browser came back to. Throws LoginFault. */
  finish(callback: URL): Promise<GrantedTokens>;
}

/** Throws LoginFault when the issuer does not know PKCE: without it a stolen code is worth something. */
export async function beginCodeLogin(
  configuration: Configuration,
  { scope, resource, redirectUri, assumePkce }: LoginWish & { redirectUri: string; assumePkce: boolean },
  clock: Clock,
): Promise<CodeLogin> {
  const server = configuration.serverMetadata();
  if (server.authorization_endpoint === undefined) throw new LoginFault('the issuer has no page to log in');
  if (!assumePkce && !server.supportsPKCE('S256')) {
    throw new LoginFault(
      'the issuer does not say that it knows PKCE with S256; --assume-pkce if you know that it does',
    );
  }
  const [state, nonce, verifier] = [randomState(), randomNonce(), randomPKCECodeVerifier()];
  const words = scope.split(' ');
  const forResource = resource === null ? {} : { resource };
  const url = buildAuthorizationUrl(configuration, {
    ...{ redirect_uri: redirectUri, state, ...forResource, ...(scope === '' ? {} : { scope }) },
    ...{ code_challenge: await calculatePKCECodeChallenge(verifier), code_challenge_method: 'S256' },
    ...(words.includes('openid') ? { nonce } : {}),
    // OpenID Connect Core 11: without it a server may leave offline_access out.
    ...(words.includes('offline_access') ? { prompt: 'consent' } : {}),
  });
  return {
    url: url.href,
    state,
    async finish(callback) {
      try {
        const checks = words.includes('openid') ? { expectedNonce: nonce, idTokenExpected: true } : {};
        const sent = { expectedState: state, pkceCodeVerifier: verifier, ...checks };
        return tokensOf(
          await authorizationCodeGrant(configuration, callback, sent, forResource),
          configuration.clientMetadata().client_id,
          clock.now(),
        );
      } catch (error) {
        throw faultOf(error);
      }
    },
  };
}

/** New tokens for a refresh token. Throws LoginFault. */
export async function refreshLogin(
  configuration: Configuration,
  refresh: Secret,
  resource: string | null,
  clock: Clock,
): Promise<GrantedTokens> {
  try {
    const more: Record<string, string> = resource === null ? {} : { resource };
    const tokens = await refreshTokenGrant(configuration, refresh.reveal(), more);
    return tokensOf(tokens, configuration.clientMetadata().client_id, clock.now());
  } catch (error) {
    throw faultOf(error);
  }
}

/** Ends a token at its server. False when the server offers no way to. Throws LoginFault. */
export async function revokeToken(configuration: Configuration, token: Secret, hint: string): Promise<boolean> {
  if (configuration.serverMetadata().revocation_endpoint === undefined) return false;
  // RFC 7009 2.2: the body of the answer says nothing, and need not be there.
  configuration[customFetch] = boundedFetch(TIMEOUT_MS, 'body ignored');
  try {
    await tokenRevocation(configuration, token.reveal(), { token_type_hint: hint });
    return true;
  } catch (error) {
    throw faultOf(error);
  }
}

/** RFC 8628 3.4. */
export const DEVICE_GRANT = 'urn:ietf:params:oauth:grant-type:device_code';

/** RFC 6749 A.12 and A.17, without the space. */
const TOKEN = /^[\x21-\x7e]+$/;

/** Throws LoginFault for tokens that are none. */
export function tokensOf(answer: TokenEndpointResponse, clientId: string, now: number): GrantedTokens {
  const { access_token, refresh_token, expires_in, scope, id_token, token_type } = answer;
  if (token_type !== 'bearer') throw new LoginFault('the issuer gave a token that is no bearer token');
  // It is printed for scripts, and put into headers.
  if (!TOKEN.test(access_token) || !TOKEN.test(refresh_token ?? 'none'))
    throw new LoginFault('the issuer gave a token that is none');
  const rules = { accessToken: access_token, clientId, algorithms: ASYMMETRIC_ALGORITHMS };
  const claims = id_token === undefined ? null : idTokenProblem(id_token, rules);
  if (typeof claims === 'string') throw new LoginFault(claims);
  return {
    access: new Secret(access_token),
    refresh: refresh_token === undefined ? null : new Secret(refresh_token),
    expiresAt: expires_in === undefined ? null : now + expires_in * 1000,
    scope: scope ?? null,
    subject: typeof claims?.sub === 'string' ? claims.sub : null,
  };
}

/** Words of RFC 6749 4.1.2.1 and 5.2 and their kin; what a server adds to them may hold anything. */
const ERROR_WORD = /^[a-z_]{1,64}$/;
const told = (word: string): string => (ERROR_WORD.test(word) ? word : 'an error of its own');

/** Codes of openid-client for answers that did not come. */
const AWAY = new Set<string | undefined>([undefined, 'OAUTH_TIMEOUT', 'OAUTH_ABORT']);

/** What the person reads of it; never what the server wrote beyond a word of the protocol. */
export function faultOf(error: unknown): LoginFault {
  if (error instanceof LoginFault) return error;
  if (error instanceof AuthorizationResponseError) {
    return new LoginFault(`the issuer did not let the login pass: ${told(error.error)}`);
  }
  if (error instanceof ResponseBodyError) {
    return new LoginFault(`the issuer refuses: ${told(error.error)}`, error.status >= 500);
  }
  const cause = error instanceof Error ? error.cause : undefined;
  if (error instanceof WireError || cause instanceof WireError) {
    return new LoginFault(`the issuer ${(error instanceof WireError ? error : (cause as WireError)).message}`, true);
  }
  const isFailing = cause instanceof Response && cause.status >= 500;
  if (error instanceof ClientError && !AWAY.has(error.code) && !isFailing) {
    return new LoginFault(`the answer of the issuer is not good (${error.code})`);
  }
  return new LoginFault('the issuer does not answer', true);
}

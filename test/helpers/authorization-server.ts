/** A real authorization server (oidc-provider) in this process, with its own pages to log in and consent. */

import { generateKeyPairSync } from 'node:crypto';
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import Provider, { type ClientMetadata, type Configuration } from 'oidc-provider';

export interface AuthorizationServer extends AsyncDisposable {
  readonly issuer: string;
  readonly provider: Provider;
  /** Paths that were asked, in order. */
  readonly asked: string[];
  /** While set, every request is answered with it instead. */
  interfere(answer: ((path: string, server: Server) => { status: number; body: string } | null) | null): void;
}

export interface AuthorizationServerOptions {
  readonly clients?: readonly ClientMetadata[];
  /** What is said of users besides their name. */
  readonly claims?: Readonly<Record<string, unknown>>;
  /** Of access tokens for a resource. Default jwt. */
  readonly format?: 'jwt' | 'opaque';
  /** Scopes of resources, separated by spaces. */
  readonly scopes?: string;
  /** Lets clients register themselves, as MCP clients do. */
  readonly registration?: boolean;
  readonly more?: Partial<Configuration>;
}

export const GATEWAY_CLIENT = { client_id: 'gateway', client_secret: 'a-secret-of-the-gateway-at-its-issuer' } as const;

/** Seconds; given so that it does not talk about defaults. */
const LIVES = {
  ...{ AccessToken: 600, AuthorizationCode: 60, ClientCredentials: 600, Grant: 600, IdToken: 600 },
  ...{ Interaction: 600, RefreshToken: 600, Session: 600 },
};

export async function startAuthorizationServer(options: AuthorizationServerOptions = {}): Promise<AuthorizationServer> {
  const asked: string[] = [];
  let interference: Parameters<AuthorizationServer['interfere']>[0] = null;
  const server = createServer();
  await new Promise<void>((done) => server.listen(0, '127.0.0.1', done));
  const issuer = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  const provider = quietly(() => new Provider(issuer, configuration(options)));
  const answer = provider.callback();
  server.on('request', (request, response) => {
    const path = (request.url ?? '').split('?', 1)[0] ?? '';
    asked.push(path);
    const instead = interference?.(path, server) ?? null;
    if (instead === null) return void answer(request, response);
    response.writeHead(instead.status, { 'content-type': 'application/json' }).end(instead.body);
  });
  return {
    issuer,
    provider,
    asked,
    interfere: (next) => {
      interference = next;
    },
    async [Symbol.asyncDispose]() {
      server.closeAllConnections();
      await new Promise((done) => server.close(done));
    },
  };
}

/** It warns of everything a real deployment has to change; this is none. */
function quietly<T>(make: () => T): T {
  const { warn } = console;
  console.warn = () => undefined;
  try {
    return make();
  } finally {
    console.warn = warn;
  }
}

function configuration(options: AuthorizationServerOptions): Configuration {
  const { privateKey } = generateKeyPairSync('rsa', { modulusLength: 2048 });
  const claims = options.claims ?? {};
  return {
    clients: [...(options.clients ?? [])],
    jwks: { keys: [{ ...privateKey.export({ format: 'jwk' }), kid: 'as-1', use: 'sig', alg: 'RS256' } as never] },
    cookies: { keys: ['a key for the cookies of a test'] },
    scopes: ['openid', 'offline_access', ...(options.scopes ?? '').split(' ').filter((scope) => scope !== '')],
    claims: { openid: ['sub', ...Object.keys(claims)] },
    conformIdTokenClaims: false,
    findAccount: (_context, id) => ({ accountId: id, claims: () => ({ sub: id, ...claims }) }),
    extraTokenClaims: () => ({ ...claims }) as never,
    features: {
      devInteractions: { enabled: true },
      registration: { enabled: options.registration === true },
      introspection: { enabled: true, allowedPolicy: () => true },
      clientCredentials: { enabled: true },
      rpInitiatedLogout: { enabled: true },
      resourceIndicators: {
        enabled: true,
        defaultResource: () => [],
        useGrantedResource: () => true,
        getResourceServerInfo: (_context, resource) => ({
          scope: options.scopes ?? '',
          audience: resource,
          accessTokenTTL: 600,
          accessTokenFormat: options.format ?? 'jwt',
          ...(options.format === 'opaque' ? {} : { jwt: { sign: { alg: 'RS256' } } }),
        }),
      },
    },
    ttl: { ...LIVES },
    ...options.more,
  } as Configuration;
}

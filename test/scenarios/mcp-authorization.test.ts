/** MCP clients that know nothing but an address find out whom to ask, log in, and call a tool. */

import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import type {
  OAuthClientProvider,
  StoredOAuthClientInformation,
  StoredOAuthTokens,
} from '@modelcontextprotocol/client';
import { Client, StreamableHTTPClientTransport, UnauthorizedError } from '@modelcontextprotocol/client';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { AuthorizationServer } from '../helpers/authorization-server.ts';
import { GATEWAY_CLIENT, startAuthorizationServer } from '../helpers/authorization-server.ts';
import { logIn, NO_BROWSER, openBrowser } from '../helpers/browser.ts';
import type { TestGateway } from '../helpers/gateway.ts';
import { startGateway } from '../helpers/gateway.ts';
import { textOf } from '../helpers/gateway-mcp.ts';
import type { Example } from '../helpers/processes.ts';
import { freePorts, startExample } from '../helpers/processes.ts';
import type { Recorder } from '../helpers/upstreams.ts';
import { record } from '../helpers/upstreams.ts';
import { verifies } from '../helpers/verifies.ts';

let orders: Example;
let upstream: Recorder;
let issuer: AuthorizationServer;
let opaque: AuthorizationServer;
let gateway: TestGateway;
let base: string;

beforeAll(async () => {
  orders = await startExample('orders-server');
  upstream = await record(orders.url);
  const claims = { roles: ['developer'] };
  issuer = await startAuthorizationServer({
    ...{ clients: [machine('robot')], claims, registration: true, scopes: 'orders:use orders:admin' },
  });
  const clients = [machine('robot'), { ...GATEWAY_CLIENT, grant_types: [], redirect_uris: [], response_types: [] }];
  opaque = await startAuthorizationServer({ clients, claims, format: 'opaque', scopes: 'orders:use' });
  const [port = 0] = await freePorts(1);
  base = `http://127.0.0.1:${port}`;
  gateway = await startGateway({
    public_url: base,
    listen: { data: `127.0.0.1:${port}`, admin: { address: '127.0.0.1:0' } },
    identity: {
      keys: { kind: 'api-key' },
      staff: { kind: 'jwt', issuer: issuer.issuer, audience: `${base}/mcp/orders`, jwks: `${issuer.issuer}/jwks` },
      partners: { kind: 'introspection', issuer: opaque.issuer, ...GATEWAY_CLIENT },
    },
    servers: { orders: { type: 'sql', dialect: 'sqlite', url: upstream.url, environment: 'staging' } },
    routes: [
      { match: '/mcp/orders', protocol: 'mcp', server: 'orders', identity: ['staff'], scopes: ['orders:use'] },
      { match: '/mcp/partners', protocol: 'mcp', server: 'orders', identity: ['keys', 'partners'] },
      { match: '/mcp/inside', protocol: 'mcp', server: 'orders', identity: ['keys'] },
    ],
  });
});

afterAll(async () => {
  await gateway?.[Symbol.asyncDispose]();
  await issuer?.[Symbol.asyncDispose]();
  await opaque?.[Symbol.asyncDispose]();
  await upstream?.[Symbol.asyncDispose]();
  await orders?.crash();
});

/** A client that gets tokens for itself. */
function machine(client_id: string) {
  const client_secret = `a-secret-of-${client_id}-that-is-long`;
  return {
    client_id,
    client_secret,
    grant_types: ['client_credentials'],
    redirect_uris: [],
    response_types: [],
  } as never;
}

async function tokenFor(server: AuthorizationServer, resource: string, scope: string): Promise<string> {
  const response = await fetch(`${server.issuer}/token`, {
    method: 'POST',
    headers: { authorization: `Basic ${btoa('robot:a-secret-of-robot-that-is-long')}` },
    body: new URLSearchParams({ grant_type: 'client_credentials', resource, scope }),
  });
  const { access_token } = (await response.json()) as { access_token: string };
  return access_token;
}

const _meta = {
  'io.modelcontextprotocol/protocolVersion': '2026-07-28',
  'io.modelcontextprotocol/clientInfo': { name: 'raw', version: '1' },
  'io.modelcontextprotocol/clientCapabilities': {},
};
const BODY = JSON.stringify({ jsonrpc: '2.0', id: 1, method: 'tools/list', params: { _meta } });

/** One tools/list without an SDK, as raw as a client can. */
function list(path: string, token?: string): Promise<Response> {
  const headers: Record<string, string> = {
    'content-type': 'application/json',
    accept: 'application/json, text/event-stream',
    'mcp-protocol-version': '2026-07-28',
    'mcp-method': 'tools/list',
  };
  if (token !== undefined) headers.authorization = `Bearer ${token}`;
  return fetch(`${base}${path}`, { method: 'POST', headers, body: BODY });
}

const metadata = async (path: string) => {
  const response = await fetch(`${base}/.well-known/oauth-protected-resource${path}`);
  return { response, body: (await response.json()) as Record<string, unknown> };
};

describe('what the gateway says of itself', () => {
  test('each route has metadata of its own, and the gateway as a whole', async () => {
    const one = await metadata('/mcp/orders');
    expect(one.response.headers.get('cache-control')).toBe('public, max-age=60');
    expect(one.body).toEqual({
      resource: `${base}/mcp/orders`,
      authorization_servers: [issuer.issuer],
      bearer_methods_supported: ['header'],
      scopes_supported: ['orders:use'],
    });
    expect((await metadata('/mcp/partners')).body).toMatchObject({ authorization_servers: [opaque.issuer] });
    expect((await metadata('')).body).toMatchObject({
      resource: base,
      authorization_servers: [issuer.issuer, opaque.issuer],
    });
    expect((await metadata('/mcp/inside')).response.status).toBe(404);
  });

  test('who comes without a token is told where to read it, and what is needed', async () => {
    const response = await list('/mcp/orders');
    expect(response.status).toBe(401);
    expect(response.headers.get('www-authenticate')).toBe(
      `Bearer realm="portcullis", resource_metadata="${base}/.well-known/oauth-protected-resource/mcp/orders", scope="orders:use"`,
    );
    expect((await list('/mcp/inside')).headers.get('www-authenticate')).toBe('Bearer realm="portcullis"');
  });

  test('a bad token is called one, and so is a header that cannot be read', async () => {
    for (const token of ['nonsense', 'a.b.c', 'two words']) {
      const response = await list('/mcp/orders', token);
      expect(response.status).toBe(401);
      expect(response.headers.get('www-authenticate')).toContain('error="invalid_token"');
      expect(response.headers.get('www-authenticate')).toContain(`resource_metadata="${base}/`);
    }
  });

  test('a token that covers too little is told everything that is needed', async () => {
    const response = await list('/mcp/orders', await tokenFor(issuer, `${base}/mcp/orders`, 'orders:admin'));
    expect(response.status).toBe(403);
    const challenge = response.headers.get('www-authenticate') ?? '';
    expect(challenge).toContain('error="insufficient_scope"');
    expect(challenge).toContain('scope="orders:use"');
    expect(challenge).toContain(`resource_metadata="${base}/.well-known/oauth-protected-resource/mcp/orders"`);
  });
});

describe('tokens', () => {
  test.each([
    ['for this resource', '/mcp/orders', 200],
    ['for another resource of ours', '/mcp/partners', 401],
    ['for another gateway', 'https://other.example/mcp/orders', 401],
  ])('signed ones %s', async (_name, resource, status) => {
    verifies('D-08', 'SF-50');
    const uri = resource.startsWith('/') ? `${base}${resource}` : resource;
    expect((await list('/mcp/orders', await tokenFor(issuer, uri, 'orders:use'))).status).toBe(status);
  });

  test.each([
    ['for this resource', '/mcp/partners', 200],
    ['for the gateway as a whole', '', 200],
    ['for another resource of ours', '/mcp/orders', 401],
  ])('opaque ones %s', async (_name, resource, status) => {
    verifies('D-07', 'S-66', 'SF-50');
    const token = await tokenFor(opaque, `${base}${resource}`, 'orders:use');
    expect(token).not.toContain('.');
    expect((await list('/mcp/partners', token)).status).toBe(status);
  });

  test('are asked about once and remembered; discovery is not asked again', async () => {
    verifies('S-63', 'SF-50');
    const token = await tokenFor(opaque, `${base}/mcp/partners`, 'orders:use');
    const before = opaque.asked.length;
    for (let i = 0; i < 5; i++) expect((await list('/mcp/partners', token)).status).toBe(200);
    expect(opaque.asked.slice(before)).toEqual(['/token/introspection']);
  });

  test('never go on to a server', async () => {
    const token = await tokenFor(opaque, `${base}/mcp/partners`, 'orders:use');
    await list('/mcp/partners', token);
    expect(upstream.header('authorization')).toEqual([]);
  });

  test('while the authorization server is away, unknown ones are 503 and API keys work', async () => {
    const token = await tokenFor(opaque, `${base}/mcp/partners`, 'orders:use');
    opaque.interfere(() => ({ status: 500, body: '{}' }));
    try {
      expect((await list('/mcp/partners', token)).status).toBe(503);
      expect((await list('/mcp/partners', await gateway.key('developer'))).status).toBe(200);
    } finally {
      opaque.interfere(null);
    }
  });
});

/** Keeps what an MCP client keeps, and hands the address to visit to the test. */
class Wallet implements OAuthClientProvider {
  readonly redirectUrl: string;
  visited: URL | null = null;
  #client: StoredOAuthClientInformation | undefined;
  #tokens: StoredOAuthTokens | undefined;
  #verifier = '';
  readonly #state = crypto.randomUUID();

  constructor(redirectUrl: string) {
    this.redirectUrl = redirectUrl;
  }
  get clientMetadata() {
    return {
      ...{ client_name: 'scenario', redirect_uris: [this.redirectUrl], token_endpoint_auth_method: 'none' },
      ...{
        grant_types: ['authorization_code', 'refresh_token'],
        response_types: ['code'],
        application_type: 'native' as const,
      },
    };
  }
  state() {
    return this.#state;
  }
  clientInformation() {
    return this.#client;
  }
  saveClientInformation(client: StoredOAuthClientInformation) {
    this.#client = client;
  }
  tokens() {
    return this.#tokens;
  }
  saveTokens(tokens: StoredOAuthTokens) {
    this.#tokens = tokens;
  }
  redirectToAuthorization(url: URL) {
    this.visited = url;
  }
  saveCodeVerifier(verifier: string) {
    this.#verifier = verifier;
  }
  codeVerifier() {
    return this.#verifier;
  }
}

describe(`an MCP client with nothing but the address${NO_BROWSER}`, () => {
  test.skipIf(NO_BROWSER !== '')('finds the issuer, lets its user log in, and calls a tool', async () => {
    verifies('S-64', 'D-08');
    const landing = createServer((_request, response) => response.end('You may close this page.'));
    await new Promise<void>((done) => landing.listen(0, '127.0.0.1', done));
    const landingUrl = `http://127.0.0.1:${(landing.address() as AddressInfo).port}/landing`;
    const browser = await openBrowser();
    try {
      const wallet = new Wallet(landingUrl);
      const url = new URL(`${base}/mcp/orders`);
      const first = new StreamableHTTPClientTransport(url, { authProvider: wallet });
      const info = { name: 'scenario', version: '1.0.0' };
      await expect(new Client(info).connect(first)).rejects.toThrow(UnauthorizedError);
      expect(wallet.visited?.origin).toBe(issuer.issuer);
      expect(wallet.visited?.searchParams.get('resource')).toBe(`${base}/mcp/orders`);
      expect(wallet.visited?.searchParams.get('scope')).toContain('orders:use');
      const page = await browser.newPage();
      const landed = await logIn(page, String(wallet.visited), 'dana', (at) => at.pathname === '/landing');
      await first.finishAuth(landed.searchParams);
      const client = new Client(info);
      await client.connect(new StreamableHTTPClientTransport(url, { authProvider: wallet }));
      const result = await client.callTool({ name: 'execute_query', arguments: { query: 'SELECT 1 AS one' } });
      expect(textOf(result)).toContain('one');
      await client.close();
      expect(upstream.header('authorization')).toEqual([]);
      expect(new Set(upstream.header('x-auth-user'))).toContain('dana');
    } finally {
      await browser.close();
      landing.close();
    }
  });
});

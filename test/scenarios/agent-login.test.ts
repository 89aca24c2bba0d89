/** Agents with nothing but the gateway's address log in with its own accounts, in a real browser, and call a tool. */
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import * as modern from '@modelcontextprotocol/client';
import { Client as ClassicClient } from '@modelcontextprotocol/sdk/client/index.js';
import { StreamableHTTPClientTransport as ClassicTransport } from '@modelcontextprotocol/sdk/client/streamableHttp.js';
import type { Browser } from 'playwright-core';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { ACCOUNTS, authClient, PASSWORD } from '../helpers/accounts.ts';
import { CALLBACK, PlainBrowser, toCallback, Wallet } from '../helpers/agent-login.ts';
import { NO_BROWSER, openBrowser } from '../helpers/browser.ts';
import { startGateway, type TestGateway } from '../helpers/gateway.ts';
import { textOf } from '../helpers/gateway-mcp.ts';
import { type Example, freePorts, startExample } from '../helpers/processes.ts';
import { type Recorder, record } from '../helpers/upstreams.ts';
import { verifies } from '../helpers/verifies.ts';

let orders: Example;
let upstream: Recorder;
let gateway: TestGateway;
let base: string;

const USERNAME = 'dana';

beforeAll(async () => {
  orders = await startExample('orders-server');
  upstream = await record(orders.url);
  const [port = 0] = await freePorts(1);
  base = `http://127.0.0.1:${port}`;
  gateway = await startGateway({
    public_url: base,
    listen: { data: `127.0.0.1:${port}`, admin: { address: '127.0.0.1:0' } },
    identity: { keys: { kind: 'api-key' }, accounts: { kind: 'local' } },
    accounts: {
      ...{ ...ACCOUNTS, default_role: 'developer', authorization_server: { enabled: true } },
      roles: { developer: { permissions: [] } },
    },
    servers: { orders: { type: 'sql', dialect: 'sqlite', url: upstream.url, environment: 'staging' } },
    routes: [
      {
        match: '/mcp/orders',
        protocol: 'mcp',
        server: 'orders',
        identity: ['keys', 'accounts'],
        scopes: ['orders:use'],
      },
      { match: '/mcp/inside', protocol: 'mcp', server: 'orders', identity: ['keys'] },
    ],
  });
  await authClient(base)('POST', '/auth/register', {
    ...{ username: USERNAME, email: 'dana@example.com', password: PASSWORD },
  });
});

afterAll(async () => {
  await gateway?.[Symbol.asyncDispose]();
  await upstream?.[Symbol.asyncDispose]();
  await orders?.crash();
});

/** Somebody at the browser: logs in where that is asked, and says yes. Gives where the browser lands. */
async function sayYes(browser: Browser, start: string): Promise<URL> {
  const context = await browser.newContext({ javaScriptEnabled: false });
  const page = await context.newPage();
  const refused: string[] = [];
  page.on('console', (message) => refused.push(message.text()));
  try {
    await page.goto(start);
    await page.getByLabel('Username').fill(USERNAME);
    await page.getByLabel('Password').fill('not it');
    await page.getByLabel('Password').press('Enter');
    await page.getByRole('alert').waitFor();
    expect(await page.getByLabel('Username').inputValue()).toBe(USERNAME);
    await page.getByLabel('Password').fill(PASSWORD);
    await page.getByRole('button', { name: 'Log in' }).click();
    await page.getByRole('heading', { name: 'Allow access?' }).waitFor();
    expect(await page.locator('main').innerText()).toContain('orders:use');
    await page.getByRole('button', { name: 'Allow' }).click();
    await page.waitForURL((url) => url.pathname === '/landing');
    // A page that breaks its own rules would say so.
    expect(refused.filter((text) => /Content.Security.Policy/i.test(text))).toEqual([]);
    return new URL(page.url());
  } finally {
    await context.close();
  }
}

const info = { name: 'scenario', version: '1.0.0' };
const CALL = { name: 'execute_query', arguments: { query: 'SELECT 1 AS one' } };

async function landing() {
  const server = createServer((_request, response) => response.end('You may close this page.'));
  await new Promise<void>((done) => server.listen(0, '127.0.0.1', done));
  return { url: `http://127.0.0.1:${(server.address() as AddressInfo).port}/landing`, close: () => server.close() };
}

describe('what is said of it', () => {
  test('a route names the gateway as where to log in, the challenge leads there, and routes without accounts do not', async () => {
    const unknown = await fetch(`${base}/mcp/orders`, { method: 'POST', body: '{}' });
    expect(unknown.status).toBe(401);
    const metadata = `${base}/.well-known/oauth-protected-resource/mcp/orders`;
    expect(unknown.headers.get('www-authenticate')).toContain(`resource_metadata="${metadata}"`);
    expect(await (await fetch(metadata)).json()).toMatchObject({
      ...{ resource: `${base}/mcp/orders`, authorization_servers: [base], scopes_supported: ['orders:use'] },
    });
    expect((await fetch(`${base}/.well-known/oauth-protected-resource/mcp/inside`)).status).toBe(404);
  });

  test.each(['oauth-authorization-server', 'openid-configuration'])('/.well-known/%s', async (name) => {
    const response = await fetch(`${base}/.well-known/${name}`);
    expect(response.headers.get('content-type')).toContain('application/json');
    expect(await response.json()).toMatchObject({
      issuer: base,
      authorization_endpoint: `${base}/oauth/authorize`,
      token_endpoint: `${base}/oauth/token`,
      revocation_endpoint: `${base}/oauth/revoke`,
      registration_endpoint: `${base}/oauth/register`,
      jwks_uri: `${base}/.well-known/jwks.json`,
      code_challenge_methods_supported: ['S256'],
      response_types_supported: ['code'],
      response_modes_supported: ['query'],
      authorization_response_iss_parameter_supported: true,
      client_id_metadata_document_supported: true,
    });
  });
});

describe(`an MCP client with nothing but the address${NO_BROWSER}`, () => {
  let browser: Browser;
  beforeAll(async () => {
    if (NO_BROWSER === '') browser = await openBrowser();
  });
  afterAll(() => browser?.close());

  test.skipIf(NO_BROWSER !== '')('registers itself, has its user log in and agree, and calls a tool', async () => {
    verifies('S-64', 'D-08', 'SF-50');
    const land = await landing();
    const url = new URL(`${base}/mcp/orders`);
    const wallet = new Wallet(land.url);
    try {
      const first = new modern.StreamableHTTPClientTransport(url, { authProvider: wallet });
      await expect(new modern.Client(info).connect(first)).rejects.toThrow(modern.UnauthorizedError);
      expect(wallet.visited?.searchParams.get('resource')).toBe(`${base}/mcp/orders`);
      const landed = await sayYes(browser, String(wallet.visited));
      expect(landed.searchParams.get('iss')).toBe(base);
      await first.finishAuth(landed.searchParams);
      const client = new modern.Client(info);
      await client.connect(new modern.StreamableHTTPClientTransport(url, { authProvider: wallet }));
      expect(textOf(await client.callTool(CALL))).toContain('one');
      await client.close();
      // Its token stays here; whose call it is does not.
      expect(upstream.header('authorization')).toEqual([]);
      expect(upstream.header('x-auth-user').every((id) => id.startsWith('usr_'))).toBe(true);
    } finally {
      land.close();
    }
    // When its access token is worth nothing any more it gets another one by itself.
    const before = wallet.tokens();
    wallet.saveTokens({ ...before, access_token: 'a.b.c' });
    const again = new modern.Client(info);
    await again.connect(new modern.StreamableHTTPClientTransport(url, { authProvider: wallet }));
    expect(textOf(await again.callTool(CALL))).toContain('one');
    await again.close();
    expect(wallet.tokens().refresh_token).not.toBe(before.refresh_token);
    await tellsEverything(wallet);
  });
});

test('a client of the generation before gets there too', async () => {
  const url = new URL(`${base}/mcp/orders`);
  const wallet = new Wallet(CALLBACK);
  const first = new ClassicTransport(url, { authProvider: wallet });
  await expect(new ClassicClient(info).connect(first as never)).rejects.toThrow();
  const landed = await toCallback(new PlainBrowser(base), String(wallet.visited), USERNAME, PASSWORD);
  await first.finishAuth(landed.searchParams.get('code') ?? '');
  const client = new ClassicClient(info);
  await client.connect(new ClassicTransport(url, { authProvider: wallet }) as never);
  expect(textOf((await client.callTool(CALL)) as never)).toContain('one');
  await client.close();
});

/** The audit names each step; neither it nor a log line has a token, a code or the password. */
async function tellsEverything(wallet: Wallet): Promise<void> {
  const steps = ['oauth_client_registered', 'oauth_authorization_granted', 'oauth_token_issued'];
  const events = await gateway.audited((all) => steps.every((step) => all.some((one) => one.event_type === step)));
  const { client_id } = wallet.clientInformation();
  const granted = events.find((one) => one.event_type === 'oauth_authorization_granted');
  expect(granted).toMatchObject({ details: { client_id, client_name: 'scenario', scopes: ['orders:use', 'gateway'] } });
  const { access_token, refresh_token } = wallet.tokens();
  const written = JSON.stringify(events) + gateway.logs.join('\n');
  for (const secret of [access_token, access_token.split('.')[2], refresh_token, wallet.codeVerifier(), PASSWORD])
    expect(written).not.toContain(secret);
}

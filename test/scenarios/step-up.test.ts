/** MCP clients with nothing but an address begin with the least, and come back with more when a tool needs it. */
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import * as modern from '@modelcontextprotocol/client';
import { Client as ClassicClient } from '@modelcontextprotocol/sdk/client/index.js';
import { StreamableHTTPClientTransport as ClassicTransport } from '@modelcontextprotocol/sdk/client/streamableHttp.js';
import type { Browser, BrowserContext, Page } from 'playwright-core';
import { afterAll, beforeAll, describe, expect, test, vi } from 'vitest';
import { AccountAdministration } from '../../src/composition/account-administration.ts';
import { openDatabase } from '../../src/stores/database.ts';
import { loadPepper } from '../../src/stores/pepper.ts';
import { ACCOUNTS, authClient, PASSWORD } from '../helpers/accounts.ts';
import {
  CALLBACK,
  fill,
  locationOf,
  PlainBrowser,
  postForm,
  toCallback,
  toConsent,
  Wallet,
} from '../helpers/agent-login.ts';
import { NO_BROWSER, openBrowser } from '../helpers/browser.ts';
import { type PartialConfig, scenarioConfig, startGateway, type TestGateway } from '../helpers/gateway.ts';
import { textOf } from '../helpers/gateway-mcp.ts';
import { type Example, freePorts, startExample } from '../helpers/processes.ts';
import { type Recorder, record } from '../helpers/upstreams.ts';

let orders: Example;
let upstream: Recorder;
let gateway: TestGateway;
let base: string;

const config = (): PartialConfig => {
  const server = { type: 'sql', dialect: 'sqlite', url: upstream.url, environment: 'staging' } as const;
  const route = { protocol: 'mcp' as const, server: 'orders', identity: ['accounts'] };
  return {
    public_url: base,
    listen: { data: new URL(base).host, admin: { address: '127.0.0.1:0' } },
    identity: { accounts: { kind: 'local' } },
    // Browsers without credentials share one count, and there are many pages here.
    rate_limit: { window_ms: 500 },
    accounts: {
      ...{ ...ACCOUNTS, default_role: 'data_engineer', authorization_server: { enabled: true } },
      // The second may query, and lend that; what it takes to change orders it does not have.
      roles: { data_engineer: { permissions: ['orders:*'] }, developer: { permissions: [] } },
    },
    servers: {
      orders: {
        ...server,
        tools: { 'update_*': { scopes: ['orders:write'] }, execute_query: { scopes: ['orders:read'] } },
      },
    },
    routes: [
      { ...route, match: '/mcp/orders', scopes: ['orders:use'] },
      { ...route, match: '/mcp/plain' },
    ],
  };
};

beforeAll(async () => {
  orders = await startExample('orders-server');
  upstream = await record(orders.url);
  const [port = 0] = await freePorts(1);
  base = `http://127.0.0.1:${port}`;
  gateway = await startGateway(config());
  for (const username of ['dana', 'drew', 'dale'])
    await authClient(base)('POST', '/auth/register', {
      username,
      email: `${username}@example.com`,
      password: PASSWORD,
    });
});

afterAll(async () => {
  await gateway?.[Symbol.asyncDispose]();
  await upstream?.[Symbol.asyncDispose]();
  await orders?.crash();
});

const info = { name: 'scenario', version: '1.0.0' };
const READ = { name: 'execute_query', arguments: { query: 'SELECT 1 AS one' } };
const WRITE = { name: 'update_order_status', arguments: { order_id: 1, status: 'open' } };
const scopesOf = (wallet: Wallet): string[] => String(wallet.tokens().scope).split(' ').toSorted();
const asked = (wallet: Wallet): string[] => (wallet.visited?.searchParams.get('scope') ?? '').split(' ').toSorted();
const writes = () => upstream.sent().split('update_order_status').length - 1;

describe(`a person at a browser${NO_BROWSER}`, () => {
  let browser: Browser;
  let context: BrowserContext;
  let page: Page;
  const landing = createServer((_request, response) => response.end('You may close this page.'));
  beforeAll(async () => {
    if (NO_BROWSER !== '') return;
    await new Promise<void>((done) => landing.listen(0, '127.0.0.1', done));
    browser = await openBrowser();
    context = await browser.newContext({ javaScriptEnabled: false });
    page = await context.newPage();
  });
  afterAll(async () => {
    await browser?.close();
    landing.close();
  });

  /** Logs in where that is asked, and presses a button of the page that asks for consent. */
  async function answer(wallet: Wallet, button: 'Allow' | 'No'): Promise<{ url: URL; shown: string }> {
    await page.goto(String(wallet.visited));
    if ((await page.getByLabel('Username').count()) > 0) {
      await page.getByLabel('Username').fill('dana');
      await page.getByLabel('Password').fill(PASSWORD);
      await page.getByRole('button', { name: 'Log in' }).click();
    }
    await page.getByRole('heading', { name: 'Allow access?' }).waitFor();
    const shown = await page.locator('main').innerText();
    await page.getByRole('button', { name: button, exact: true }).click();
    await page.waitForURL(({ pathname }) => pathname === '/landing');
    return { url: new URL(page.url()), shown };
  }

  test.skipIf(NO_BROWSER !== '')('is asked again for each scope that a tool adds; older ones stay', async () => {
    const url = new URL(`${base}/mcp/orders`);
    const wallet = new Wallet(`http://127.0.0.1:${(landing.address() as AddressInfo).port}/landing`);
    const first = new modern.StreamableHTTPClientTransport(url, { authProvider: wallet });
    await expect(new modern.Client(info).connect(first)).rejects.toThrow(modern.UnauthorizedError);
    expect(asked(wallet)).toEqual(['orders:use']);
    const least = await answer(wallet, 'Allow');
    expect(least.shown).not.toContain('orders:write');
    await first.finishAuth(least.url.searchParams);
    expect(scopesOf(wallet)).toEqual(['gateway', 'orders:use']);

    const client = new modern.Client(info);
    const transport = new modern.StreamableHTTPClientTransport(url, { authProvider: wallet });
    await client.connect(transport);
    // What can be had is shown.
    const { tools } = await client.listTools();
    expect(tools.map(({ name }) => name)).toEqual(expect.arrayContaining(['execute_query', 'update_order_status']));

    await expect(client.callTool(READ)).rejects.toThrow(modern.UnauthorizedError);
    expect(asked(wallet)).toEqual(['gateway', 'orders:read', 'orders:use']);
    const more = await answer(wallet, 'Allow');
    expect(more.shown).toContain('orders:read');
    await transport.finishAuth(more.url.searchParams);
    expect(textOf(await client.callTool(READ))).toContain('one');

    // Somebody says no: an error, nothing sent, and what was granted before is still good.
    await expect(client.callTool(WRITE)).rejects.toThrow(modern.UnauthorizedError);
    const refused = await answer(wallet, 'No');
    expect(refused.shown).toContain('orders:write');
    expect(refused.url.searchParams.get('error')).toBe('access_denied');
    await expect(transport.finishAuth(refused.url.searchParams)).rejects.toThrow(/access_denied|said no/i);
    expect(textOf(await client.callTool(READ))).toContain('one');
    expect(writes()).toBe(0);

    await expect(client.callTool(WRITE)).rejects.toThrow(modern.UnauthorizedError);
    const all = await answer(wallet, 'Allow');
    await transport.finishAuth(all.url.searchParams);
    expect(scopesOf(wallet)).toEqual(['gateway', 'orders:read', 'orders:use', 'orders:write']);
    expect(textOf(await client.callTool(WRITE))).toContain('changes');
    expect(textOf(await client.callTool(READ))).toContain('one');
    await client.close();
    expect(upstream.header('authorization')).toEqual([]);
  });
});

/** Shows its client no refresh token: the one of the generation before would refresh where it has to ask a person. */
class ShortWallet extends Wallet {
  refreshToken = '';

  override saveTokens({ refresh_token = '', ...tokens }: { refresh_token?: string }) {
    this.refreshToken = refresh_token;
    super.saveTokens(tokens);
  }
}

/** A client of the generation before, connected with the least. */
async function connected<W extends Wallet>(username: string, wallet: W, path = '/mcp/orders') {
  const url = new URL(`${base}${path}`);
  const first = new ClassicTransport(url, { authProvider: wallet });
  await expect(new ClassicClient(info).connect(first as never)).rejects.toThrow();
  const least = asked(wallet);
  const finish = async (transport: ClassicTransport) => {
    const landed = await toCallback(new PlainBrowser(base), String(wallet.visited), username, PASSWORD);
    await transport.finishAuth(landed.searchParams.get('code') ?? '');
  };
  await finish(first);
  const client = new ClassicClient(info);
  const transport = new ClassicTransport(url, { authProvider: wallet });
  await client.connect(transport as never);
  return { client, wallet, transport, finish, least };
}

test('a client of the generation before gets there too, where it has nothing to refresh', async () => {
  const { client, wallet, transport, finish } = await connected('dana', new ShortWallet(CALLBACK));
  await expect(client.callTool(READ)).rejects.toThrow('Unauthorized');
  expect(asked(wallet)).toEqual(['orders:read', 'orders:use']);
  await finish(transport);
  expect(textOf(await client.callTool(READ))).toContain('one');
  await expect(client.callTool(WRITE)).rejects.toThrow('Unauthorized');
  expect(asked(wallet)).toEqual(['orders:read', 'orders:use', 'orders:write']);
  await finish(transport);
  expect(textOf(await client.callTool(WRITE))).toContain('changes');
  await client.close();
});

test('one that refreshes instead of asking tries once, is told why, and does not go round in circles', async () => {
  const { client, wallet } = await connected('dana', new Wallet(CALLBACK));
  const refused = async () =>
    (await gateway.audit()).filter((event) => 'code' in event && event.code === 'INSUFFICIENT_SCOPE').length;
  const before = await refused();
  const { refresh_token } = wallet.tokens();
  await expect(client.callTool(READ)).rejects.toThrow('Server returned 403 after trying upscoping');
  expect(wallet.tokens().refresh_token).not.toBe(refresh_token);
  await client.close();
  await vi.waitFor(async () => expect((await refused()) - before).toBe(2), { interval: 25, timeout: 1500 });
});

test('on a route that asks for nothing a client of ours begins with the least as well', async () => {
  const { client, wallet, least } = await connected('dana', new Wallet(CALLBACK), '/mcp/plain');
  expect(least).toEqual(['gateway']);
  expect(scopesOf(wallet)).toEqual(['gateway']);
  await client.close();
});

/** As an operator beside the gateway does it. */
async function giveRole(username: string, role: string): Promise<void> {
  const { stores, accounts } = scenarioConfig(config(), gateway.home);
  await using database = await openDatabase(stores.database, { baseDir: gateway.home });
  const pepper = loadPepper(stores.database, gateway.home, stores.pepper);
  const clock = { now: () => Date.now() };
  const administration = new AccountAdministration({ config: accounts, database, pepper, clock });
  const account = await administration.find(username);
  if (account === null) throw new Error('no account');
  await administration.setRole(account, role);
}

test('an account lends only what it has: the page says so, the client gets the rest, and there it ends', async () => {
  await giveRole('drew', 'developer');
  const { client, wallet, transport } = await connected('drew', new ShortWallet(CALLBACK));
  await expect(client.callTool(READ)).rejects.toThrow('Unauthorized');
  expect(asked(wallet)).toEqual(['orders:read', 'orders:use']);
  const browser = new PlainBrowser(base);
  const consent = await toConsent(browser, String(wallet.visited), 'drew', PASSWORD);
  const shown = await (await browser.go(consent)).text();
  expect(shown).toContain('your account does not have them</dt><dd>orders:read</dd>');
  const sent = await fill(browser, consent, { action: 'allow' });
  const landed = new URL(locationOf(await browser.go(locationOf(sent))));
  await transport.finishAuth(landed.searchParams.get('code') ?? '');
  expect(scopesOf(wallet)).toEqual(['gateway', 'orders:use']);
  wallet.visited = null;
  await expect(client.callTool(READ)).rejects.toMatchObject({ code: 403 });
  expect(wallet.visited).toBeNull();
  await client.close();
});

test('what an account has no more is not lent any more: neither by old tokens nor by new ones', async () => {
  const { client, wallet, transport, finish } = await connected('dale', new ShortWallet(CALLBACK));
  await expect(client.callTool(READ)).rejects.toThrow('Unauthorized');
  await finish(transport);
  expect(textOf(await client.callTool(READ))).toContain('one');
  await giveRole('dale', 'developer');
  await vi.waitFor(() => expect(client.callTool(READ)).rejects.toThrow(), { interval: 25, timeout: 1500 });
  const form = {
    ...{ grant_type: 'refresh_token', refresh_token: wallet.refreshToken },
    ...{ client_id: wallet.clientInformation().client_id },
  };
  const { status, body } = await postForm(base, '/oauth/token', form);
  expect(status).toBe(200);
  const claims = JSON.parse(Buffer.from(body.access_token?.split('.')[1] ?? '', 'base64url').toString());
  expect(claims.scope).toBe('orders:use gateway');
  await client.close();
});

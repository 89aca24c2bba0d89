/** Two gateways over one database act as one authorization server: each step of a login goes to the other one. */
import { randomBytes } from 'node:crypto';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test, vi } from 'vitest';
import { ACCOUNTS, authClient, bearer, PASSWORD } from '../helpers/accounts.ts';
import {
  authorization,
  CALLBACK,
  hidden,
  locationOf,
  PlainBrowser,
  postForm,
  type RegisteredClient,
  registerClient,
} from '../helpers/agent-login.ts';
import { type PartialConfig, startGateway, type TestGateway } from '../helpers/gateway.ts';
import { freePorts, temporaryDirectory } from '../helpers/processes.ts';
import { NO_POSTGRES, NO_REDIS, startPostgres, startRedis } from '../helpers/processes-stores.ts';

const WITHOUT = [NO_POSTGRES, NO_REDIS].filter((why) => why !== null);

describe.each(['one SQLite file', 'one Postgres and one Redis'])('over %s', (over) => {
  const isSkipped = over !== 'one SQLite file' && WITHOUT.length > 0;
  const stack = new AsyncDisposableStack();
  let bases: readonly [string, string];
  let asked = 0;

  /** The gateway whose turn it is. */
  const next = (): string => bases[asked++ % 2 === 0 ? 0 : 1] ?? '';

  beforeAll(async () => {
    if (isSkipped) return;
    const [one = 0, two = 0] = await freePorts(2);
    bases = [`http://127.0.0.1:${one}`, `http://127.0.0.1:${two}`];
    const stores = await sharedStores(over, stack);
    const start = async (port: number): Promise<TestGateway> =>
      stack.use(
        await startGateway({
          public_url: bases[0],
          listen: { data: `127.0.0.1:${port}`, admin: { address: '127.0.0.1:0' } },
          identity: { accounts: { kind: 'local' } },
          accounts: { ...ACCOUNTS, authorization_server: { enabled: true, refresh_grace_seconds: 10 } },
          servers: { orders: { type: 'sql', dialect: 'sqlite', url: 'http://127.0.0.1:9/mcp' } },
          routes: [{ match: '/mcp/orders', protocol: 'mcp', server: 'orders', identity: ['accounts'] }],
          stores,
        }),
      );
    await start(one);
    await start(two);
    const facts = { username: 'dana', email: 'dana@example.com', password: PASSWORD };
    await authClient(bases[0])('POST', '/auth/register', facts);
  }, 60_000);

  afterAll(() => stack.disposeAsync());

  /** Like a load balancer: the same request, wherever it goes. */
  const turned = (address: string): string => {
    const { pathname, search } = new URL(address, bases[0]);
    return `${next()}${pathname}${search}`;
  };

  async function press(browser: PlainBrowser, address: string, form: Readonly<Record<string, string>>) {
    const page = await (await browser.go(turned(address))).text();
    return browser.go(turned(address), { csrf: hidden(page, 'csrf'), ...form });
  }

  async function tokens() {
    const client = (await (await registerClient(next())).json()) as RegisteredClient;
    const browser = new PlainBrowser(bases[0]);
    const request = authorization(bases[0], client.client_id, `${bases[0]}/mcp/orders`);
    const login = locationOf(await browser.go(turned(request.url)));
    const sent = await press(browser, login, { action: 'login', username: 'dana', password: PASSWORD });
    const consent = locationOf(await browser.go(turned(locationOf(sent))));
    const agreed = await press(browser, consent, { action: 'allow' });
    const landed = new URL(locationOf(await browser.go(turned(locationOf(agreed)))));
    const form = {
      ...{ grant_type: 'authorization_code', code: landed.searchParams.get('code') ?? '', redirect_uri: CALLBACK },
      ...{ code_verifier: request.verifier, client_id: client.client_id },
    };
    return { client, form, landed };
  }

  const statusAt = async (base: string, token: string): Promise<number> => {
    const headers = { 'content-type': 'application/json', accept: 'application/json', ...bearer(token) };
    const body = JSON.stringify({ jsonrpc: '2.0', id: 1, method: 'ping' });
    return (await fetch(`${base}/mcp/orders`, { method: 'POST', headers, body })).status;
  };

  test.skipIf(isSkipped)(
    'a login goes from one to the other, and its token is good at both until one ends it',
    async () => {
      const { client, form, landed } = await tokens();
      expect(landed.searchParams.get('iss')).toBe(bases[0]);
      const { body } = await postForm(next(), '/oauth/token', form);
      const { access_token: token = '', refresh_token = '' } = body;
      for (const base of bases) expect(await statusAt(base, token)).not.toBe(401);
      await postForm(bases[1], '/oauth/revoke', { token: refresh_token, client_id: client.client_id });
      expect(await statusAt(bases[1], token)).toBe(401);
      await vi.waitFor(async () => expect(await statusAt(bases[0], token)).toBe(401), { interval: 10, timeout: 2000 });
    },
  );

  test.skipIf(isSkipped)('a code is redeemed once, though both are asked at the same moment', async () => {
    const { form } = await tokens();
    const answers = await Promise.all([0, 1, 0, 1].map((at) => postForm(bases[at] ?? '', '/oauth/token', form)));
    expect(answers.filter(({ status }) => status === 200).length).toBeLessThanOrEqual(1);
    for (const { body, status } of answers) if (status !== 200) expect(body).toMatchObject({ error: 'invalid_grant' });
  });

  test.skipIf(isSkipped)('refreshes at the same moment get one answer, until its token is used', async () => {
    const { client, form } = await tokens();
    const { refresh_token = '' } = (await postForm(next(), '/oauth/token', form)).body;
    const refresh = (token: string) => ({
      ...{ grant_type: 'refresh_token', refresh_token: token, client_id: client.client_id },
    });
    const ask = (base = '', token = '') => postForm(base, '/oauth/token', refresh(token));
    const answers = await Promise.all([0, 1, 0, 1].map((at) => ask(bases[at], refresh_token)));
    expect(answers.map(({ status }) => status)).toEqual([200, 200, 200, 200]);
    const [{ access_token = '', refresh_token: second = '' } = {}, ...same] = answers.map(({ body }) => body);
    for (const other of same) expect(other).toMatchObject({ access_token, refresh_token: second });
    for (const base of bases) expect(await statusAt(base, access_token)).not.toBe(401);
    // Nobody else: another client gets nothing by it, and ends nothing.
    const other = (await (await registerClient(next())).json()) as RegisteredClient;
    const stolen = { ...refresh(refresh_token), client_id: other.client_id };
    expect((await postForm(bases[1], '/oauth/token', stolen)).body).toMatchObject({ error: 'invalid_grant' });
    const later = await ask(bases[1], second);
    expect(later.status).toBe(200);
    // Two who have it are one too many: whatever one of them got is over.
    expect((await ask(bases[0], refresh_token)).body).toMatchObject({ error: 'invalid_grant' });
    const end = later.body.access_token ?? '';
    for (const base of bases)
      await vi.waitFor(async () => expect(await statusAt(base, end)).toBe(401), { interval: 10, timeout: 2000 });
    expect((await ask(bases[1], later.body.refresh_token)).body).toMatchObject({ error: 'invalid_grant' });
  });
});

async function sharedStores(over: string, stack: AsyncDisposableStack): Promise<NonNullable<PartialConfig['stores']>> {
  const pepper = randomBytes(32).toString('base64url');
  if (over === 'one SQLite file') {
    const directory = stack.use(temporaryDirectory());
    return { database: `sqlite:${join(directory.path, 'shared.db')}`, pepper };
  }
  const postgres = stack.use(await startPostgres());
  const redis = stack.use(await startRedis());
  return { database: postgres.url, shared: redis.url, pepper };
}

/** The client of the package against a real gateway. */
import { chmodSync, mkdirSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { PortcullisClient, PortcullisError } from '../../src/client.ts';
import { ACCOUNTS, IDENTITY, PASSWORD, steppedClock } from '../helpers/accounts.ts';
import { startGateway, type TestGateway } from '../helpers/gateway.ts';
import { call } from '../helpers/gateway-calls.ts';
import { freePorts, temporaryDirectory } from '../helpers/processes.ts';
import { type Service, startService } from '../helpers/upstreams.ts';
import { verifies } from '../helpers/verifies.ts';

const clock = steppedClock(Date.now());
const seen: string[] = [];
let gateway: TestGateway;
let api: Service;
beforeAll(async () => {
  api = await startService((request, response) => {
    seen.push(`${request.method} ${request.url} ${JSON.stringify(request.headers)}`);
    request.pipe(response);
  });
  gateway = await startGateway(
    {
      accounts: { ...ACCOUNTS, tokens: { access_seconds: 60 } },
      identity: { ...IDENTITY, keys: { kind: 'api-key', prefixes: ['pc', 'vllm', 'hok'] } },
      routes: [
        {
          ...{ match: '/things', protocol: 'http', url: api.url, identity: ['accounts', 'keys'] },
          permissions: { '*': [] },
        },
      ],
    },
    { clock },
  );
  const account = { username: 'alice', email: 'alice@example.com', password: PASSWORD };
  expect((await call(`${gateway.url}/auth/register`, { json: account })).status).toBe(201);
});
afterAll(async () => {
  await gateway[Symbol.asyncDispose]();
  await api[Symbol.asyncDispose]();
});

describe('with an API key', () => {
  test('the header is added by itself, and the key goes nowhere else', async () => {
    verifies('H-07', 'H-16');
    const apiKey = await gateway.key('developer');
    const client = new PortcullisClient({ url: gateway.url, apiKey });
    const answer = await client.fetch('/things/1?x=y', { method: 'POST', body: 'hello' });
    expect([answer.status, await answer.text()]).toEqual([200, 'hello']);
    expect(seen.at(-1)).toMatch(/^POST \/things\/1\?x=y /);
    expect(seen.join('')).not.toContain(apiKey);
    expect((await client.fetch(new URL(`${gateway.url}/things`))).status).toBe(200);
    await expect(client.fetch(`${api.url}/things`)).rejects.toThrow(/not the gateway of this client/);
    // A path of the gateway, which it cannot read; not another host.
    expect((await client.fetch('//example.com/things')).status).toBe(400);
    await expect(client.fetch('@example.com/things')).rejects.toThrow(TypeError);
  });

  test('validate is true for a good key only, and throws when nobody can say', async () => {
    verifies('H-08', 'HF-10', 'HF-19');
    const good = new PortcullisClient({ url: gateway.url, apiKey: await gateway.key('developer') });
    expect(await good.validate()).toBe(true);
    expect(await new PortcullisClient({ url: gateway.url, apiKey: 'pc_dev_bad' }).validate()).toBe(false);
    const [closed] = await freePorts(1);
    const nobody = new PortcullisClient({ url: `http://127.0.0.1:${closed}`, apiKey: 'x' });
    const noSession = new PortcullisClient({ url: `http://127.0.0.1:${closed}`, username: 'x', password: 'y' });
    for (const client of [nobody, noSession]) {
      for (const ask of [() => client.validate(), () => client.fetch('/things'), () => client.keys.list()]) {
        await expect(ask()).rejects.toMatchObject({
          ...{ name: 'PortcullisError', status: 0, code: null, requestId: null, retryAfter: null },
          message: `No gateway answers at http://127.0.0.1:${closed} (ECONNREFUSED): is it running, and is this its address?`,
          cause: { code: 'ECONNREFUSED' },
        });
      }
    }
    await expect(noSession.login()).rejects.toMatchObject({ name: 'PortcullisError', status: 0 });
    await using silent = await startService(() => undefined);
    const hurried = new PortcullisClient({ url: silent.url, apiKey: 'x', timeoutMs: 20 });
    await expect(hurried.fetch('/things')).rejects.toMatchObject({
      ...{ name: 'PortcullisError', status: 0, cause: { name: 'TimeoutError' } },
      message: expect.stringContaining(`${silent.url} within 20 ms: `),
    });
    const left = hurried.fetch('/things', { signal: AbortSignal.abort() });
    await expect(left).rejects.toMatchObject({ name: 'AbortError' });
    await using torn = await startService((_request, response) => {
      response.writeHead(200, { 'content-length': '100' }).write('{', () => response.destroy());
    });
    const halfway = new PortcullisClient({ url: torn.url, apiKey: 'x' }).validate();
    await expect(halfway).rejects.toMatchObject({
      name: 'PortcullisError',
      message: expect.stringContaining('broke off'),
    });
    await using down = await startService((_request, response) =>
      response.writeHead(503, { 'retry-after': '1' }).end(),
    );
    const failing = new PortcullisClient({ url: down.url, apiKey: 'x' }).validate();
    await expect(failing).rejects.toMatchObject({ name: 'PortcullisError', status: 503, retryAfter: 1 });
  });

  test.each([
    ['a page', '<html>Log in to the network</html>'],
    ['nothing', ''],
    ['something else', '{"ok":true}'],
    ['a word', '"true"'],
    ['a text for a yes', '{"is_valid":"yes"}'],
  ])('an answer with status 200 that is %s says nothing of a key or a session', async (_what, body) => {
    await using portal = await startService((_request, response) => response.end(body));
    const nobody = /cannot say|no session/;
    await expect(new PortcullisClient({ url: portal.url, apiKey: 'x' }).validate()).rejects.toThrow(nobody);
    const account = new PortcullisClient({ url: portal.url, username: 'alice', password: PASSWORD });
    await expect(account.validate()).rejects.toThrow(nobody);
    await expect(account.fetch('/things')).rejects.toThrow(nobody);
  });

  test('a key that no header can hold is in no message', () => {
    for (const apiKey of ['pc_dev_one\npc_dev_two', 'pc_dev_\u0000', '→pc_dev_']) {
      const make = () => new PortcullisClient({ url: gateway.url, apiKey });
      expect(make).toThrow(/characters of no key/);
      expect(make).not.toThrow(/pc_dev/);
    }
    expect(() => new PortcullisClient({ url: 'https://:secret@gateway.example.com', apiKey: 'k' })).toThrow(/no cred/);
  });

  test('keys are made, listed, rotated, counted and withdrawn', async () => {
    verifies('H-17');
    const ops = await gateway.key('ops', { permissions: ['keys:*'], roles: [] });
    const { keys } = new PortcullisClient({ url: gateway.url, apiKey: ops });
    const made = await keys.create({ name: 'ci', environment: 'development', scopes: ['model:read'] });
    expect(made).toMatchObject({ api_key: expect.stringMatching(/^hok_dev_/), name: 'ci', scopes: ['model:read'] });
    const client = new PortcullisClient({ url: gateway.url, apiKey: made.api_key });
    expect(await client.validate()).toBe(true);
    expect((await client.fetch('/things')).status).toBe(200);
    const next = await keys.rotate(made.key_id);
    const listed = await keys.list();
    expect(listed.find(({ key_id }) => key_id === made.key_id)).toMatchObject({ replaced_by: next.key_id });
    expect(JSON.stringify(listed)).not.toContain(made.api_key);
    await expect.poll(async () => (await keys.usage(made.key_id)).uses.total).toBe(1);
    await keys.revoke(made.key_id);
    expect(await client.validate()).toBe(false);
    const refused = await keys.revoke('nobody').catch((error: unknown) => error);
    expect(refused).toBeInstanceOf(PortcullisError);
    expect(refused).toMatchObject({ status: 404, code: 'NOT_FOUND', requestId: expect.stringMatching(/./) });
  });
});

describe('with an account', () => {
  const account = () => new PortcullisClient({ url: gateway.url, username: 'alice', password: PASSWORD });

  test('it logs in when first needed, once for everyone, and ends the session', async () => {
    const client = account();
    const before = (await gateway.audit()).length;
    const answers = await Promise.all([client.fetch('/things'), client.fetch('/things'), client.validate()]);
    expect(answers.map((one) => (one === true ? 200 : (one as Response).status))).toEqual([200, 200, 200]);
    expect(await client.login()).toMatchObject({ username: 'alice', role: 'user' });
    await client.logout();
    const events = await gateway.audited((all) => JSON.stringify(all.slice(before)).includes('/auth/logout'));
    const logins = events.slice(before).filter((event) => 'path' in event && event.path === '/auth/login');
    expect(logins).toHaveLength(2);
  });

  test('a session that ended is renewed once, and the request sent again', async () => {
    verifies('H-16');
    const client = account();
    const first = await client.login();
    clock.advance(61_000);
    const answers = await Promise.all(['a', 'b', 'c'].map((body) => client.fetch('/things', { method: 'POST', body })));
    expect(await Promise.all(answers.map((one) => one.text()))).toEqual(['a', 'b', 'c']);
    const stale = await call(`${gateway.url}/things`, { headers: { authorization: `Bearer ${first.access_token}` } });
    expect(stale.status).toBe(401);
  });

  test('a stream that was sent is not sent again', async () => {
    const client = account();
    await client.login();
    clock.advance(61_000);
    const body = new ReadableStream({
      start(controller) {
        controller.enqueue(new TextEncoder().encode('once'));
        controller.close();
      },
    });
    const answer = await client.fetch('/things', { method: 'POST', body, duplex: 'half' } as RequestInit);
    expect(answer.status).toBe(401);
  });

  test('a wrong password is refused in the words of the gateway', async () => {
    const client = new PortcullisClient({ url: gateway.url, username: 'alice', password: 'not the password at all' });
    expect(await client.validate()).toBe(false);
    await expect(client.fetch('/things')).rejects.toMatchObject({ status: 401, code: 'INVALID_CREDENTIALS' });
  });
});

describe('before anything is sent', () => {
  test('there is no default address, none over plain HTTP elsewhere, and one credential', () => {
    verifies('HF-07');
    const make = (options: object) => () => new PortcullisClient(options);
    expect(make({ apiKey: 'k' })).toThrow(/no default/);
    expect(make({ url: 'http://gateway.example.com', apiKey: 'k' })).toThrow(/plain HTTP/);
    expect(make({ url: 'https://u:p@gateway.example.com', apiKey: 'k' })).toThrow(/credentials/);
    expect(make({ url: 'https://gateway.example.com' })).toThrow(/API key or an account/);
    expect(make({ url: 'https://gateway.example.com', username: 'a' })).toThrow(/password/);
    expect(make({ url: 'https://gateway.example.com', username: 'a', password: 'b', apiKey: 'k' })).toThrow(/either/);
  });

  test('the environment names address and key', async () => {
    verifies('H-02', 'H-07');
    const key = await gateway.key('developer');
    process.env.HOKUSAI_AUTH_SERVICE_URL = gateway.url;
    process.env.HOKUSAI_API_KEY = key;
    try {
      expect(await new PortcullisClient().validate()).toBe(true);
      expect(await new PortcullisClient({ apiKey: 'pc_dev_other' }).validate()).toBe(false);
    } finally {
      delete process.env.HOKUSAI_AUTH_SERVICE_URL;
      delete process.env.HOKUSAI_API_KEY;
    }
  });

  test('a profile names both, and is read only when nobody else may', async () => {
    verifies('H-16');
    using place = temporaryDirectory();
    mkdirSync(join(place.path, '.hokusai'));
    const file = join(place.path, '.hokusai/config');
    const key = await gateway.key('developer');
    writeFileSync(file, `[other]\napi_key = no\n[dev]\n  auth_service_url=${gateway.url}\napi_key = ${key}\n`, {
      mode: 0o600,
    });
    const { HOME } = process.env;
    process.env.HOME = place.path;
    try {
      expect(await new PortcullisClient({ profile: 'dev' }).validate()).toBe(true);
      expect(() => new PortcullisClient({ profile: 'absent' })).toThrow(/no profile/);
      expect(() => new PortcullisClient({ profile: 'dev', url: 'https://elsewhere.example.com' })).toThrow(/API key/);
      chmodSync(file, 0o644);
      expect(() => new PortcullisClient({ profile: 'dev' })).toThrow(/others may read it/);
    } finally {
      process.env.HOME = HOME;
    }
  });

  test('a redirect is not followed with the credential', async () => {
    const asked: string[] = [];
    const elsewhere = createServer((request, response) => {
      asked.push(String(request.headers['x-api-key']));
      response.end();
    });
    await new Promise<void>((done) => elsewhere.listen(0, '127.0.0.1', done));
    const to = `http://127.0.0.1:${(elsewhere.address() as AddressInfo).port}/`;
    await using odd = await startService((_request, response) => response.writeHead(302, { location: to }).end());
    const answer = await new PortcullisClient({ url: odd.url, apiKey: 'secret-key' }).fetch('/x');
    expect([answer.status, asked]).toEqual([302, []]);
    elsewhere.close();
  });
});

import { mkdtempSync, writeFileSync } from 'node:fs';
import { createServer, type IncomingMessage, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { main } from '../../../src/cli/cli.ts';
import { callAdmin, findAdmin, findGateway } from '../../../src/cli/gateway-address.ts';
import { Secret } from '../../../src/core/secret.ts';
import { fakeIo } from './fake-io.ts';

const seen: IncomingMessage[] = [];
let ready = true;
const policy = {
  revision: 'r1',
  activated_at: Date.UTC(2025, 0, 15, 10, 30),
  last_error: 'a\nb',
  source: { last_request: Date.UTC(2025, 0, 15), last_successful_download: 0, code: null },
  routes: [{ route: '/v1', entrypoint: 'portcullis/main/decision', from: 'default' }],
};
const server = createServer((request, response) => {
  seen.push(request);
  const detailed = request.url === '/health/detailed';
  const body = JSON.stringify({ status: ready ? 'ready' : 'draining', policy, list: ['a', 'b'] });
  if (detailed && request.headers.authorization !== 'Bearer right') response.writeHead(401).end('{}');
  else response.writeHead(detailed || ready ? 200 : 503).end(body);
});

function listen(target: Server): Promise<string> {
  return new Promise((done) => {
    target.listen(0, '127.0.0.1', () => done(`http://127.0.0.1:${(target.address() as AddressInfo).port}`));
  });
}

let url = '';
beforeAll(async () => {
  url = await listen(server);
});
afterAll(() => {
  server.closeAllConnections();
  server.close();
});

const home = mkdtempSync(join(tmpdir(), 'portcullis-home-'));
const io = (env: Record<string, string> = {}) => fakeIo({ cwd: home, env }).io;

async function status(env: Record<string, string>, ...argv: string[]) {
  const { io: own, written } = fakeIo({ cwd: home, env });
  return { code: await main(['status', ...argv], own), ...written };
}

describe('portcullis status', () => {
  test('says whether the gateway is ready, with details when there is a token', async () => {
    const { code, out, err } = await status({ PORTCULLIS_ADMIN_TOKEN: 'right' }, '--url', `${url}/`);
    expect({ code, err }).toEqual({ code: 0, err: 'Which entrypoint decides where: portcullis policy status\n' });
    expect(out).not.toContain('routes');
    expect(out).toMatch(/: ready\n {2}status: ready\n {2}policy\.revision: r1\n(?: {2}policy.*\n)* {2}list: a, b\n$/);
    const json = await status({ PORTCULLIS_ADMIN_TOKEN: 'right', PORTCULLIS_ADMIN_URL: url }, '--json');
    expect(JSON.parse(json.out)).toMatchObject({ ready: true, status: { policy: { revision: 'r1' } } });
  });

  test('exits with 1 when it is not ready or the token is wrong, and with 3 when nobody answers', async () => {
    ready = false;
    const busy = await status({ PORTCULLIS_ADMIN_URL: url });
    expect(busy).toMatchObject({ code: 1, out: expect.stringContaining('not ready') });
    ready = true;
    const wrong = await status({ PORTCULLIS_ADMIN_URL: url, PORTCULLIS_ADMIN_TOKEN: 'wrong' });
    expect(wrong).toMatchObject({ code: 1, out: '', err: expect.stringContaining('name its configuration with -c') });
    expect(await status({ PORTCULLIS_ADMIN_PORT: '1' })).toMatchObject({ code: 3, out: '' });
  });
});

describe('how commands find a gateway', () => {
  test('by a configuration, which names the address and the token', async () => {
    const { port } = server.address() as AddressInfo;
    writeFileSync(join(home, 'admin.token'), 'right');
    const config = join(home, 'own.yaml');
    const admin = (address: string) =>
      `version: 1\nlisten: { admin: { address: "${address}", token: "\${file:./admin.token}" } }\n`;
    writeFileSync(config, admin(`0.0.0.0:${port}`));
    const { code, out } = await status({}, '-c', config);
    expect({ code, first: out.split('\n')[0] }).toEqual({ code: 0, first: `${url}: ready` });
    expect(await status({ PORTCULLIS_CONFIG: config })).toMatchObject({ code: 0, out });
    const elsewhere = await status({ PORTCULLIS_CONFIG: config, PORTCULLIS_ADMIN_PORT: '1' });
    expect(elsewhere).toMatchObject({ code: 3, out: '' });
    expect(out).toContain('policy.revision: r1');
    expect(out).toContain('policy.activated_at: 2025-01-15T10:30:00.000Z');
    expect(out).toContain('policy.last_error: a; b');
    expect(out).toContain('policy.source.last_request: 2025-01-15T00:00:00.000Z');
    expect(out).toContain('policy.source.last_successful_download: never');
    expect(out).toContain('policy.source.code: -');
    expect(await status({}, '-c', join(home, 'absent.yaml'))).toMatchObject({ code: 3, out: '' });
  });

  test('by --url, then the environment, then the demo’s file, then the usual port', () => {
    expect(findAdmin(undefined, io()).url).toBe('http://127.0.0.1:9090');
    expect(findGateway(undefined, io({ PORTCULLIS_PORT: '8181' }))).toBe('http://127.0.0.1:8181');
    const demo = { gateway: 'http://127.0.0.1:1111', admin: 'http://127.0.0.1:2222', admin_token: 'demo' };
    writeFileSync(join(home, 'demo.json'), JSON.stringify(demo));
    const env = { PORTCULLIS_HOME: home };
    expect(findGateway(undefined, io(env))).toBe(demo.gateway);
    expect(findAdmin(undefined, io(env)).url).toBe(demo.admin);
    expect(findAdmin(undefined, io(env)).token?.reveal()).toBe('demo');
    const named = { ...env, PORTCULLIS_URL: 'http://127.0.0.1:3333' };
    expect(findGateway(undefined, io(named))).toBe('http://127.0.0.1:3333');
    expect(findGateway('http://127.0.0.1:4444/', io(named))).toBe('http://127.0.0.1:4444');
  });

  test('the demo’s token is not sent to another gateway', () => {
    expect(findAdmin('http://127.0.0.1:5555', io({ PORTCULLIS_HOME: home })).token).toBeNull();
  });

  test('a token is not sent over plain HTTP to another machine, nor after a redirect', async () => {
    const token = new Secret('right');
    await expect(callAdmin({ url: 'http://192.0.2.1:9090', token }, 'GET', '/', io())).rejects.toThrow('use https');
    const redirecting = createServer((_request, response) => response.writeHead(302, { location: url }).end());
    const address = await listen(redirecting);
    const before = seen.length;
    await expect(callAdmin({ url: address, token }, 'GET', '/', io())).rejects.toThrow('no gateway answers');
    expect(seen.length).toBe(before);
    redirecting.closeAllConnections();
    redirecting.close();
  });

  test('an address that is none is a usage error', async () => {
    expect((await status({}, '--url', 'nowhere')).code).toBe(2);
    expect((await status({}, '--url', 'file:///etc/passwd')).code).toBe(2);
  });
});

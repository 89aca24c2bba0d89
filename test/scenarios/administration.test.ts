import { readFile, rename, writeFile } from 'node:fs/promises';
import { request as httpRequest } from 'node:http';
import { connect } from 'node:net';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { fixedNodeRelease } from '../../src/core/node-release.ts';
import type { PartialConfig } from '../helpers/gateway.ts';
import { ADMIN_TOKEN, POLICIES, startGateway, writeConfig } from '../helpers/gateway.ts';
import { call } from '../helpers/gateway-calls.ts';
import type { RunningProcess } from '../helpers/processes.ts';
import { startPortcullis, temporaryDirectory } from '../helpers/processes.ts';
import type { Service } from '../helpers/upstreams.ts';
import { startService } from '../helpers/upstreams.ts';
import { verifies } from '../helpers/verifies.ts';

let upstream: Service;
beforeAll(async () => {
  upstream = await startService((request, response) => {
    request.resume();
    response.end('ok\n');
  });
});
afterAll(async () => {
  await upstream?.[Symbol.asyncDispose]();
});

const FIRST = 'first-token-of-this-scenario-9fQ2mX7c';
const SECOND = 'second-token-of-this-scenario-4kL8pR3w';

describe('a gateway that serves a file', () => {
  const home = temporaryDirectory();
  const tokenFile = join(home.path, 'admin.token');
  let gateway: RunningProcess;
  let data: string;
  let admin: string;
  let file: string;

  const configWith = (...matches: readonly string[]): PartialConfig => ({
    listen: { data: '127.0.0.1:0', admin: { address: '127.0.0.1:0', token: `\${file:./admin.token}` } },
    policy: { bundle: POLICIES, watch: false },
    routes: matches.map((match) => ({ match, protocol: 'http', url: upstream.url, anonymous: true })),
  });
  const operate = (path: string, token: string, method = 'GET') =>
    call(`${admin}${path}`, { method, headers: { authorization: `Bearer ${token}` } });
  /** The next line of the log that names this event, counted from now. */
  const next = (event: string) => {
    const seen = (gateway.stdout() + gateway.stderr()).split(event).length;
    return gateway.printed(new RegExp(`(?:[^]*${event}){${seen}}`));
  };

  beforeAll(async () => {
    await writeFile(tokenFile, `${FIRST}\n`);
    file = await writeConfig(home.path, configWith('/one'));
    gateway = startPortcullis(['serve', '-c', file]);
    [, data = '', admin = ''] = await gateway.printed(/"data":"(http[^"]+)","admin":"(http[^"]+)"/);
  });
  afterAll(async () => {
    await gateway?.[Symbol.asyncDispose]();
    home[Symbol.dispose]();
  });

  test('notices a secret that was replaced in a file of its own, and the old one is worth nothing', async () => {
    expect((await operate('/version', FIRST)).status).toBe(200);
    const reloaded = next('config_reloaded');
    await writeFile(`${tokenFile}.new`, `${SECOND}\n`);
    await rename(`${tokenFile}.new`, tokenFile);
    await reloaded;
    expect((await operate('/version', FIRST)).status).toBe(401);
    expect((await operate('/version', SECOND)).status).toBe(200);
  });

  test('reads the file again when an operator asks for it, and records who did', async () => {
    verifies('X-08');
    const status = () => call(`${data}/one`).then((answer) => answer.status);
    expect(await operate('/reload', SECOND, 'POST')).toMatchObject({ status: 200, body: { reloaded: true } });
    expect(await status()).toBe(200);
    expect((await call(`${admin}/reload`, { method: 'POST' })).status).toBe(401);
    const refused = next('config_reload_refused');
    await writeFile(file, 'version: 1\nidentity:\n  keys: { kind: api-key }\nrouts: []\n');
    await refused;
    const answer = await operate('/reload', SECOND, 'POST');
    expect(answer.status).toBe(422);
    expect(answer.body).toMatchObject({
      reloaded: false,
      error: expect.stringMatching(/portcullis\.yaml:4:\d+: .*routs/),
    });
    expect(await status()).toBe(200);
    gateway.kill('SIGTERM');
    await gateway.exited;
    expect(gateway.stdout() + gateway.stderr()).toContain('"stopped"');
    const events = (await readFile(join(home.path, 'audit.jsonl'), 'utf8'))
      .split('\n')
      .filter((line) => line !== '')
      .map((line) => JSON.parse(line) as { operation?: string; outcome?: string });
    const reloads = events.filter(({ operation }) => operation === 'config:reload');
    expect(reloads.map(({ outcome }) => outcome)).toEqual(['allowed', 'failed']);
    expect(gateway.stdout() + gateway.stderr() + JSON.stringify(events)).not.toContain(SECOND);
  });
});

/** The status of a request with a Host header of its own. */
function statusFor(url: string, host: string): Promise<number> {
  return new Promise((done, fail) => {
    httpRequest(`${url}/livez`, { headers: { host }, agent: false }, (response) => {
      response.resume();
      done(response.statusCode ?? 0);
    })
      .once('error', fail)
      .end();
  });
}

describe('a gateway made from a configuration', () => {
  test('answers to the host of its public address, and to no other name', async () => {
    await using gateway = await startGateway({ public_url: 'https://gateway.example.com:8443/base' });
    expect(await statusFor(gateway.url, 'gateway.example.com')).toBe(200);
    expect(await statusFor(gateway.url, 'gateway.example.com:8443')).toBe(200);
    expect(await statusFor(gateway.url, '127.0.0.1')).toBe(200);
    expect(await statusFor(gateway.url, 'example.com')).toBe(403);
    expect(await statusFor(gateway.admin, 'gateway.example.com')).toBe(403);
  });

  test('warns once at start of a Node without the latest security fixes, and of no other', async () => {
    await using gateway = await startGateway();
    const warnings = gateway.logs.filter((line) => line.includes('node_lacks_security_fixes'));
    const fixed = fixedNodeRelease(process.version);
    expect(warnings.map((line) => JSON.parse(line) as object)).toEqual(
      fixed === null ? [] : [expect.objectContaining({ node: process.version, fixed_in: fixed })],
    );
  });

  test('has nothing to reload where nobody gave it a file', async () => {
    await using gateway = await startGateway();
    const headers = { authorization: `Bearer ${ADMIN_TOKEN}` };
    expect((await call(`${gateway.admin}/reload`, { method: 'POST', headers })).status).toBe(404);
  });

  test('refuses a change that only a restart could bring about', async () => {
    const routes = [{ match: '/one', protocol: 'http' as const, url: upstream.url, anonymous: true }];
    await using gateway = await startGateway({ routes });
    await gateway.reload({ routes });
    for (const [name, change] of Object.entries({
      cors: { cors: { origins: ['https://app.example.com'] } },
      allowed_hosts: { allowed_hosts: ['gateway.example.com'] },
      'stores.pepper': {
        stores: { database: 'sqlite:./portcullis.db', pepper: 'another pepper of sufficient length 81726' },
      },
    })) {
      await expect(gateway.reload({ routes, ...change })).rejects.toThrow(name);
    }
  });

  test('counts who got in, what the database did, and connections it did not take', async () => {
    verifies('D-62');
    await using gateway = await startGateway({
      limits: { drain_ms: 400, connections: 1 },
      routes: [{ match: '/one', protocol: 'http', url: upstream.url, identity: ['keys'] }],
    });
    const key = await gateway.key('user');
    const get = (presented: string) =>
      call(`${gateway.url}/one`, { key: presented, headers: { connection: 'close' } }).then(({ status }) => status);
    expect(await get(key)).toBe(200);
    expect(await get(key)).toBe(200);
    expect(await get(`${key.slice(0, -2)}zz`)).toBe(401);
    const { port } = new URL(gateway.url);
    const first = connect(Number(port), '127.0.0.1');
    await new Promise((done) => first.once('connect', done));
    const second = connect(Number(port), '127.0.0.1');
    await new Promise((done) => second.once('close', done).on('error', () => undefined));
    first.destroy();
    const { text } = await call(`${gateway.admin}/metrics`, { headers: { authorization: `Bearer ${ADMIN_TOKEN}` } });
    expect(text).toContain('portcullis_auth_results_total{provider="keys",result="authenticated"} 2\n');
    expect(text).toContain('portcullis_auth_results_total{provider="keys",result="rejected"} 1\n');
    expect(text).toMatch(/portcullis_auth_duration_seconds_count\{provider="keys"\} [1-9]/);
    expect(text).toMatch(/portcullis_store_operation_seconds_count\{store="database",operation="select"\} [1-9]/);
    expect(text).toMatch(/portcullis_store_operation_seconds_count\{store="database",operation="insert"\} [1-9]/);
    expect(text).toContain('portcullis_connections_refused_total{reason="total"} 1\n');
    expect(text).toContain('tenant_isolation_violations_total 0\n');
  });
});

import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { PartialConfig } from '../helpers/gateway.ts';
import { dataWithoutLimits, POLICIES, startGateway, writeConfig } from '../helpers/gateway.ts';
import { call } from '../helpers/gateway-calls.ts';
import { startLoad } from '../helpers/gateway-load.ts';
import type { RunningProcess } from '../helpers/processes.ts';
import { cleanEnv, MAIN, runToEnd, startPortcullis, temporaryDirectory } from '../helpers/processes.ts';
import type { Service } from '../helpers/upstreams.ts';
import { startService } from '../helpers/upstreams.ts';
import { verifies } from '../helpers/verifies.ts';

const home = temporaryDirectory();
let upstream: Service;
let gateway: RunningProcess;
let url: string;
let key: string;
let file: string;

function configWith(...matches: readonly string[]): PartialConfig {
  return {
    listen: { data: '127.0.0.1:0', admin: { address: '127.0.0.1:0' } },
    policy: { bundle: POLICIES, data: './data.json', watch: false },
    routes: matches.map((match) => ({ match, protocol: 'http', url: upstream.url, identity: ['keys'] })),
  };
}

beforeAll(async () => {
  upstream = await startService((request, response) => {
    request.resume();
    response.end(`${request.headers['x-auth-user']} at ${request.url}\n`);
  });
  await writeFile(join(home.path, 'data.json'), await dataWithoutLimits());
  file = await writeConfig(home.path, configWith('/one'));
  const made = await runToEnd(
    process.execPath,
    [MAIN, 'keys', 'create', '--name', 'reloader', '--role', 'user', '--json', '-c', file],
    { env: cleanEnv() },
  );
  key = (JSON.parse(made.stdout) as { api_key: string }).api_key;
  gateway = startPortcullis(['serve', '-c', file]);
  [, url = ''] = await gateway.printed(/"data":"(http[^"]+)"/);
});

afterAll(async () => {
  await gateway?.[Symbol.asyncDispose]();
  await upstream?.[Symbol.asyncDispose]();
  home[Symbol.dispose]();
});

/** The next lines of the log that name this event, counted from now. */
function next(event: string): Promise<unknown> {
  const seen = (gateway.stdout() + gateway.stderr()).split(event).length;
  return gateway.printed(new RegExp(`(?:[^]*${event}){${seen}}`));
}

describe('a configuration that changes while requests come in', () => {
  test('takes effect by itself when the file is written, and no request fails', async () => {
    const load = startLoad(`${url}/one`, { headers: { 'x-api-key': key }, clients: 4 });
    await load.answered(20);
    expect((await call(`${url}/two`, { key })).status).toBe(404);
    const reloaded = next('config_reloaded');
    await writeConfig(home.path, configWith('/one', '/two'));
    await reloaded;
    expect((await call(`${url}/two`, { key })).text).toBe('key:reloader at /two\n');
    await load.answered(load.tally.ids.length + 20);
    const { lost, statuses, ids } = await load.stop();
    expect(lost).toEqual([]);
    expect([...statuses]).toEqual([[200, ids.length]]);
  });

  test('is read again at SIGHUP', async () => {
    const reloaded = next('config_reloaded');
    gateway.kill('SIGHUP');
    await reloaded;
    expect((await call(`${url}/two`, { key })).status).toBe(200);
  });

  test('is refused with file and line when it is wrong, and the one before stays', async () => {
    verifies('X-08');
    const refused = next('config_reload_refused');
    await writeFile(file, 'version: 1\nidentity:\n  keys: { kind: api-key }\nrouts: []\n');
    await refused;
    expect(gateway.stdout() + gateway.stderr()).toMatch(/portcullis\.yaml:4:\d+: .*routs.*routes/);
    expect((await call(`${url}/one`, { key })).status).toBe(200);
    expect((await call(`${url}/readyz`)).status).toBe(200);
  });

  test('says what cannot change without a restart', async () => {
    const refused = next('config_reload_refused');
    await writeConfig(home.path, { ...configWith('/one'), limits: { body_bytes: 2048 } });
    await refused;
    expect(gateway.stdout() + gateway.stderr()).toMatch(/a change of limits needs a restart/);
  });
});

test('a request that is under way ends with the configuration it began with', async () => {
  const arrived = Promise.withResolvers<void>();
  const release = Promise.withResolvers<void>();
  await using slow = await startService(async (_request, response) => {
    arrived.resolve();
    await release.promise;
    response.end('from the old upstream');
  });
  const route = { match: '/slow', protocol: 'http' as const, identity: ['keys'] };
  await using running = await startGateway({ routes: [{ ...route, url: slow.url }] });
  const own = await running.key('user');
  const early = call(`${running.url}/slow`, { key: own });
  await arrived.promise;
  await running.reload({ routes: [{ ...route, url: upstream.url }] });
  expect((await call(`${running.url}/slow`, { key: own })).text).toBe('user-user at /slow\n');
  release.resolve();
  expect((await early).text).toBe('from the old upstream');
});

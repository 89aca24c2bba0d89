/**
 * The matrix of the front door: every kind of provider × every way to fail, on routes that let anonymous callers in. One
 * gateway has a provider and a route for each. Nobody gets in by a failure, and nobody is taken for anonymous.
 */
import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { createGateway, type Gateway } from '../../src/gateway.ts';
import { IDENTITY_KINDS } from '../../src/modules.ts';
import { openSqlite } from '../../src/stores/sqlite.ts';
import { ACCOUNTS } from '../helpers/accounts.ts';
import { FAILING, FAULTS, type Failing, WAYS, type Way } from '../helpers/failing-providers.ts';
import { faultyDatabase } from '../helpers/faulty-database.ts';
import { POLICIES } from '../helpers/gateway.ts';
import { call } from '../helpers/gateway-calls.ts';
import { temporaryDirectory } from '../helpers/processes.ts';
import { startService } from '../helpers/upstreams.ts';
import { verifies } from '../helpers/verifies.ts';
import { fakeServer } from '../unit/identity/oauth/fake-server.ts';

const cleanup = new AsyncDisposableStack();
const folder = temporaryDirectory('portcullis-failures-');
const database = faultyDatabase(openSqlite(null, 1000));
const kinds = Object.keys(FAILING);
const cells = kinds.flatMap((kind) => WAYS.map((way) => ({ kind, way, name: `${kind}-${way.replaceAll(' ', '-')}` })));
/** Whom the upstream was asked for, by path. */
const reached = new Map<string, string | undefined>();
let gateway: Gateway;
const presented = new Map<string, Readonly<Record<string, string>>>();

beforeAll(async () => {
  const server = cleanup.use(await fakeServer());
  const upstream = cleanup.use(
    await startService(({ url = '', headers }, response) => {
      reached.set(url, headers['x-auth-user'] as string | undefined);
      response.end('{}');
    }),
  );
  mkdirSync(join(folder.path, 'files'));
  const stage = { folder: join(folder.path, 'files'), server, cleanup, faults: database.faults };
  const failing = new Map<string, Failing>(
    kinds.map((kind) => [kind, (FAILING[kind] as (typeof FAILING)[string])(stage)]),
  );
  const identity: Record<string, object> = {};
  for (const { kind, way, name } of cells) identity[name] = (await failing.get(kind)?.entry(way)) ?? {};
  gateway = await createGateway({
    config: {
      listen: { data: '127.0.0.1:0', admin: { address: '127.0.0.1:0' } },
      public_url: 'https://gateway.example',
      trusted_proxies: ['127.0.0.1'],
      allowed_hosts: ['127.0.0.1'],
      identity: identity as never,
      accounts: ACCOUNTS,
      routes: cells.map(({ name }) => ({
        ...{ match: `/${name}`, protocol: 'http' as const, url: upstream.url },
        ...{ identity: [name], anonymous: true, permissions: { GET: [] } },
      })),
      policy: { bundle: POLICIES, watch: false },
      limits: { drain_ms: 100 },
      stores: { pepper: 'a pepper of this matrix that is long enough 7Hq2' },
    },
    storage: { database: database.backend },
    baseDir: folder.path,
    writeLog: () => undefined,
  });
  await gateway.start();
  for (const { kind, way, name } of cells) presented.set(name, (await failing.get(kind)?.headers(way, gateway)) ?? {});
});

afterAll(async () => {
  database.release();
  await gateway?.close();
  await cleanup.disposeAsync();
  folder[Symbol.dispose]();
});

const ask = (name: string) => call(`${gateway.urls.data}/${name}`, { headers: presented.get(name) ?? {} });
const of = (way: Way) => cells.filter((cell) => cell.way === way);

async function expectRefused(name: string): Promise<void> {
  const answer = await ask(name);
  expect([401, 503], `${name} ${answer.text}`).toContain(answer.status);
  if (answer.status === 503) expect(answer.headers.get('retry-after')).not.toBeNull();
  expect(reached.has(`/${name}`)).toBe(false);
}

describe('never an anonymous principal from an error path', () => {
  test('every kind that a configuration can name has its rows', () => {
    expect(kinds.toSorted()).toEqual([...IDENTITY_KINDS].toSorted());
    expect(WAYS).toEqual(['works', ...FAULTS]);
  });

  test.each(of('works'))('$kind lets in whom it knows', async ({ name }) => {
    const answer = await ask(name);
    expect([answer.status, answer.text]).toEqual([200, '{}']);
    expect(reached.get(`/${name}`)).toBeTruthy();
    expect(reached.get(`/${name}`)).not.toBe('anonymous');
  });

  test.each(FAULTS.filter((way) => way !== 'times out').flatMap(of))(
    '$kind refuses everyone, when what it depends on is such: $way',
    async ({ name }) => {
      verifies('DF-03', 'SF-59');
      await expectRefused(name);
    },
  );

  // All at once: some wait for the chain's own five seconds.
  test('nobody gets in where a server or a store does not answer', async () => {
    verifies('DF-03', 'SF-59');
    await Promise.all(of('times out').map(({ name }) => expectRefused(name)));
  });

  test('the same routes are open to who presents nothing, so that it is not the route that refuses', async () => {
    for (const { name } of of('throws')) {
      reached.delete(`/${name}`);
      expect([name, (await call(`${gateway.urls.data}/${name}`)).status]).toEqual([name, 200]);
    }
  });
});

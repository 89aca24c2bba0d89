/** Policies from a service: updated under load, refused when somebody changed them, taken back with one command. */
import { readFileSync, statSync } from 'node:fs';
import { rename, writeFile } from 'node:fs/promises';
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import { Readable } from 'node:stream';
import { afterAll, beforeAll, describe, expect, test, vi } from 'vitest';
import { main } from '../../src/cli/cli.ts';
import { writeArchive } from '../../src/policy/bundle-writer.ts';
import { bundleFiles, makeKey, signedArchive } from '../helpers/bundles.ts';
import { startCheckedLoad } from '../helpers/checked-load.ts';
import { ADMIN_TOKEN, dataWithoutLimits, startGateway, type TestGateway } from '../helpers/gateway.ts';
import { call, invoke } from '../helpers/gateway-calls.ts';
import {
  type Example,
  freePorts,
  type RunningProcess,
  startExample,
  temporaryDirectory,
} from '../helpers/processes.ts';
import { NGINX, startNginx } from '../helpers/processes-nginx.ts';
import { verifies } from '../helpers/verifies.ts';

const PLAIN = 'SELECT id FROM orders LIMIT 1';
const key = makeKey('ES256');
const signing = { keys: { release: { algorithm: key.algorithm, key: key.publicPem } }, keyid: 'release' };

interface Data {
  config: { tool_access: Record<string, object> };
}

/** The data of the shipped policies; `developers: false` takes everything from them, and so on. */
async function dataFor(developers: boolean, users = true): Promise<string> {
  const data = JSON.parse(await dataWithoutLimits()) as Data;
  if (!developers) data.config.tool_access.developer = {};
  if (!users) data.config.tool_access.user = {};
  return JSON.stringify(data);
}

async function signedBundle(revision: string, developers: boolean, users = true): Promise<Buffer> {
  return signedArchive(await bundleFiles(revision, await dataFor(developers, users)), key, 'release');
}

const BODY = JSON.stringify({ server_name: 'orders', tool_name: 'execute_query', parameters: { query: PLAIN } });
/** Answers that are there after each step, so that none of them goes by unseen. */
const ANSWERS = 260;

interface Status {
  readonly revision: string;
  readonly bundle_revision: string | null;
  readonly last_error: string | null;
  readonly pinned: boolean;
  readonly previous_revision: string | null;
  readonly source: {
    readonly code: string | null;
    readonly http_code: number;
    readonly type: string;
    readonly errors: number;
  };
}

async function statusOf(gateway: TestGateway): Promise<Status> {
  const answer = await call(`${gateway.admin}/policy/status`, { headers: { authorization: `Bearer ${ADMIN_TOKEN}` } });
  return answer.body as Status;
}

const until = (gateway: TestGateway, found: (status: Status) => boolean): Promise<Status> =>
  vi.waitFor(
    async () => {
      const status = await statusOf(gateway);
      if (!found(status)) throw new Error(JSON.stringify(status));
      return status;
    },
    { interval: 10, timeout: 15_000 },
  );

async function policyCommand(gateway: TestGateway, verb: string): Promise<number> {
  const io = {
    cwd: gateway.home,
    env: { PORTCULLIS_ADMIN_URL: gateway.admin, PORTCULLIS_ADMIN_TOKEN: ADMIN_TOKEN },
    ...{ out: () => undefined, err: () => undefined, stdin: Readable.from([]), signal: new AbortController().signal },
  };
  return main(['policy', verb], io);
}

const missing = NGINX === null && process.env.CI !== 'true';
if (missing) console.warn('skipped: nginx is not installed (Debian package nginx)');

describe.skipIf(missing)('policies served by nginx', () => {
  const directory = temporaryDirectory('portcullis-nginx-');
  let nginx: RunningProcess;
  let orders: Example;
  let gateway: TestGateway;
  let developer: string;
  let policy: object;

  /** As `policy build --bundle` does: whole at every instant. */
  async function publish(bundle: Buffer): Promise<void> {
    await writeFile(join(directory.path, 'www/next'), bundle);
    await rename(join(directory.path, 'www/next'), join(directory.path, 'www/bundle.tar.gz'));
  }

  const start = () =>
    startGateway({
      servers: { orders: { type: 'sql', dialect: 'sqlite', url: orders.url, environment: 'staging' } },
      policy: { bundle: policy, watch: false, decision_log: { file: './decisions.jsonl' } } as never,
    });

  beforeAll(async () => {
    const [port = 0] = await freePorts(1);
    nginx = await startNginx(directory.path, port);
    await publish(await signedBundle('r1', true, false));
    orders = await startExample('orders-server');
    policy = {
      url: `http://127.0.0.1:${port}`,
      resource: 'bundle.tar.gz',
      signing,
      polling: { min_seconds: 0.05, max_seconds: 0.1 },
      persist: join(directory.path, 'kept'),
    };
    gateway = await start();
    developer = await gateway.key('developer');
  }, 30_000);
  afterAll(async () => {
    await gateway?.[Symbol.asyncDispose]();
    await orders?.crash();
    nginx?.kill('SIGTERM');
    await nginx?.exited;
    directory[Symbol.dispose]();
  });

  test('change under load, are refused without their signature, and go back with one command', async () => {
    verifies('SF-61');
    expect(await statusOf(gateway)).toMatchObject({ bundle_revision: 'r1', last_error: null });
    const { revision: first } = await statusOf(gateway);
    const load = startCheckedLoad(
      gateway,
      BODY,
      { admin: await gateway.key('admin'), developer: await gateway.key('developer'), user: await gateway.key('user') },
      {
        r1: { admin: true, developer: true, user: false },
        r2: { admin: true, developer: false, user: true },
        r4: { admin: true, developer: true, user: true },
      },
      { name: 'r1', revision: first },
    );
    await load.more(ANSWERS);

    load.changing('r2');
    await publish(await signedBundle('r2', false));
    const second = await until(gateway, ({ bundle_revision }) => bundle_revision === 'r2');
    load.inForce('r2', second.revision);
    await load.more(ANSWERS);

    // Nothing but r2 may decide from here to the rollback.
    await publish(writeArchive(await bundleFiles('r3', await dataFor(true))));
    const refused = await until(gateway, ({ last_error }) => last_error !== null);
    expect(refused.last_error).toMatch(/is not signed/);
    expect(refused).toMatchObject({ bundle_revision: 'r2', source: { code: 'bundle_error' } });
    await gateway.logged(/policy not activated; the one before stays/);
    const metrics = await call(`${gateway.admin}/metrics`, { headers: { authorization: `Bearer ${ADMIN_TOKEN}` } });
    expect(metrics.text).toMatch(/portcullis_reloads_total\{what="policy",result="failed"\} [1-9]/);
    expect((await call(`${gateway.url}/readyz`)).status).toBe(200);
    await load.more(ANSWERS);

    await publish(await signedBundle('r2', false));
    await until(gateway, ({ source }) => source.code === null && source.errors === 0);
    await load.more(ANSWERS);
    load.changing('r1');
    expect(await policyCommand(gateway, 'rollback')).toBe(0);
    const back = await statusOf(gateway);
    expect(back).toMatchObject({ bundle_revision: 'r1', revision: first, pinned: true });
    load.inForce('r1', back.revision);
    await load.more(ANSWERS);

    // Served again with another ETag, it still stays out.
    await publish(await signedBundle('r2', false));
    await gateway.logged(/it stays out/);
    await load.more(ANSWERS);
    load.changing('r4');
    await publish(await signedBundle('r4', true));
    const last = await until(gateway, ({ pinned }) => !pinned);
    expect(last).toMatchObject({ last_error: null, bundle_revision: 'r4' });
    load.inForce('r4', last.revision);
    await load.more(2 * ANSWERS);

    const { requests, during, cached } = await load.verified();
    expect(requests).toBeGreaterThanOrEqual(2000);
    const events = await gateway.audited((all) => all.some((one) => one.event_type === 'admin_action'));
    expect(events).toContainEqual(expect.objectContaining({ operation: 'policy:rollback', outcome: 'allowed' }));
    console.log(
      `${requests} requests (${during} in the moment of a change, ${cached} from the cache) during three bundles, one ` +
        'forgery and one rollback: none failed, none decided by a policy that was not in force, none wrongly',
    );
  }, 60_000);

  test('are started from the disk when nobody serves them, if their signature still holds', async () => {
    const kept = join(directory.path, 'kept/bundle.tar.gz');
    expect(statSync(kept).mode & 0o777).toBe(0o600);
    expect(statSync(join(directory.path, 'kept')).mode & 0o777).toBe(0o700);
    await gateway[Symbol.asyncDispose]();
    nginx.kill('SIGTERM');
    await nginx.exited;
    gateway = await start();
    developer = await gateway.key('developer');
    expect(await statusOf(gateway)).toMatchObject({ last_error: null, source: { errors: expect.any(Number) } });
    expect((await invoke(gateway.url, developer, PLAIN)).status).toBe(200);
    await gateway[Symbol.asyncDispose]();
    const bytes = readFileSync(kept);
    bytes[bytes.length >> 1] = (bytes[bytes.length >> 1] ?? 0) ^ 1;
    await writeFile(kept, bytes);
    gateway = await start();
    developer = await gateway.key('developer');
    expect((await statusOf(gateway)).revision).toBeNull();
    expect((await invoke(gateway.url, developer, PLAIN)).status).toBe(503);
    expect((await call(`${gateway.url}/readyz`)).status).toBe(503);
  }, 30_000);
});

/** A bundle service that holds requests open and sends changes. */
class HoldingService {
  readonly #server = createServer((request, response) => this.#hear(request, response));
  readonly asked: { readonly prefer: string; readonly etag: string | undefined; readonly token: string | undefined }[] =
    [];
  #etag = '';
  #whole: Buffer = Buffer.alloc(0);
  #delta: { readonly from: string; readonly bytes: Buffer } | null = null;
  #held: ServerResponse[] = [];

  async start(): Promise<string> {
    await new Promise<void>((done) => this.#server.listen(0, '127.0.0.1', done));
    return `http://127.0.0.1:${(this.#server.address() as AddressInfo).port}/bundle`;
  }

  publish(etag: string, whole: Buffer, delta: Buffer | null = null): void {
    this.#delta = delta === null ? null : { from: this.#etag, bytes: delta };
    this.#etag = etag;
    this.#whole = whole;
    for (const response of this.#held.splice(0)) this.#send(response, this.#delta?.bytes ?? whole);
  }

  get holding(): number {
    return this.#held.length;
  }

  #hear({ headers }: IncomingMessage, response: ServerResponse): void {
    const etag = headers['if-none-match'];
    this.asked.push({ prefer: String(headers.prefer), etag, token: headers.authorization });
    if (etag === this.#etag) this.#held.push(response);
    else this.#send(response, etag !== undefined && etag === this.#delta?.from ? this.#delta.bytes : this.#whole);
  }

  #send(response: ServerResponse, bytes: Buffer): void {
    response.writeHead(200, { etag: this.#etag, 'content-type': 'application/vnd.openpolicyagent.bundles' });
    response.end(bytes);
  }

  stop(): void {
    this.#server.closeAllConnections();
    this.#server.close();
  }
}

describe('policies of a service that holds on', () => {
  const deltaOf = (op: object, signed = true): Buffer => {
    const files = new Map([
      ['patch.json', Buffer.from(JSON.stringify({ data: [op] }))],
      ['.manifest', Buffer.from(JSON.stringify({ revision: 'r2', metadata: { base: 'r1' } }))],
    ]);
    return signed ? signedArchive(files, key, 'release') : writeArchive(files);
  };

  test('arrive at once, as changes of the data alone, and are taken back as such', async () => {
    const service = new HoldingService();
    const url = await service.start();
    service.publish('"1"', await signedBundle('r1', true));
    const orders = await startExample('orders-server');
    await using gateway = await startGateway({
      servers: { orders: { type: 'sql', dialect: 'sqlite', url: orders.url, environment: 'staging' } },
      policy: {
        bundle: { url, signing, polling: { min_seconds: 0.02, max_seconds: 0.05, long_poll_seconds: 30 } },
        ...{ watch: false, cache: { entries: 0 }, decision_log: { file: './decisions.jsonl' } },
      } as never,
    });
    const developer = await gateway.key('developer');
    const first = (await statusOf(gateway)).revision;
    const load = startCheckedLoad(
      gateway,
      BODY,
      { developer: await gateway.key('developer'), user: await gateway.key('user') },
      { r1: { developer: true, user: true }, r2: { developer: false, user: true } },
      { name: 'r1', revision: first },
    );
    expect((await invoke(gateway.url, developer, PLAIN)).status).toBe(200);
    await vi.waitFor(() => expect(service.holding).toBe(1), { interval: 5, timeout: 10_000 });
    expect(service.asked.at(-1)).toMatchObject({ prefer: 'modes=snapshot,delta;wait=30', etag: '"1"' });

    const nobody = { op: 'replace', path: '/config/tool_access/developer', value: {} };
    await load.more(ANSWERS);
    load.changing('r2');
    service.publish('"2"', await signedBundle('r2', false), deltaOf(nobody));
    const changed = await until(gateway, ({ revision }) => revision !== first);
    expect(changed).toMatchObject({
      last_error: null,
      previous_revision: first,
      source: { type: 'delta', code: null },
    });
    load.inForce('r2', changed.revision);
    await load.more(ANSWERS);
    expect((await invoke(gateway.url, developer, PLAIN)).status).toBe(403);

    load.changing('r1');
    expect(await policyCommand(gateway, 'rollback')).toBe(0);
    expect((await statusOf(gateway)).revision).toBe(first);
    load.inForce('r1', first);
    await load.more(ANSWERS);
    expect((await invoke(gateway.url, developer, PLAIN)).status).toBe(200);

    // A person asks for it: then it counts again.
    load.changing('r2');
    expect(await policyCommand(gateway, 'reload')).toBe(0);
    load.inForce('r2', (await statusOf(gateway)).revision);
    await load.more(ANSWERS);
    expect((await invoke(gateway.url, developer, PLAIN)).status).toBe(403);
    await vi.waitFor(() => expect(service.holding).toBe(1), { interval: 5, timeout: 10_000 });

    service.publish('"3"', await signedBundle('r2', false), deltaOf({ ...nobody, value: { all: ['low'] } }, false));
    await gateway.logged(/the bundle is not signed/);
    await load.more(ANSWERS);
    expect((await invoke(gateway.url, developer, PLAIN)).status).toBe(403);

    // A service that lies sends changes again that were once good: their signature still is.
    await vi.waitFor(() => expect(service.holding).toBe(1), { interval: 5, timeout: 10_000 });
    service.publish(
      '"4"',
      await signedBundle('r2', false),
      deltaOf({ ...nobody, op: 'upsert', path: '/old', value: 1 }),
    );
    // Said once: the next answer is the whole bundle, which is good.
    await gateway.logged(/the delta is for another base \(r1\) than what is in force \(r2\)/);
    await load.more(ANSWERS);
    expect((await invoke(gateway.url, developer, PLAIN)).status).toBe(403);
    const { requests, during } = await load.verified();
    console.log(
      `${requests} requests (${during} in the moment of a change) during changes of the data: all as decided`,
    );
    service.stop();
    await orders.crash();
  }, 30_000);

  test('stay taken back after a restart, though they are served still', async () => {
    const service = new HoldingService();
    const url = await service.start();
    using directory = temporaryDirectory('portcullis-pinned-');
    const orders = await startExample('orders-server');
    const start = () =>
      startGateway({
        servers: { orders: { type: 'sql', dialect: 'sqlite', url: orders.url, environment: 'staging' } },
        policy: {
          bundle: {
            url,
            signing,
            polling: { min_seconds: 0.02, max_seconds: 0.05, long_poll_seconds: 30 },
            persist: directory.path,
          },
          watch: false,
        } as never,
      });
    service.publish('"1"', await signedBundle('r1', true));
    let gateway = await start();
    service.publish('"2"', await signedBundle('r2', false));
    await until(gateway, ({ bundle_revision, source }) => bundle_revision === 'r2' && source.code === null);
    await vi.waitFor(() => expect(service.holding).toBe(1), { interval: 5, timeout: 10_000 });
    expect(await policyCommand(gateway, 'rollback')).toBe(0);
    await vi.waitFor(() => readFileSync(join(directory.path, 'pinned')), { interval: 5, timeout: 10_000 });
    await gateway[Symbol.asyncDispose]();
    gateway = await start();
    expect(await statusOf(gateway)).toMatchObject({ bundle_revision: 'r1', pinned: true, last_error: null });
    await gateway.logged(/it stays out/);
    expect((await invoke(gateway.url, await gateway.key('developer'), PLAIN)).status).toBe(200);
    await gateway[Symbol.asyncDispose]();
    service.stop();
    await orders.crash();
  }, 30_000);

  test('are not asked for where they would be sent elsewhere, and not beyond their size', async () => {
    const far = createServer((_, response) => response.writeHead(302, { location: 'http://127.0.0.1:1/' }).end());
    const large = createServer((_, response) => response.writeHead(200).end(Buffer.alloc(4096)));
    for (const [server, reason] of [
      [far, /sends elsewhere \(302\)/],
      [large, /larger than 2048 bytes/],
    ] as const) {
      await new Promise<void>((done) => server.listen(0, '127.0.0.1', done));
      const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}/`;
      await using gateway = await startGateway({
        policy: { bundle: { url, signing, max_bytes: 2048 }, watch: false } as never,
      });
      const status = await statusOf(gateway);
      expect(status.last_error).toMatch(reason);
      expect(status.revision).toBeNull();
      server.close();
    }
  });
});

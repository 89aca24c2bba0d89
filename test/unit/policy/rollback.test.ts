/** What was rolled back stays out: after a change of the data alone, after a restart, and whatever the service says. */
import { existsSync } from 'node:fs';
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import { afterEach, describe, expect, test, vi } from 'vitest';
import { openBundleService } from '../../../src/policy/bundle-service.ts';
import { BundleStore } from '../../../src/policy/bundle-store.ts';
import { writeArchive } from '../../../src/policy/bundle-writer.ts';
import { createPolicyEngine, type OpaEngine } from '../../../src/policy/opa-engine.ts';
import { bundleFiles } from '../../helpers/bundles.ts';
import { temporaryDirectory } from '../../helpers/processes.ts';

const QUIET = { debug() {}, info() {}, warn() {}, error() {} };

/** Answers with what it is told to; `delta` is for those that name this ETag. */
class Service {
  readonly server: Server;
  whole: Buffer = Buffer.alloc(0);
  etag: string | null = '"0"';
  delta: { readonly from: string; readonly bytes: Buffer } | null = null;
  /** Says "nothing new" to everybody. */
  isMute = false;
  isDown = false;
  asked = 0;

  constructor() {
    this.server = createServer(({ headers }, response) => {
      this.asked++;
      const named = headers['if-none-match'];
      if (this.isDown) return void response.writeHead(500).end();
      if (this.isMute || (named !== undefined && named === this.etag)) return void response.writeHead(304).end();
      response.writeHead(200, this.etag === null ? {} : { etag: this.etag });
      response.end(named !== undefined && named === this.delta?.from ? this.delta.bytes : this.whole);
    });
  }

  async start(): Promise<string> {
    await new Promise<void>((done) => this.server.listen(0, '127.0.0.1', done));
    return `http://127.0.0.1:${(this.server.address() as AddressInfo).port}/`;
  }
}

const archive = async (revision: string, extra: object = {}): Promise<Buffer> => {
  const files = await bundleFiles(revision);
  const data = JSON.parse(String(files.get('data.json'))) as object;
  return writeArchive(new Map([...files, ['data.json', Buffer.from(JSON.stringify({ ...data, ...extra }))]]));
};
const deltaOf = (...data: readonly object[]): Buffer =>
  writeArchive(new Map([['patch.json', Buffer.from(JSON.stringify({ data }))]]));

const open: { close(): unknown }[] = [];
afterEach(async () => {
  for (const one of open.splice(0).reverse()) await one.close();
});

async function engineOn(url: string, directory: string | null): Promise<OpaEngine> {
  const source = await openBundleService({
    ...{
      url,
      headers: {},
      ca: null,
      signing: null,
      minMs: 5,
      maxMs: 10,
      longPollSeconds: null,
      maxBytes: 1 << 24,
      maxUnpackedBytes: 1 << 26,
    },
    ...{ store: directory === null ? null : new BundleStore(directory), now: Date.now, logger: QUIET },
  });
  const engine = await createPolicyEngine({
    ...{ bundleDir: '', dataFile: null, source, entrypoint: 'portcullis/main/decision', clock: Date },
    ...{ cache: { entries: 0, base_ttl_ms: 0 }, servers: new Map(), decisionLog: null, logger: QUIET },
  });
  open.push(engine);
  return engine;
}

async function service(): Promise<{ service: Service; url: string }> {
  const made = new Service();
  open.push(made.server);
  return { service: made, url: await made.start() };
}

const soon = (check: () => void): Promise<void> => vi.waitFor(check, { interval: 2, timeout: 10_000 });

describe('a rollback', () => {
  test('of a change of the data alone starts again from the bundle before it, not from an older one', async () => {
    using directory = temporaryDirectory('portcullis-rollback-');
    const { service: served, url } = await service();
    Object.assign(served, { whole: await archive('r0'), etag: '"0"' });
    const engine = await engineOn(url, directory.path);
    Object.assign(served, { whole: await archive('r1', { one: 1 }), etag: '"1"' });
    await soon(() => expect(engine.status().bundle_revision).toBe('r1'));
    const first = engine.revision;
    const delta = deltaOf({ op: 'upsert', path: '/two', value: 2 });
    Object.assign(served, { whole: await archive('r2', { one: 1, two: 2 }), etag: '"2"' });
    served.delta = { from: '"1"', bytes: delta };
    await soon(() => expect(engine.revision).not.toBe(first));
    await soon(() => expect(engine.status().source?.type).toBe('delta'));
    expect(engine.rollback()).toBe(true);
    expect(engine.revision).toBe(first);
    await soon(() => expect(engine.status().pinned).toBe(true));
    await engine.close();

    const again = await engineOn(url, directory.path);
    expect(again.revision).toBe(first);
    const { asked } = served;
    await soon(() => expect(served.asked).toBeGreaterThan(asked + 3));
    expect(again.status()).toMatchObject({ pinned: true, revision: first });
  });

  test('goes one step: a second one changes nothing, here and after a restart', async () => {
    using directory = temporaryDirectory('portcullis-rollback-');
    const { service: served, url } = await service();
    Object.assign(served, { whole: await archive('r0'), etag: '"0"' });
    const engine = await engineOn(url, directory.path);
    Object.assign(served, { whole: await archive('r1', { one: 1 }), etag: '"1"' });
    await soon(() => expect(engine.status()).toMatchObject({ bundle_revision: 'r1', source: { type: 'snapshot' } }));
    await soon(() => expect(existsSync(join(directory.path, 'previous.tar.gz'))).toBe(true));
    expect(engine.rollback()).toBe(true);
    expect(engine.rollback()).toBe(false);
    expect(engine.status().bundle_revision).toBe('r0');
    await engine.close();
    served.isDown = true;
    const again = await engineOn(url, directory.path);
    expect(again.status()).toMatchObject({ bundle_revision: 'r0' });
  });
});

describe('a bundle service', () => {
  test('that says nothing is new to one who has nothing is not believed', async () => {
    const { service: served, url } = await service();
    Object.assign(served, { whole: await archive('r0'), etag: '"0"' });
    const engine = await engineOn(url, null);
    served.delta = { from: '"0"', bytes: deltaOf({ op: 'remove', path: '/there/is/none' }) };
    served.etag = '"1"';
    await soon(() => expect(engine.status().source?.code).toBe('bundle_error'));
    served.isMute = true;
    const { asked } = served;
    await soon(() => expect(served.asked).toBeGreaterThan(asked + 3));
    expect(engine.status().source).toMatchObject({ code: 'bundle_error', message: /nothing is new/ });
  });
});

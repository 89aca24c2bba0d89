/** What was rolled back stays out: after a change of the data alone, after a restart, and whatever the service says. */
import { existsSync, writeFileSync } from 'node:fs';
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

/** With its place in the order. */
async function placed(revision: string, sequence: unknown, extra: object = {}): Promise<Buffer> {
  const files = await bundleFiles(revision);
  const data = JSON.parse(String(files.get('data.json'))) as object;
  const manifest = { ...(JSON.parse(String(files.get('.manifest'))) as object), metadata: { sequence } };
  const made: [string, Buffer][] = [
    ['data.json', Buffer.from(JSON.stringify({ ...data, ...extra, revision }))],
    ['.manifest', Buffer.from(JSON.stringify(manifest))],
  ];
  return writeArchive(new Map([...files, ...made]));
}

const alarms: string[] = [];
const ALARMED = { ...QUIET, error: (...words: unknown[]) => void alarms.push(String(words.at(-1))) };

async function engineOn(url: string, directory: string | null, requireNewer = false): Promise<OpaEngine> {
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
    ...{ store: directory === null ? null : new BundleStore(directory), now: Date.now, logger: ALARMED, requireNewer },
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

  test('goes back to another policy, however often the one in force was loaded again', async () => {
    using directory = temporaryDirectory('portcullis-rollback-');
    const file = join(directory.path, 'bundle.tar.gz');
    const engine = await createPolicyEngine({
      ...{ bundleDir: file, dataFile: null, entrypoint: 'portcullis/main/decision', clock: Date },
      ...{ cache: { entries: 0, base_ttl_ms: 0 }, servers: new Map(), decisionLog: null, logger: QUIET },
    });
    open.push(engine);
    writeFileSync(file, await archive('r0'));
    await engine.reload();
    await engine.reload();
    expect(engine.rollback()).toBe(false);
    writeFileSync(file, await archive('r1', { one: 1 }));
    for (let times = 0; times < 3; times++) await engine.reload();
    expect(engine.rollback()).toBe(true);
    expect(engine.status()).toMatchObject({ bundle_revision: 'r0' });
    writeFileSync(file, await archive('r0'));
    await engine.reload();
    expect(engine.status()).toMatchObject({ bundle_revision: 'r0' });
    // What was taken back does not come back that way either.
    expect(engine.rollback()).toBe(false);
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

describe('an older bundle', () => {
  const serve = (served: Service, whole: Buffer, etag: string) => Object.assign(served, { whole, etag });
  const inForce = (engine: OpaEngine) => engine.status().bundle_revision;

  test('is not taken again from its own service, by a running gateway, at a reload or at a start', async () => {
    using directory = temporaryDirectory('portcullis-order-');
    const { service: served, url } = await service();
    serve(served, await placed('r7', 7), '"7"');
    const engine = await engineOn(url, directory.path);
    serve(served, await placed('r9', 9), '"9"');
    await soon(() => expect(inForce(engine)).toBe('r9'));
    await soon(() => expect(existsSync(join(directory.path, 'previous.tar.gz'))).toBe(true));
    alarms.length = 0;
    serve(served, await placed('r7', 7), '"7"');
    await soon(() => expect(engine.status().last_error).toMatch(/is older \(sequence 7\).*\(9\).*policy rollback/));
    expect(alarms).toContain('policy_bundle_older');
    await engine.reload();
    expect(inForce(engine)).toBe('r9');
    await engine.close();
    const again = await engineOn(url, directory.path);
    expect(inForce(again)).toBe('r9');
    await soon(() => expect(again.status().source).toMatchObject({ code: 'bundle_error', message: /is older/ }));
    // What is newer is taken as ever, and so is what does not say its place.
    serve(served, await placed('r10', 10), '"10"');
    await soon(() => expect(inForce(again)).toBe('r10'));
    serve(served, await archive('plain', { plain: true }), '"p"');
    await soon(() => expect(inForce(again)).toBe('plain'));
    serve(served, await placed('r9', 9), '"9"');
    await soon(() => expect(again.status().last_error).toMatch(/is older/));
    expect(inForce(again)).toBe('plain');
  });

  test('is in force again with one command, also when it is served again, and older ones than it are not', async () => {
    using directory = temporaryDirectory('portcullis-order-');
    const { service: served, url } = await service();
    serve(served, await placed('r7', 7), '"7"');
    const engine = await engineOn(url, directory.path);
    for (const place of [8, 9]) {
      serve(served, await placed(`r${place}`, place), `"${place}"`);
      await soon(() => expect(inForce(engine)).toBe(`r${place}`));
      await soon(() => expect(engine.status().source?.active_revision).toBe(engine.revision));
    }
    expect(engine.rollback()).toBe(true);
    expect(inForce(engine)).toBe('r8');
    await engine.close();
    const again = await engineOn(url, directory.path);
    expect(inForce(again)).toBe('r8');
    // The release is taken back at the service too.
    serve(served, await placed('r8', 8), '"8"');
    const { asked } = served;
    await soon(() => expect(served.asked).toBeGreaterThan(asked + 3));
    expect(again.status()).toMatchObject({ bundle_revision: 'r8', last_error: null });
    serve(served, await placed('r7', 7), '"7"');
    await soon(() => expect(again.status().last_error).toMatch(/is older/));
    serve(served, await placed('r9', 9), '"9"');
    await soon(() => expect(again.status().last_error).toBeNull());
    await again.reload();
    expect(inForce(again)).toBe(again.status().pinned ? 'r8' : 'r9');
  });

  test('does not return when changes of the data came after it', async () => {
    using directory = temporaryDirectory('portcullis-order-');
    const { service: served, url } = await service();
    serve(served, await placed('r1', 1), '"1"');
    const engine = await engineOn(url, directory.path);
    const manifest = Buffer.from(JSON.stringify({ revision: 'r2', metadata: { base: 'r1', sequence: 2 } }));
    const patch = Buffer.from(JSON.stringify({ data: [{ op: 'upsert', path: '/two', value: 2 }] }));
    const bytes = writeArchive(
      new Map([
        ['patch.json', patch],
        ['.manifest', manifest],
      ]),
    );
    Object.assign(served, { etag: '"2"', delta: { from: '"1"', bytes } });
    await soon(() => expect(inForce(engine)).toBe('r2'));
    serve(served, await placed('r1', 1), '"1"');
    await soon(() => expect(engine.status().last_error).toMatch(/is older \(sequence 1\).*\(2\)/));
    expect(inForce(engine)).toBe('r2');
    await engine.close();
    // What was on disk before the changes is still good for a start without the service.
    served.isDown = true;
    expect(inForce(await engineOn(url, directory.path))).toBe('r1');
  });

  test('cannot be told from a newer one that does not say: then it is refused where that is asked for', async () => {
    const { service: served, url } = await service();
    serve(served, await archive('plain'), '"p"');
    const engine = await engineOn(url, null, true);
    expect(engine.status()).toMatchObject({ revision: null, last_error: expect.stringContaining('require_newer') });
    for (const sequence of ['7', -1, 1.5, 2 ** 60]) {
      serve(served, await placed('odd', sequence), `"${String(sequence)}"`);
      await engine.reload();
      expect(engine.status().revision).toBeNull();
    }
    serve(served, await placed('r1', 0), '"1"');
    await soon(() => expect(inForce(engine)).toBe('r1'));
  });
});

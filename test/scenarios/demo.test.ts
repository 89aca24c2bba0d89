import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync, statSync } from 'node:fs';
import { createServer } from 'node:net';
import { delimiter, dirname, join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test, vi } from 'vitest';
import type { DemoFile } from '../../src/cli/demo-config.ts';
import { call } from '../helpers/gateway-calls.ts';
import type { RunningProcess } from '../helpers/processes.ts';
import {
  cleanEnv,
  follow,
  freePorts,
  groupIsRunning,
  MAIN,
  ROOT,
  runToEnd,
  temporaryDirectory,
} from '../helpers/processes.ts';
import { verifies } from '../helpers/verifies.ts';

/** A stranger's shell: an empty directory, and the `node` this test runs under in front of all others. */
const PATH = [dirname(process.execPath), process.env.PATH].join(delimiter);
const READY = /Ctrl-C ends everything/;

interface Demo extends RunningProcess {
  /** Ctrl-C: the terminal signals everything in the foreground. */
  interrupt(): void;
}

async function startDemo(cwd: string, ports: readonly number[]): Promise<Demo> {
  const env = cleanEnv({ PATH, PORTCULLIS_PORT: String(ports[0]), PORTCULLIS_ADMIN_PORT: String(ports[1]) });
  const options = { cwd, env, detached: true, stdio: ['ignore', 'pipe', 'pipe'] as ('ignore' | 'pipe')[] };
  const running = follow(spawn(process.execPath, [MAIN, 'demo'], options));
  return { ...running, interrupt: () => void process.kill(-running.pid, 'SIGINT') };
}

const demoFile = (cwd: string) => JSON.parse(readFileSync(join(cwd, '.portcullis/demo.json'), 'utf8')) as DemoFile;

describe('the demo, as a stranger tries it', () => {
  const home = temporaryDirectory();
  let ports: number[];
  let demo: Demo;

  beforeAll(async () => {
    ports = await freePorts(2);
    demo = await startDemo(home.path, ports);
    await demo.printed(READY);
  });

  afterAll(async () => {
    await demo?.[Symbol.asyncDispose]();
    home[Symbol.dispose]();
  });

  test('prints four commands that do, as printed, what is said above them', async () => {
    const commands = demo.stdout().match(/^ {3}curl .*$/gm) ?? [];
    expect(commands).toHaveLength(4);
    const run = (line: string) => runToEnd('bash', ['-c', line], { env: { PATH }, cwd: '/' });
    const [rows, denied, tools, chat] = await Promise.all(commands.map((line) => run(line.trim())));
    expect(JSON.parse(rows?.stdout ?? '')).toMatchObject({ success: true });
    expect(rows?.stdout).toContain('Ada');
    expect(JSON.parse(denied?.stdout ?? '')).toMatchObject({ status: 403, error: { code: 'POLICY_DENIED' } });
    const names = (JSON.parse(tools?.stdout ?? '') as { tools: { name: string }[] }).tools.map(({ name }) => name);
    expect(names).toEqual(['execute_query']);
    expect(chat?.stdout.match(/^data: /gm)?.length).toBeGreaterThan(5);
    expect(chat?.stdout.trim().endsWith('data: [DONE]')).toBe(true);
  });

  test('writes the file that scripts read, for its owner alone', async () => {
    const file = demoFile(home.path);
    expect(statSync(join(home.path, '.portcullis/demo.json')).mode & 0o777).toBe(0o600);
    expect(file).toMatchObject({
      gateway: `http://127.0.0.1:${ports[0]}`,
      admin: `http://127.0.0.1:${ports[1]}`,
      model: 'tiny-gate',
      servers: [
        {
          name: 'orders',
          type: 'sql',
          dialect: 'sqlite',
          url: `http://127.0.0.1:${ports[0]}/mcp/orders`,
          tools: ['execute_query', 'update_order_status', 'reset_database'],
        },
        { name: 'everything' },
      ],
    });
    expect(Object.keys(file.keys)).toEqual(['admin', 'approver', 'developer', 'analyst', 'guest']);
    for (const key of Object.values(file.keys)) {
      expect((await call(`${file.gateway}/v1/models`, { key })).status).toBe(200);
      const bearer = await call(`${file.gateway}/v1/models`, { headers: { authorization: `Bearer ${key}` } });
      expect(bearer.status).toBe(200);
    }
    const details = (token: string) =>
      call(`${file.admin}/health/detailed`, { headers: { authorization: `Bearer ${token}` } });
    expect((await details(file.admin_token)).status).toBe(200);
    expect((await details(file.keys.admin)).status).toBe(401);
  });

  test('has accounts under its own address: the administrator of the file logs in, and a stranger signs up', async () => {
    verifies('V-05', 'V-06', 'V-07');
    const { gateway, accounts } = demoFile(home.path);
    const { username, password } = accounts.admin;
    const login = await call(`${gateway}/auth/login`, { method: 'POST', json: { username, password } });
    expect(login.body).toMatchObject({ token_type: 'bearer', username, role: 'admin' });
    const { access_token } = login.body as { access_token: string };
    const headers = { authorization: `Bearer ${access_token}` };
    expect((await call(`${gateway}/auth/me`, { headers })).body).toMatchObject({ roles: ['admin'] });
    // The routes of the demo take it too.
    expect((await call(`${gateway}/v1/models`, { headers })).status).toBe(200);
    const stranger = { username: 'stranger', email: 's@example.com', password: 'Lantern-Orchard-Tide-58' };
    const made = await call(`${gateway}/auth/register`, { method: 'POST', json: stranger });
    expect([made.status, (made.body as { role: string }).role]).toEqual([201, 'user']);
  });

  test('says in one sentence that a port is taken, and leaves nothing behind', async () => {
    using other = temporaryDirectory();
    await using second = await startDemo(other.path, ports);
    expect(await second.exited).toEqual({ code: 1, signal: null });
    const told = second
      .stderr()
      .split('\n')
      .filter((text) => text.startsWith('portcullis'));
    expect(told).toEqual([expect.stringMatching(new RegExp(`^portcullis demo: 127.0.0.1:${ports[0]} is in use: `))]);
    expect(second.stderr()).not.toMatch(/^\s+at /m);
    expect(groupIsRunning(second.pid)).toBe(false);
  });

  test('ends on Ctrl-C, even one that comes twice, with all it started and after the request under way', async () => {
    verifies('X-09');
    const { gateway, keys } = demoFile(home.path);
    const chat = await fetch(`${gateway}/v1/chat/completions`, {
      method: 'POST',
      headers: { 'content-type': 'application/json', 'x-api-key': keys.developer },
      body: JSON.stringify({ model: 'tiny-gate', stream: true, messages: [{ role: 'user', content: 'a long one' }] }),
    });
    demo.interrupt();
    await vi.waitFor(async () => expect((await call(`${gateway}/readyz`)).status).toBe(503), { interval: 10 });
    // npm and other wrappers pass on what the terminal has already sent to everyone.
    demo.interrupt();
    expect((await chat.text()).trim().endsWith('data: [DONE]')).toBe(true);
    expect(await demo.exited).toEqual({ code: 0, signal: null });
    expect(groupIsRunning(demo.pid)).toBe(false);
  });

  test('keeps its keys over a restart', async () => {
    const before = demoFile(home.path);
    await using again = await startDemo(home.path, ports);
    await again.printed(READY);
    const after = demoFile(home.path);
    expect(after.keys).toEqual(before.keys);
    expect(after.admin_token).toBe(before.admin_token);
    const json = { server_name: 'orders', tool_name: 'execute_query', parameters: { query: 'SELECT 1 FROM orders' } };
    expect((await call(`${after.gateway}/tools/invoke`, { key: before.keys.developer, json })).status).toBe(200);
    again.interrupt();
    expect((await again.exited).code).toBe(0);
  });
});

test('npm start ends in order on Ctrl-C', async () => {
  using home = temporaryDirectory();
  const [port, admin] = await freePorts(2);
  const env = cleanEnv({
    PORTCULLIS_HOME: home.path,
    PORTCULLIS_PORT: String(port),
    PORTCULLIS_ADMIN_PORT: String(admin),
  });
  const options = { cwd: ROOT, env, detached: true, stdio: ['ignore', 'pipe', 'pipe'] as ('ignore' | 'pipe')[] };
  await using npm = follow(spawn('npm', ['start'], options));
  await npm.printed(READY);
  const file = JSON.parse(readFileSync(join(home.path, 'demo.json'), 'utf8')) as DemoFile;
  const chat = await fetch(`${file.gateway}/v1/chat/completions`, {
    method: 'POST',
    headers: { 'content-type': 'application/json', 'x-api-key': file.keys.developer },
    body: JSON.stringify({ model: 'tiny-gate', stream: true, messages: [{ role: 'user', content: 'a long one' }] }),
  });
  process.kill(-npm.pid, 'SIGINT');
  expect((await chat.text()).trim().endsWith('data: [DONE]')).toBe(true);
  await npm.exited;
  expect(groupIsRunning(npm.pid)).toBe(false);
});

test('a demo whose administration port is taken says which', async () => {
  using home = temporaryDirectory();
  const taken = createServer().listen(0, '127.0.0.1');
  await once(taken, 'listening');
  const address = taken.address();
  const port = typeof address === 'object' && address !== null ? address.port : 0;
  await using demo = await startDemo(home.path, [0, port]);
  expect((await demo.exited).code).toBe(1);
  expect(demo.stderr()).toContain(`127.0.0.1:${port} is in use`);
  expect(groupIsRunning(demo.pid)).toBe(false);
  taken.close();
});

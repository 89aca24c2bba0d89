/**
 * `portcullis demo` (= `npm start`): an orders database, the MCP project's reference server and a small model behind a
 * gateway, all on loopback and in one process tree, with keys made on the spot. Source: contracts 5.
 */
import type { ChildProcess } from 'node:child_process';
import { fork } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { join, resolve, sep } from 'node:path';
import { AccountAdministration, randomPassword } from '../composition/account-administration.ts';
import { makeDirectory } from '../config/directories.ts';
import { loadConfig } from '../config/load.ts';
import { systemClock } from '../core/clock.ts';
import type { Gateway } from '../gateway.ts';
import { IDENTITY_SCHEMA } from '../modules.ts';
import { openDatabase } from '../stores/database.ts';
import { loadPepper } from '../stores/pepper.ts';
import { demoBanner } from './demo-banner.ts';
import type { DemoFile, DemoUpstreams } from './demo-config.ts';
import { demoConfig } from './demo-config.ts';
import type { Io } from './io.ts';
import { CommandError, EXIT } from './io.ts';
import { runGateway } from './serve.ts';
import { readOptions, USUAL_OPTIONS } from './usual-options.ts';

export const DEMO_HELP = `Usage: portcullis demo

Starts an orders database (MCP), the MCP reference server, a small model server
and the gateway in front of them, on loopback only, and prints four commands to
try. Ctrl-C ends all of them. What it makes (keys, databases, audit) stays in
$PORTCULLIS_HOME (default: ./.portcullis), so a restart finds the same keys.

  PORTCULLIS_PORT        data listener   (default 8080)
  PORTCULLIS_ADMIN_PORT  administration  (default 9090)
`;

const PACKAGE_ROOT = join(import.meta.dirname, '../..');

export async function demoCommand(argv: readonly string[], io: Io): Promise<number> {
  const values = readOptions(argv, { help: USUAL_OPTIONS.help });
  if (values.help) {
    io.out(DEMO_HELP);
    return EXIT.ok;
  }
  requireClone();
  const startedAt = Date.now();
  const home = resolve(io.cwd, io.env.PORTCULLIS_HOME ?? '.portcullis');
  makeDirectory(home, 0o700);
  const secrets = { admin: keepSecret(join(home, 'admin.token')), model: keepSecret(join(home, 'model.key')) };
  io.err('Starting the demo: three upstreams and the gateway …\n');
  const children: ChildProcess[] = [];
  try {
    const upstreams = await startUpstreams(children, home, secrets.model, io);
    const file = join(home, 'portcullis.yaml');
    writeFileSync(file, demoConfig(upstreams, ports(io), join(PACKAGE_ROOT, 'policies')));
    return await runGateway(file, io, async (gateway) => {
      const demo = await writeDemoFile(home, gateway, secrets.admin);
      io.out(demoBanner(demo, join(home, 'demo.json'), Date.now() - startedAt));
    });
  } finally {
    // One that ended by itself has let go already.
    for (const child of children) if (child.connected) child.disconnect();
    await Promise.all(children.map(ended));
  }
}

function ports(io: Io): { data: number; admin: number } {
  return { data: portOf(io, 'PORTCULLIS_PORT', 8080), admin: portOf(io, 'PORTCULLIS_ADMIN_PORT', 9090) };
}

function portOf(io: Io, name: string, preset: number): number {
  const port = Number(io.env[name] ?? preset);
  if (Number.isInteger(port) && port >= 0 && port <= 65_535) return port;
  throw new CommandError(`${name} must be a port number, not "${io.env[name]}"`);
}

/** 256 random bits in a file only its owner reads; made once. */
function keepSecret(file: string): string {
  if (!existsSync(file)) writeFileSync(file, `${randomBytes(32).toString('base64url')}\n`, { mode: 0o600 });
  return readFileSync(file, 'utf8').trim();
}

async function startUpstreams(
  children: ChildProcess[],
  home: string,
  modelKey: string,
  io: Io,
): Promise<DemoUpstreams> {
  const [orders, everything, model] = await Promise.all([
    start(children, 'orders-server', { ORDERS_DB: join(home, 'orders.db') }, io),
    start(children, 'everything-server', {}, io),
    start(children, 'model-server', { MODEL_KEY: modelKey }, io),
  ]);
  return { orders, everything, model };
}

/** The examples are TypeScript and use development packages; Node strips no types below node_modules. */
function requireClone(): void {
  if (existsSync(join(PACKAGE_ROOT, 'examples/serve.ts')) && !PACKAGE_ROOT.split(sep).includes('node_modules')) return;
  throw new CommandError(
    'the demo needs a clone of the repository; "portcullis init" starts with a server of your own',
  );
}

/** Starts one example and resolves with the URL it reports. */
function start(children: ChildProcess[], name: string, env: Record<string, string>, io: Io): Promise<string> {
  const file = join(PACKAGE_ROOT, 'examples', `${name}.ts`);
  const child = fork(file, [], {
    env: { PATH: io.env.PATH, ...env },
    execArgv: ['--disable-warning=ExperimentalWarning'],
    stdio: ['ignore', 'ignore', 'inherit', 'ipc'],
  });
  children.push(child);
  return new Promise((done, fail) => {
    child.once('message', (message) => done((message as { url: string }).url));
    child.once('exit', (code) =>
      fail(new CommandError(`examples/${name}.ts ended with code ${code}; its message stands above`)),
    );
  });
}

function ended(child: ChildProcess): Promise<void> {
  return new Promise((done) => {
    if (child.exitCode !== null || child.signalCode !== null) done();
    else child.once('exit', () => done());
  });
}

/** Keeps the keys of an earlier run and makes the missing ones. */
async function writeDemoFile(home: string, gateway: Gateway, adminToken: string): Promise<DemoFile> {
  const file = join(home, 'demo.json');
  const earlier = existsSync(file) ? (JSON.parse(readFileSync(file, 'utf8')) as Partial<DemoFile>) : {};
  const demo: DemoFile = {
    gateway: gateway.urls.data,
    admin: gateway.urls.admin,
    admin_token: adminToken,
    model: 'tiny-gate',
    keys: await demoKeys(gateway, earlier.keys),
    accounts: { admin: await demoAdministrator(join(home, 'portcullis.yaml'), earlier.accounts?.admin) },
    servers: gateway.servers(),
  };
  writeFileSync(file, `${JSON.stringify(demo, null, 2)}\n`, { mode: 0o600 });
  return demo;
}

/** The administrator of an earlier run with its password, or a new one. */
async function demoAdministrator(configuration: string, earlier: DemoFile['accounts']['admin'] | undefined) {
  const loaded = await loadConfig(configuration, { env: {}, providers: IDENTITY_SCHEMA });
  if (loaded.config === null) throw new CommandError(loaded.problems.map(({ text }) => text).join('\n'));
  const { config, baseDir } = loaded;
  await using database = await openDatabase(config.stores.database, { baseDir });
  const pepper = loadPepper(config.stores.database, baseDir, config.stores.pepper);
  const options = { config: config.accounts, database, pepper, clock: systemClock };
  const administration = new AccountAdministration(options);
  const known = await administration.find('admin');
  if (known !== null && earlier !== undefined) return earlier;
  const password = randomPassword();
  if (known !== null) await administration.setPassword(known, password);
  else {
    const facts = { username: 'admin', email: 'admin@example.com', full_name: null };
    await administration.create({ ...facts, role: 'admin', password });
  }
  return { username: 'admin', password };
}

/** The least of what each role needs to be tried out; the admin's stands for a person who passed MFA on a managed device. */
const KEY_FACTS = {
  admin: { roles: ['admin'], permissions: ['*'], mfa_verified: true, device_compliant: true, tenure_months: 24 },
  /** A second person like that: nobody approves their own call. */
  approver: { roles: ['admin'], mfa_verified: true, device_compliant: true, tenure_months: 24 },
  developer: { roles: ['developer'], tenure_months: 6 },
  analyst: { roles: ['analyst'] },
  guest: { roles: [] },
} as const;

async function demoKeys(gateway: Gateway, earlier: Partial<DemoFile['keys']> | undefined): Promise<DemoFile['keys']> {
  const keys: Record<string, string> = {};
  for (const [name, facts] of Object.entries(KEY_FACTS)) {
    const known = earlier?.[name as keyof DemoFile['keys']];
    keys[name] =
      known !== undefined && (await gateway.keys.isGood(known))
        ? known
        : await gateway.keys.create({ name: `demo-${name}`, tenant_id: 'default', owner_id: `demo-${name}`, ...facts });
  }
  return keys as DemoFile['keys'];
}

/** Postgres and Redis as Debian packages them, on loopback, each with its own folder. */
import { execFileSync, spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { chownSync, existsSync, globSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { cleanEnv, follow, freePorts } from './processes.ts';

const inCi = process.env.CI === 'true';

/** Folder of `initdb` and `postgres`, the newest; null when the package `postgresql` is not there. */
const POSTGRES_BIN = globSync('/usr/lib/postgresql/*/bin').toSorted().at(-1) ?? null;
const REDIS = ['/usr/bin/redis-server', '/usr/local/bin/redis-server', '/opt/homebrew/bin/redis-server'].find((path) =>
  existsSync(path),
);

/** Why tests that need the server are skipped, or null. With `CI=true` nothing is skipped. */
export const NO_POSTGRES: string | null =
  POSTGRES_BIN === null && !inCi ? 'Postgres is not installed (Debian package postgresql)' : null;
export const NO_REDIS: string | null =
  REDIS === undefined && !inCi ? 'Redis is not installed (Debian package redis-server)' : null;

export interface StoreServer extends AsyncDisposable {
  readonly url: string;
  /** Ends the server at once, as a crash would. */
  kill(): Promise<void>;
}

/** A new cluster with one empty database. Durability is off: nothing of it outlives the test. */
export async function startPostgres(): Promise<StoreServer> {
  const bin = POSTGRES_BIN ?? '/usr/lib/postgresql/bin';
  const [port] = await freePorts(1);
  const home = mkdtempSync(join(tmpdir(), 'portcullis-postgres-'));
  const password = randomBytes(18).toString('base64url');
  writeFileSync(join(home, 'password'), password, { mode: 0o600 });
  mkdirSync(join(home, 'data'), { mode: 0o700 });
  // Postgres does not run as root.
  const who = process.getuid?.() === 0 ? accountOf('postgres') : null;
  if (who !== null) for (const name of ['', 'password', 'data']) chownSync(join(home, name), who.uid, who.gid);
  const data = join(home, 'data');
  const options = ['-D', data, '-U', 'portcullis', '-A', 'scram-sha-256', '--pwfile', join(home, 'password'), '-N'];
  execFileSync(join(bin, 'initdb'), [...options, '-E', 'UTF8', '--locale=C'], { ...who, stdio: 'ignore' });
  const settings = { port, listen_addresses: '127.0.0.1', unix_socket_directories: '', fsync: 'off' };
  const running = follow(
    spawn(
      join(bin, 'postgres'),
      ['-D', data, ...Object.entries(settings).flatMap(([name, value]) => ['-c', `${name}=${value}`])],
      { ...who, env: cleanEnv(), stdio: ['ignore', 'pipe', 'pipe'] },
    ),
  );
  await running.printed(/ready to accept connections/);
  const kill = async () => {
    running.kill('SIGQUIT');
    await running.exited;
  };
  return {
    url: `postgres://portcullis:${password}@127.0.0.1:${port}/postgres`,
    kill,
    async [Symbol.asyncDispose]() {
      await kill();
      rmSync(home, { recursive: true, force: true });
    },
  };
}

function accountOf(name: string): { uid: number; gid: number } {
  const id = (flag: string) => Number(execFileSync('id', [flag, name], { encoding: 'utf8' }));
  return { uid: id('-u'), gid: id('-g') };
}

/** Files with the certificate of a server, its key, and the authority. */
export interface ServerFiles {
  readonly cert: string;
  readonly key: string;
  readonly ca: string;
}

/**
 * An empty Redis that keeps nothing on disk. `port`: of one that was killed, to come back under its old address. With `tls`
 * it speaks nothing else.
 */
export async function startRedis(port?: number, tls?: ServerFiles): Promise<StoreServer & { readonly port: number }> {
  const own = port ?? (await freePorts(1))[0] ?? 0;
  const files =
    tls === undefined ? [] : ['--tls-cert-file', tls.cert, '--tls-key-file', tls.key, '--tls-ca-cert-file', tls.ca];
  const ports = tls === undefined ? ['--port', String(own)] : ['--port', '0', '--tls-port', String(own)];
  const running = follow(
    spawn(
      REDIS ?? 'redis-server',
      [
        ...ports,
        ...files,
        ...(tls === undefined ? [] : ['--tls-auth-clients', 'no']),
        '--bind',
        '127.0.0.1',
        '--save',
        '',
        '--appendonly',
        'no',
        '--daemonize',
        'no',
      ],
      { env: cleanEnv(), cwd: tmpdir(), stdio: ['ignore', 'pipe', 'pipe'] },
    ),
  );
  await running.printed(/Ready to accept connections/);
  const kill = async () => {
    running.kill('SIGKILL');
    await running.exited;
  };
  return {
    url: `${tls === undefined ? 'redis' : 'rediss'}://127.0.0.1:${own}`,
    port: own,
    kill,
    [Symbol.asyncDispose]: kill,
  };
}

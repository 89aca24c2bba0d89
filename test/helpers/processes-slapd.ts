/** OpenLDAP's server as Debian packages it, on loopback, with its own folder, people and certificates. */
import { execFileSync, spawn } from 'node:child_process';
import { existsSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { connect } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { vi } from 'vitest';
import type { Authority } from './certificates.ts';
import { cleanEnv, follow, freePorts, ROOT } from './processes.ts';

const SLAPD = ['/usr/sbin/slapd', '/usr/local/libexec/slapd'].find((path) => existsSync(path));
const SLAPADD = ['/usr/sbin/slapadd', '/usr/local/sbin/slapadd'].find((path) => existsSync(path));
const MODULES = ['/usr/lib/ldap', '/usr/lib64/openldap'].find((path) => existsSync(path));
const SCHEMA = ['/etc/ldap/schema', '/etc/openldap/schema'].find((path) => existsSync(path));

/** Why tests that need the server are skipped, or null. With `CI=true` nothing is skipped. */
export const NO_SLAPD: string | null =
  process.env.CI !== 'true' && [SLAPD, SLAPADD, MODULES, SCHEMA].includes(undefined)
    ? 'OpenLDAP is not installed (Debian package slapd)'
    : null;

export const LDAP_BASE = 'dc=example,dc=org';
export const GATEWAY_DN = `cn=gateway,${LDAP_BASE}`;
export const GATEWAY_PASSWORD = "the gateway's own word";

export interface SlapdOptions {
  readonly ca: Authority;
  /** Lets a bind with a name and no password, or a password and no name, succeed as nobody. */
  readonly lenient?: boolean;
  /** Lets everybody read, also without an account. */
  readonly open?: boolean;
  /** Of one that was stopped, to come back under its old addresses. */
  readonly ports?: readonly [number, number];
  /** Whom its certificate is for; by default this machine. */
  readonly names?: { readonly dns: readonly string[]; readonly ip: readonly string[] };
}

export interface Slapd extends AsyncDisposable {
  readonly url: string;
  /** The same over TLS from the first byte. */
  readonly secureUrl: string;
  readonly ports: readonly [number, number];
  /** File with the authority of its certificate. */
  readonly ca: string;
  /** What it wrote about connections and operations. */
  log(): string;
  /** Ends it at once, as a crash would. */
  kill(): Promise<void>;
  signal(name: NodeJS.Signals): void;
}

/** Starts a server with the people of `test/corpus/ldap/people.ldif`. Resolves once it answers. */
export async function startSlapd(options: SlapdOptions): Promise<Slapd> {
  const home = mkdtempSync(join(tmpdir(), 'portcullis-slapd-'));
  mkdirSync(join(home, 'data'));
  const server = await options.ca.issue({
    subject: 'CN=localhost',
    ...(options.names ?? { dns: ['localhost'], ip: ['127.0.0.1'] }),
    usages: ['1.3.6.1.5.5.7.3.1'],
  });
  for (const [name, text] of [
    ['ca.pem', options.ca.cert],
    ['server.pem', server.cert],
    ['server.key', server.key],
    ['slapd.conf', configuration(home, options)],
  ] as const) {
    writeFileSync(join(home, name), text, { mode: 0o600 });
  }
  const config = join(home, 'slapd.conf');
  const people = join(ROOT, 'test/corpus/ldap/people.ldif');
  execFileSync(SLAPADD ?? 'slapadd', ['-f', config, '-l', people], { env: cleanEnv(), stdio: 'pipe' });
  const [plain = 0, secure = 0] = options.ports ?? (await freePorts(2));
  const urls = `ldap://127.0.0.1:${plain} ldaps://127.0.0.1:${secure}`;
  const running = follow(
    spawn(SLAPD ?? 'slapd', ['-f', config, '-h', urls, '-d', 'stats'], {
      env: cleanEnv(),
      stdio: ['ignore', 'pipe', 'pipe'],
    }),
  );
  await running.printed(/slapd starting/);
  await vi.waitFor(() => canConnect(plain), { interval: 20, timeout: 10_000 });
  const kill = async () => {
    running.kill('SIGKILL');
    await running.exited;
  };
  return {
    url: `ldap://127.0.0.1:${plain}`,
    secureUrl: `ldaps://127.0.0.1:${secure}`,
    ports: [plain, secure],
    ca: join(home, 'ca.pem'),
    log: () => running.stderr(),
    kill,
    signal: (name) => running.kill(name),
    async [Symbol.asyncDispose]() {
      await kill();
      rmSync(home, { recursive: true, force: true });
    },
  };
}

function configuration(home: string, { lenient = false, open = false }: SlapdOptions): string {
  return `${['core', 'cosine', 'inetorgperson'].map((name) => `include ${SCHEMA}/${name}.schema`).join('\n')}
modulepath ${MODULES}
moduleload back_mdb
${lenient ? 'allow bind_anon_cred bind_anon_dn' : ''}
TLSCACertificateFile ${home}/ca.pem
TLSCertificateFile ${home}/server.pem
TLSCertificateKeyFile ${home}/server.key
database mdb
suffix "${LDAP_BASE}"
rootdn "cn=root,${LDAP_BASE}"
directory ${home}/data
access to attrs=userPassword by anonymous auth by * none
access to dn.subtree="ou=groups,${LDAP_BASE}" by users read by ${open ? '* read' : '* none'}
access to * by dn.exact="${GATEWAY_DN}" read by self read by ${open ? '* read' : 'users search by * none'}
`;
}

function canConnect(port: number): Promise<void> {
  return new Promise((resolve, reject) => {
    const socket = connect(port, '127.0.0.1');
    socket.once('error', reject);
    socket.once('connect', () => {
      socket.destroy();
      resolve();
    });
  });
}

/** The swarm's quick start as it is typed: one command with the file of config/, on one machine and over the servers of several. */
import { randomBytes } from 'node:crypto';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { PASSWORD } from '../helpers/accounts.ts';
import { createAuthority, SERVER_AUTH } from '../helpers/certificates.ts';
import type { RunningProcess } from '../helpers/processes.ts';
import { cleanEnv, freePorts, ROOT, runToEnd, startPortcullis, temporaryDirectory } from '../helpers/processes.ts';
import { NO_POSTGRES, NO_REDIS, type StoreServer, startPostgres, startRedis } from '../helpers/processes-stores.ts';
import { startTasks } from '../helpers/upstreams.ts';
import { verifies } from '../helpers/verifies.ts';

const home = temporaryDirectory('portcullis-swarm-');
const tools = await Promise.all(
  ['curl', 'jq'].map((name) => runToEnd(name, ['--version'], { env: cleanEnv() }).catch(() => ({ code: 1 }))),
);
const missing = process.env.CI !== 'true' && tools.some(({ code }) => code !== 0);

let tasks: Awaited<ReturnType<typeof startTasks>>;
beforeAll(async () => {
  tasks = await startTasks();
});
afterAll(async () => {
  await tasks?.[Symbol.asyncDispose]();
  home[Symbol.dispose]();
});

/** config/swarm.yaml with the addresses of this test, and what `change` makes of it. */
function configFile(name: string, change = (text: string) => text): string {
  const example = readFileSync(join(ROOT, 'config/swarm.yaml'), 'utf8');
  const here = example
    .replaceAll(/http:\/\/127\.0\.0\.1:700[67]/g, tasks.url)
    .replace('../policies', join(ROOT, 'policies'));
  const file = join(home.path, `${name}.yaml`);
  writeFileSync(file, change(here));
  return file;
}

async function serve(file: string, env: Record<string, string>): Promise<RunningProcess> {
  const running = startPortcullis(['serve', '-c', file], { env, cwd: home.path });
  await running.printed(/"data":"http/);
  return running;
}

/** The words of the quick start, with `$A` for accounts and `$S` for services. Ends with the first line that is not so. */
const shell = (text: string, env: Record<string, string>) =>
  runToEnd('bash', ['-euo', 'pipefail', '-c', text], { cwd: home.path, env: cleanEnv({ PASSWORD, ...env }) });

/** Events that the gateway wrote to its standard output. */
const eventsOf = (running: RunningProcess): Record<string, unknown>[] =>
  running
    .stdout()
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line) as Record<string, unknown>);

const FLOW = `
J='Content-Type: application/json'
status() { curl -s -o /dev/null -w '%{http_code}\\n' "$@"; }
curl -sf $A/auth/register -H "$J" -d '{"username":"john_doe","email":"john@example.com","password":"'"$PASSWORD"'","full_name":"John Doe"}' | jq -e '.role=="user" and (has("password_hash")|not)'
curl -sf $A/auth/login -H "$J" -d '{"username":"john_doe","password":"'"$PASSWORD"'"}' > t.json
jq -e '.token_type=="bearer" and .expires_in==86400 and .role=="user"' t.json
status $S/tasks -H "Authorization: Bearer $(jq -r .access_token t.json)"
status $S/tasks
status $A/auth/register -H "$J" -d '{"username":"x","email":"bad","password":"short"}'
`;

describe.skipIf(missing)('one command', () => {
  test('starts accounts and services; its log and its events are lines of JSON without secrets', {
    timeout: 60_000,
  }, async () => {
    verifies('V-05', 'V-08', 'V-42');
    const [a = 0, s = 0] = await freePorts(2);
    const env = { AUTH_PORT: String(a), PORTCULLIS_PORT: String(s), PORTCULLIS_ADMIN_PORT: '0' };
    await using running = await serve(configFile('one'), { ...env, DYN_AUDIT_LOG_PATH: '/dev/stdout' });
    const at = { A: `http://127.0.0.1:${a}`, S: `http://127.0.0.1:${s}` };
    const done = await shell(
      `${FLOW}
      wrong=$(status $A/auth/login -H "$J" -d '{"username":"john_doe","password":"wrong-$PASSWORD"}'); echo $wrong
      B="Authorization: Bearer $(jq -r .access_token t.json)"
      curl -sf $A/auth/api-keys -H "$J" -H "$B" -d '{"name":"ci","permissions":["tasks.read"],"expires_in_days":90}' > k.json
      status -X DELETE $A/auth/api-keys/$(jq -r .key_id k.json) -H "$B"
      curl -s $A/auth/verify-permission -H "$J" -H "$B" -d '{"permission":"users.create"}' | jq .has_permission
      status $A/auth/change-password -H "$J" -H "$B" -d '{"current_password":"'"$PASSWORD"'","new_password":"Another-Lamp-Harbour-43"}'
      status -X POST $A/auth/logout -H "$B"
      status $S/tasks -H "$B"`,
      at,
    );
    expect(done.stderr).toBe('');
    expect(done.stdout.trim().split('\n')).toEqual([
      'true',
      'true',
      '200',
      '401',
      '422',
      '401',
      '204',
      'false',
      '204',
      '204',
      '401',
    ]);
    running.kill('SIGTERM');
    expect(await running.exited).toEqual({ code: 0, signal: null });
    const types = eventsOf(running).map(({ event_type }) => event_type);
    for (const type of [
      'user_registered',
      'login_succeeded',
      'login_failed',
      'api_key_created',
      'api_key_revoked',
      'permission_denied',
      'password_changed',
      'token_revoked',
    ]) {
      expect(types).toContain(type);
    }
    for (const line of running.stderr().trim().split('\n')) expect(JSON.parse(line)).toHaveProperty('level');
    const pair = JSON.parse(readFileSync(join(home.path, 't.json'), 'utf8')) as Record<string, string>;
    const key = JSON.parse(readFileSync(join(home.path, 'k.json'), 'utf8')) as Record<string, string>;
    for (const secret of [PASSWORD, 'Another-Lamp-Harbour-43', pair.access_token, pair.refresh_token, key.api_key]) {
      expect(running.stdout() + running.stderr()).not.toContain(secret);
    }
  });

  test('keeps accounts, tokens and keys over a restart, and tells when a key was last used', {
    timeout: 60_000,
  }, async () => {
    verifies('V-13', 'V-14', 'V-15', 'VF-01', 'VF-09', 'VF-10');
    const [a = 0, s = 0] = await freePorts(2);
    const file = configFile('keys', (text) => text.replace('./portcullis.db', './keys.db'));
    const env = { AUTH_PORT: String(a), PORTCULLIS_PORT: String(s), PORTCULLIS_ADMIN_PORT: '0' };
    const at = { A: `http://127.0.0.1:${a}`, S: `http://127.0.0.1:${s}` };
    const first = await serve(file, env);
    const made = await shell(
      `${FLOW}
      B="Authorization: Bearer $(jq -r .access_token t.json)"
      key() { status $A/auth/api-keys -H "$J" -H "$B" -d '{"name":"k","permissions":["'$1'"]}'; }
      key '*'; key tasksfoo; key users.create
      curl -sf $A/auth/api-keys -H "$J" -H "$B" -d '{"name":"ci","permissions":["tasks.create","tasks.read"],"expires_in_days":90}' > k.json
      K="X-API-Key: $(jq -r .api_key k.json)"
      status $S/tasks -H "$J" -H "$K" -d '{"title":"x"}'
      status -X DELETE $S/tasks/1 -H "$K"`,
      at,
    );
    expect(made.stdout.trim().split('\n').slice(5)).toEqual(['403', '403', '403', '201', '403']);
    first.kill('SIGTERM');
    await first.exited;
    await using _second = await serve(file, env);
    const again = await shell(
      `
      status() { curl -s -o /dev/null -w '%{http_code}\\n' "$@"; }
      B="Authorization: Bearer $(jq -r .access_token t.json)"; K="X-API-Key: $(jq -r .api_key k.json)"
      status $S/tasks -H "$B"
      status $S/tasks -H "$K"
      curl -sf $A/auth/api-keys -H "$B" | jq -c '.items[0] | [.name, (.last_used|type), has("api_key")]'
      status -X DELETE $A/auth/api-keys/$(jq -r .key_id k.json) -H "$B"
      status $S/tasks -H "$K"`,
      at,
    );
    expect(again.stdout.trim().split('\n')).toEqual(['200', '200', '["ci","string",false]', '204', '401']);
    const { api_key } = JSON.parse(readFileSync(join(home.path, 'k.json'), 'utf8')) as { api_key: string };
    expect(readFileSync(join(home.path, 'keys.db'), 'latin1')).not.toContain(api_key.slice(-36));
  });
});

describe.skipIf(missing || NO_POSTGRES !== null || NO_REDIS !== null)('the same over Postgres, Redis and HTTPS', () => {
  let postgres: StoreServer;
  let redis: StoreServer;
  beforeAll(async () => {
    [postgres, redis] = await Promise.all([startPostgres(), startRedis()]);
  }, 60_000);
  afterAll(async () => {
    await postgres?.[Symbol.asyncDispose]();
    await redis?.[Symbol.asyncDispose]();
  });

  test('keeps accounts and keys in one, what was revoked in the other, and speaks TLS on both ports', {
    timeout: 60_000,
  }, async () => {
    verifies('V-03', 'V-04', 'V-10', 'V-33');
    const authority = await createAuthority('CN=Swarm');
    const server = await authority.issue({ subject: 'CN=localhost', dns: ['localhost'], usages: [SERVER_AUTH] });
    for (const [name, text] of [
      ['ca.pem', authority.cert],
      ['tls.crt', server.cert],
      ['tls.key', server.key],
    ] as const) {
      writeFileSync(join(home.path, name), text, { mode: 0o600 });
    }
    const tls = 'tls: { cert: ./tls.crt, key: ./tls.key }';
    const file = configFile('servers', (text) =>
      text
        .replace('data: "127.0.0.1:8006"', `data: { address: "127.0.0.1:8006", ${tls} }`)
        .replace('auth: "127.0.0.1:8005"', `auth: { address: "127.0.0.1:8005", ${tls} }`)
        // biome-ignore lint/suspicious/noTemplateCurlyInString: the file refers to a variable
        .replace('shared: memory', 'shared: memory, pepper: "${env:PORTCULLIS_PEPPER}"'),
    );
    const [a = 0, s = 0, a2 = 0, s2 = 0] = await freePorts(4);
    const secret = randomBytes(32).toString('base64url');
    const database = new URL(postgres.url);
    const { password } = database;
    database.password = '';
    const env = {
      ...{ DATABASE_URL: database.href, LANGFUSE_DB_PASSWORD: password, REDIS_URL: redis.url, JWT_SECRET_KEY: secret },
      ...{ PORTCULLIS_PEPPER: randomBytes(32).toString('base64url'), PORTCULLIS_ADMIN_PORT: '0' },
    };
    await using _one = await serve(file, { ...env, AUTH_PORT: String(a), PORTCULLIS_PORT: String(s) });
    await using _two = await serve(file, { ...env, AUTH_PORT: String(a2), PORTCULLIS_PORT: String(s2) });
    const at = { A: `https://localhost:${a}`, S: `https://localhost:${s}`, S2: `https://localhost:${s2}` };
    const done = await shell(
      `curl() { command curl --cacert ca.pem "$@"; }
      ${FLOW}
      B="Authorization: Bearer $(jq -r .access_token t.json)"
      status $S2/tasks -H "$B"
      status -X POST $A/auth/logout -H "$B"
      status $S/tasks -H "$B"
      for i in $(seq 50); do status $S2/tasks -H "$B" > last; grep -q 401 last && break; done; cat last
      status http://localhost:${s}/tasks || true`,
      at,
    );
    expect(done.stdout.trim().split('\n')).toEqual([
      'true',
      'true',
      '200',
      '401',
      '422',
      '200',
      '204',
      '401',
      '401',
      expect.stringMatching(/^(000|400)$/),
    ]);
    const { default: pg } = await import('pg');
    const client = new pg.Client(postgres.url);
    await client.connect();
    const { rows } = await client.query('select username, password_hash from accounts');
    await client.end();
    expect(rows).toEqual([{ username: 'john_doe', password_hash: expect.stringMatching(/^\$argon2id\$/) }]);
    const { Redis } = await import('ioredis');
    const store = new Redis(redis.url);
    const names = await store.keys('*');
    await store.quit();
    expect(names.filter((name) => name.includes('revoked:'))).toHaveLength(1);
  });
});

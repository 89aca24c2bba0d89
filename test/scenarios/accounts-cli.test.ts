/** What docs/accounts.md shows, and `portcullis users` on the database of a running gateway. */
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { ACCOUNTS, type Auth, authClient, bearer, IDENTITY, PASSWORD } from '../helpers/accounts.ts';
import type { TestGateway } from '../helpers/gateway.ts';
import { ADMIN_TOKEN, scenarioInput, startGateway, writeConfig } from '../helpers/gateway.ts';
import { cleanEnv, MAIN, ROOT, runToEnd } from '../helpers/processes.ts';
import { appCode } from '../helpers/second-factor.ts';
import { verifies } from '../helpers/verifies.ts';

const config = { identity: IDENTITY, accounts: ACCOUNTS };
let gateway: TestGateway;
let auth: Auth;
const shim = `portcullis() { "${process.execPath}" "${MAIN}" "$@"; }`;

beforeAll(async () => {
  gateway = await startGateway(config);
  await writeConfig(gateway.home, config);
  auth = authClient(gateway.url);
});
afterAll(() => gateway?.[Symbol.asyncDispose]());

function shell(text: string, more: Record<string, string> = {}) {
  const env = cleanEnv({ PORTCULLIS_URL: gateway.url, ...more });
  return runToEnd('bash', ['-euc', `${shim}\n${text}`], { cwd: gateway.home, env });
}

const document = readFileSync(join(ROOT, 'docs/accounts.md'), 'utf8');
const blocks = [...document.matchAll(/^```sh\n(.*?)^```$/gms)].map(([, text = '']) => text);

describe('docs/accounts.md', () => {
  test('makes the first administrator and administers accounts', { timeout: 60_000 }, async () => {
    verifies('V-38');
    const done = await shell(blocks[0] ?? '', { ADMIN_PASSWORD: PASSWORD });
    expect(done.code, done.stderr).toBe(0);
    expect(done.stdout).toContain('"role":"admin"');
    expect(done.stdout).toMatch(/^maria +maria@example.com +user +active/m);
    const login = await auth('POST', '/auth/login', { username: 'keeper', password: PASSWORD });
    expect(login.body.role).toBe('admin');
  });

  test('registers, logs in, refreshes, asks, makes a key and logs out', { timeout: 60_000 }, async () => {
    const done = await shell(blocks[1] ?? '', { PASSWORD });
    expect(done.code, done.stderr).toBe(0);
    expect(done.stdout).toContain('"has_permission":false');
    expect(done.stdout).toContain('"api_key":"vllm_dev_');
  });

  test('enrols a second factor and logs in with it', { timeout: 60_000 }, async () => {
    verifies('VW-06');
    // What oathtool prints, where it is not installed.
    const app = `oathtool() { "${process.execPath}" -e "$APP" "$3"; }`;
    const helper = join(ROOT, 'test/helpers/second-factor.ts');
    const APP = `import(${JSON.stringify(helper)}).then((m) => console.log(m.appCode(process.argv[1], Date.now())))`;
    const done = await shell(`${app}\n${blocks[3] ?? ''}`, { PASSWORD, APP });
    expect(done.code, done.stderr).toBe(0);
    expect(done.stdout).toContain('otpauth://totp/Portcullis:john_doe?secret=');
    expect(done.stdout).toContain('"code":"SECOND_FACTOR_REQUIRED"');
    expect(done.stdout).toMatch(/"enabled":true.*"recovery_codes_left":9.*"mfa_verified":true/);
    const { secret } = JSON.parse(readFileSync(join(gateway.home, 'enrolment.json'), 'utf8')) as { secret: string };
    // The next code: the present one was used to confirm.
    const otp = appCode(secret, Date.now() + 30_000);
    const login = (more: string) =>
      shell(`printf '%s' "$PASSWORD" | portcullis auth login --username john_doe ${more}`, { PASSWORD });
    expect(await login('')).toMatchObject({ code: 1, stderr: expect.stringContaining('second factor is required') });
    expect(await login(`--otp ${otp}`)).toMatchObject({ code: 0, stdout: expect.stringMatching(/^eyJ/) });
    const reset = await shell('portcullis users mfa-reset john_doe');
    expect(reset).toMatchObject({ code: 0, stderr: expect.stringContaining('no second factor any more') });
  });

  test('logs in on the command line', { timeout: 60_000 }, async () => {
    const done = await shell(blocks[2] ?? '', { PASSWORD });
    expect(done.code, done.stderr).toBe(0);
    expect(JSON.parse(done.stdout)).toMatchObject({ username: 'john_doe', role: 'user' });
    const wrong = await shell('echo wrong | portcullis auth login --username john_doe');
    expect(wrong).toMatchObject({
      code: 1,
      stdout: '',
      stderr: expect.stringContaining('Invalid username or password'),
    });
  });
});

describe('portcullis users', () => {
  test('imports in the order of the lines, and says which were no good', { timeout: 60_000 }, async () => {
    const lines = [
      JSON.stringify({ username: 'anna', email: 'anna@example.com', password: PASSWORD }),
      'not json',
      JSON.stringify({ username: 'ben', email: 'ben@example.com', password_hash: '$2b$12$abcdefghijklmnopqrstuv' }),
      JSON.stringify({ username: 'cleo', email: 'cleo@example.com', role: 'viewer' }),
      JSON.stringify({ username: 'dora', email: 'anna@example.com' }),
      JSON.stringify({ username: 'x', email: 'nobody' }),
    ];
    const done = await shell(`portcullis users import <<'END'\n${lines.join('\n')}\nEND`);
    expect(done.code).toBe(1);
    const answers = done.stdout
      .trim()
      .split('\n')
      .map((line) => JSON.parse(line));
    expect(answers.map((answer) => answer.username ?? [answer.line, answer.error.code])).toEqual([
      'anna',
      [2, 'INVALID_REQUEST'],
      [3, 'UNPROCESSABLE'],
      'cleo',
      [5, 'NAME_TAKEN'],
      [6, 'UNPROCESSABLE'],
    ]);
    expect(answers[5].error.message).toMatch(/^username: 3 to 50 [^:]*; email: not an address$/);
    expect((await auth('POST', '/auth/login', { username: 'anna', password: PASSWORD })).status).toBe(200);
  });

  test('ties an account to somebody at a provider of the configuration', { timeout: 60_000 }, async () => {
    const corp = { kind: 'oidc' as const, issuer: 'https://corp.example', client_id: 'gateway' };
    const more = scenarioInput({ ...config, identity: { ...IDENTITY, corp } });
    writeFileSync(join(gateway.home, 'corp.yaml'), JSON.stringify(more));
    await auth('POST', '/auth/register', { username: 'tied', email: 'tied@example.com', password: PASSWORD });
    const by = '--provider corp -c corp.yaml';
    const done = await shell(
      `portcullis users link tied --subject s-1 ${by}; portcullis users list -c corp.yaml; portcullis users unlink tied ${by}`,
    );
    expect(done.code, done.stderr).toBe(0);
    expect(done.stdout).toMatch(/^tied .* corp$/m);
  });

  test('disables an account on a running gateway, and gives a new password', { timeout: 60_000 }, async () => {
    verifies('VF-17');
    const user = { username: 'erik', email: 'erik@example.com', password: PASSWORD };
    await auth('POST', '/auth/register', user);
    const { body } = await auth('POST', '/auth/login', { username: 'erik', password: PASSWORD });
    const me = async () => (await auth('GET', '/auth/me', undefined, bearer(body.access_token))).status;
    expect(await me()).toBe(200);
    expect((await shell('portcullis users disable erik')).code).toBe(0);
    // Gateways follow within a second, and the command may be done sooner.
    await expect.poll(me, { timeout: 1_500, interval: 50 }).toBe(401);
    expect((await shell('portcullis users enable ERIK')).code).toBe(0);
    const next = 'Another-Lamp-Harbour-43';
    expect((await shell(`printf '%s' ${next} | portcullis users password erik --password-stdin`)).code).toBe(0);
    expect((await auth('POST', '/auth/login', { username: 'erik', password: PASSWORD })).status).toBe(401);
    expect((await auth('POST', '/auth/login', { username: 'erik', password: next })).status).toBe(200);
  });

  test.each([
    ['users', 2],
    ['users create --username x', 2],
    ['users create --username x --email bad', 2],
    ['users delete anna', 2],
    ['users disable nobody_at_all', 1],
    ['users role keeper emperor', 1],
    ['users list -c nowhere.yaml', 3],
  ])('portcullis %s ends with %i', { timeout: 60_000 }, async (words, code) => {
    const done = await shell(`portcullis ${words}`);
    expect([done.code, done.stdout]).toEqual([code, '']);
  });
});

test('the metrics tell of logins, refreshes, keys, failures, locks and times', async () => {
  verifies('V-34');
  const text = await (await fetch(`${gateway.admin}/metrics`, { headers: bearer(ADMIN_TOKEN) })).text();
  for (const figure of [
    /^portcullis_account_events_total\{event="login_succeeded"\} [1-9]/m,
    /^portcullis_account_events_total\{event="login_failed"\} [1-9]/m,
    /^portcullis_token_refreshes_total\{outcome="ok"\} [1-9]/m,
    /^portcullis_account_events_total\{event="api_key_created"\} [1-9]/m,
    /^portcullis_auth_results_total\{provider="accounts",result="authenticated"\} [1-9]/m,
    /^portcullis_auth_duration_seconds_count\{provider="accounts"\} [1-9]/m,
    /^portcullis_store_operation_seconds_count\{store="database",operation="select"\} [1-9]/m,
    /^portcullis_shared_lookups_total\{result="miss"\} [1-9]/m,
    /^# TYPE portcullis_suspicious_activity_total counter/m,
    /^# TYPE portcullis_rate_limited_total counter/m,
  ]) {
    expect(text).toMatch(figure);
  }
});

/** Replays `test/corpus/accounts/hostile.json` against a gateway that keeps accounts: none gets what it wants. */
import { createHmac, generateKeyPairSync, sign } from 'node:crypto';
import { readFileSync, writeFileSync } from 'node:fs';
import { request as httpRequest } from 'node:http';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { ACCOUNTS, type Auth, authClient, bearer, IDENTITY, PASSWORD } from '../helpers/accounts.ts';
import { countAttacks } from '../helpers/attacks.ts';
import type { TestGateway } from '../helpers/gateway.ts';
import { dataWithoutLimits, startGateway } from '../helpers/gateway.ts';
import { ROOT, temporaryDirectory } from '../helpers/processes.ts';
import { verifies } from '../helpers/verifies.ts';

interface Case {
  readonly name: string;
  readonly method: string;
  readonly path: string;
  readonly status: number;
  readonly code?: string;
  readonly body?: unknown;
  readonly raw?: string;
  readonly headers?: Readonly<Record<string, string>>;
  readonly as?: 'victim';
}

const { cases } = JSON.parse(readFileSync(join(ROOT, 'test/corpus/accounts/hostile.json'), 'utf8')) as {
  cases: readonly Case[];
};

const directory = temporaryDirectory();
let gateway: TestGateway;
let auth: Auth;
let words: Record<string, string>;
let victim: { id: string; access: string; refresh: string };

const encode = (value: unknown): string => Buffer.from(JSON.stringify(value)).toString('base64url');

/** Tokens of somebody who has seen a good one and does not have the key. */
function forgeries(access: string, refresh: string, otherRefresh: string, jwk: object): Record<string, string> {
  const [head = '', body = '', signature = ''] = access.split('.');
  const header = JSON.parse(Buffer.from(head, 'base64url').toString());
  const claims = JSON.parse(Buffer.from(body, 'base64url').toString());
  const own = generateKeyPairSync('ed25519');
  const signed = (h: object, c: object) => {
    const input = `${encode(h)}.${encode(c)}`;
    return `${input}.${sign(null, Buffer.from(input), own.privateKey).toString('base64url')}`;
  };
  const hmacInput = `${encode({ ...header, alg: 'HS256' })}.${encode({ ...claims, role: 'admin' })}`;
  const hmac = createHmac('sha256', JSON.stringify(jwk)).update(hmacInput).digest('base64url');
  const [, session = '', generation = '', seal = ''] = /^pcr_(ses_\w{26})_(\d+)_(.*)$/.exec(refresh) ?? [];
  const otherSession = /^pcr_(ses_\w{26})/.exec(otherRefresh)?.[1] ?? '';
  return {
    access,
    refresh,
    none: `${encode({ ...header, alg: 'none' })}.${encode({ ...claims, role: 'admin' })}.`,
    unsigned: `${head}.${body}.`,
    confused: `${hmacInput}.${hmac}`,
    role: `${head}.${encode({ ...claims, role: 'admin' })}.${signature}`,
    eternal: `${head}.${encode({ ...claims, exp: 9_999_999_999 })}.${signature}`,
    header: `${encode({ ...header, kid: '../../../dev/null' })}.${body}.${signature}`,
    jwk: signed({ ...header, jwk: own.publicKey.export({ format: 'jwk' }) }, { ...claims, role: 'admin' }),
    issuer: signed(header, { ...claims, iss: 'https://elsewhere.example.com' }),
    audience: signed(header, { ...claims, aud: 'another' }),
    type: signed({ ...header, typ: 'JWT' }, claims),
    id: signed({ alg: header.alg, kid: header.kid, typ: 'JWT' }, { ...claims, nonce: 'x', at_hash: 'y' }),
    'refresh:generation': `pcr_${session}_${Number(generation) + 1}_${seal}`,
    'refresh:session': `pcr_${otherSession}_${generation}_${seal}`,
    'refresh:zero': `pcr_${session}_0${generation}_${seal}`,
  };
}

beforeAll(async () => {
  const data = join(directory.path, 'data.json');
  writeFileSync(data, await dataWithoutLimits());
  const policy = { bundle: join(ROOT, 'policies'), data, watch: false };
  const lockout = { failures: 1000 };
  gateway = await startGateway({ identity: IDENTITY, accounts: { ...ACCOUNTS, lockout }, policy });
  auth = authClient(gateway.url);
  const account = async (username: string) => {
    await auth('POST', '/auth/register', { username, email: `${username}@example.com`, password: PASSWORD });
    return (await auth('POST', '/auth/login', { username, password: PASSWORD })).body;
  };
  const [mine, other] = [await account('victim'), await account('other')];
  victim = { id: mine.user_id, access: mine.access_token, refresh: mine.refresh_token };
  const key = { name: 'other', permissions: ['tasks.read'] };
  const { body: made } = await auth('POST', '/auth/api-keys', key, bearer(other.access_token));
  const { body: set } = await auth('GET', '/.well-known/jwks.json');
  words = {
    ...forgeries(mine.access_token, mine.refresh_token, other.refresh_token, set.keys[0]),
    otherkey: made.api_key,
    otherid: made.key_id,
  };
});
afterAll(async () => {
  await gateway?.[Symbol.asyncDispose]();
  directory[Symbol.dispose]();
});

const filled = (text: string): string => text.replace(/\{([a-z:]+)\}/g, (whole, word: string) => words[word] ?? whole);

/** Not `fetch`, which would tidy up the path. */
function send({ method, path, headers, body, raw, as }: Case): Promise<{ status: number; text: string }> {
  const text = raw ?? (body === undefined ? undefined : filled(JSON.stringify(body)));
  const sent: Record<string, string> = {
    ...(text === undefined
      ? {}
      : { 'content-type': 'application/json', 'content-length': `${Buffer.byteLength(text)}` }),
    ...(as === undefined ? {} : { authorization: `Bearer ${victim.access}` }),
  };
  for (const [name, value] of Object.entries(headers ?? {})) sent[name] = filled(value);
  return new Promise((resolve, reject) => {
    const request = httpRequest(new URL(gateway.url), { method, path: filled(path), headers: sent }, (response) => {
      let answer = '';
      response.setEncoding('utf8').on('data', (chunk: string) => (answer += chunk));
      response.on('end', () => resolve({ status: response.statusCode ?? 0, text: answer }));
    });
    // What is too large is refused before all of it was sent.
    request.on('error', reject);
    request.end(text);
  });
}

describe('somebody who should not get in', () => {
  countAttacks('accounts', cases.length);
  let wrongAccepts = 0;

  test.each(cases)('$name', async (hostile) => {
    const { status, text } = await send(hostile);
    if (status < 300 && hostile.status >= 300) wrongAccepts += 1;
    expect([status, text.slice(0, 300)]).toEqual([hostile.status, expect.any(String)]);
    if (hostile.code !== undefined) expect(JSON.parse(text).error.code).toBe(hostile.code);
    expect(text).not.toMatch(/access_token"|api_key"|argon2|sqlite|kysely|node_modules/i);
  });

  test('has changed nothing for the one who was attacked', async () => {
    verifies('VF-06', 'VF-09', 'VF-15');
    console.info(`hostile requests on /auth: ${cases.length}, wrong accepts ${wrongAccepts}`);
    expect([cases.length >= 50, wrongAccepts]).toEqual([true, 0]);
    const me = await auth('GET', '/auth/me', undefined, bearer(victim.access));
    expect(me.body).toMatchObject({ id: victim.id, role: 'user', is_active: true });
    expect((await auth('POST', '/auth/refresh', { refresh_token: victim.refresh })).status).toBe(200);
    const login = await auth('POST', '/auth/login', { username: 'mallory', password: PASSWORD });
    expect(login.status).toBe(401);
  });

  test('leaves no password and no token in logs and audit', async () => {
    verifies('V-28', 'V-35');
    await gateway.stop();
    const written = `${gateway.logs.join('\n')}\n${readFileSync(join(gateway.home, 'audit.jsonl'), 'utf8')}`;
    for (const secret of [PASSWORD, victim.access, victim.refresh, words.otherkey ?? '']) {
      expect(written).not.toContain(secret);
    }
    for (const type of ['user_registered', 'login_succeeded', 'login_failed', 'api_key_created', 'permission_denied']) {
      expect(written).toContain(`"event_type":"${type}"`);
    }
  });
});

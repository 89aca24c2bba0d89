/** P13 of docs/performance.md: what a token costs when it is first seen and when it is known, beside jose's `jwtVerify` alone. */
import { generateKeyPairSync, type KeyObject } from 'node:crypto';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { jwtVerify, SignJWT } from 'jose';
import { systemClock } from '../src/core/clock.ts';
import { Secret } from '../src/core/secret.ts';
import type { IdentityEnv } from '../src/identity/env.ts';
import type { Credential, IdentityProvider } from '../src/identity/provider.ts';
import { jwt } from '../src/identity/providers/jwt.ts';
import { createApiKeyStore } from '../src/stores/api-keys.ts';
import { openDatabase } from '../src/stores/database.ts';
import { createMemoryShared } from '../src/stores/memory-shared.ts';
import type { Effort } from './proxy.ts';
import { median } from './report.ts';

const ISSUER = 'https://idp.example.com';
const AUDIENCE = 'portcullis';
/** More tokens than the cache of the first case holds, so that each is new to it. */
const TOKENS = 200;
const quiet = { debug() {}, info() {}, warn() {}, error() {} };

interface Algorithm {
  readonly alg: string;
  readonly privateKey: KeyObject;
  readonly publicKey: KeyObject;
}

const algorithms = (): readonly Algorithm[] => [
  { alg: 'ES256', ...generateKeyPairSync('ec', { namedCurve: 'P-256' }) },
  { alg: 'RS256', ...generateKeyPairSync('rsa', { modulusLength: 2048 }) },
  { alg: 'EdDSA', ...generateKeyPairSync('ed25519') },
];

function token({ alg, privateKey }: Algorithm, index: number): Promise<string> {
  return new SignJWT({
    roles: ['developer'],
    tenant_id: 'acme',
    email: 'dev@example.com',
    amr: ['mfa'],
    scope: 'tools',
  })
    .setProtectedHeader({ alg, kid: 'key-1', typ: 'at+jwt' })
    .setIssuer(ISSUER)
    .setAudience(AUDIENCE)
    .setSubject(`user-${index}`)
    .setJti(`token-${index}`)
    .setIssuedAt()
    .setExpirationTime('1h')
    .sign(privateKey);
}

type Case = (index: number) => unknown;

/** Microseconds per call: short blocks of every case in turn, so that a busy moment of the machine hits them alike. */
async function time(cases: Readonly<Record<string, Case>>, { seconds, rounds }: Effort): Promise<Map<string, number>> {
  const names = Object.keys(cases);
  const samples = new Map<string, number[]>(names.map((name) => [name, []]));
  const block = async (run: Case): Promise<number> => {
    const start = performance.now();
    for (let i = 0; i < TOKENS; i++) await run(i);
    return ((performance.now() - start) * 1000) / TOKENS;
  };
  for (const run of Object.values(cases)) for (let i = 0; i < 5; i++) await block(run);
  const until = performance.now() + seconds * rounds * 1000;
  while (performance.now() < until) {
    for (const [name, run] of Object.entries(cases)) samples.get(name)?.push(await block(run));
  }
  return new Map([...samples].map(([name, values]) => [name, median(values)]));
}

async function casesOf(algorithm: Algorithm, folder: string, env: IdentityEnv): Promise<Record<string, Case>> {
  const { alg, publicKey } = algorithm;
  const file = `${alg}.json`;
  const jwk = { ...publicKey.export({ format: 'jwk' }), kid: 'key-1', use: 'sig', alg };
  writeFileSync(join(folder, file), JSON.stringify({ keys: [jwk] }));
  const provider = (cache_entries: number) =>
    jwt.create(jwt.schema.parse({ kind: 'jwt', issuer: ISSUER, audience: AUDIENCE, jwks: file, cache_entries }), env);
  const fresh = await provider(1);
  const known = await provider(TOKENS);
  const tokens = await Promise.all(Array.from({ length: TOKENS }, (_, i) => token(algorithm, i)));
  const credentials = tokens.map(
    (text): Credential => ({ kind: 'bearer', value: new Secret(text), source: 'authorization' }),
  );
  const by = (one: IdentityProvider) => (i: number) => one.authenticate(credentials[i] as Credential, facts(), NEVER);
  const judged = await by(fresh)(0);
  if (judged.kind !== 'authenticated') throw new Error(`the token of the benchmark is ${judged.kind}`);
  const options = { issuer: ISSUER, audience: AUDIENCE, algorithms: [alg] };
  return {
    'jose jwtVerify alone': (i) => jwtVerify(tokens[i] ?? '', publicKey, options),
    'first sight': by(fresh),
    known: by(known),
  };
}

const NEVER = new AbortController().signal;
const facts = () => ({
  request_id: 'req_1',
  source_ip: '127.0.0.1',
  user_agent: null,
  method: 'POST',
  path: '/mcp',
  route: '/mcp',
  now: Date.now(),
});

export interface IdentityRow {
  readonly name: string;
  readonly micros: number;
  readonly ratio: number;
}

/** One row per algorithm and case; `ratio` is against jose's `jwtVerify` with the same key and token. */
export async function identityLane(effort: Effort): Promise<{ rows: IdentityRow[]; text: string }> {
  await using stack = new AsyncDisposableStack();
  const folder = mkdtempSync(join(tmpdir(), 'portcullis-bench-'));
  stack.defer(() => rmSync(folder, { recursive: true, force: true }));
  const shared = stack.use(createMemoryShared({ clock: systemClock }));
  const database = stack.use(await openDatabase('sqlite::memory:', { baseDir: folder, clock: systemClock }));
  const env: IdentityEnv = {
    name: 'staff',
    clock: systemClock,
    logger: quiet,
    mode: 'development',
    baseDir: folder,
    keys: createApiKeyStore(database),
    shared,
    pepper: new Secret('a pepper that is long enough for a benchmark'),
    environment: 'development',
  };
  const rows: IdentityRow[] = [];
  for (const algorithm of algorithms()) {
    const medians = await time(await casesOf(algorithm, folder, env), effort);
    const base = medians.get('jose jwtVerify alone') ?? Number.NaN;
    for (const [name, micros] of medians) rows.push({ name: `${algorithm.alg} ${name}`, micros, ratio: micros / base });
  }
  const lines = rows.map(({ name, micros, ratio }) => `| ${name} | ${micros.toFixed(2)} | ${ratio.toFixed(3)} |`);
  return { rows, text: ['| what | µs | × jwtVerify |', '|---|---|---|', ...lines].join('\n') };
}

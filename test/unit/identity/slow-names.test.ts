/** Whoever has to be asked by name is asked within the time there is, though the system goes on looking for the name. */
import dns from 'node:dns';
import { performance } from 'node:perf_hooks';
import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import { Secret } from '../../../src/core/secret.ts';
import { AuthService } from '../../../src/identity/auth-service.ts';
import { fetchDocument } from '../../../src/identity/key-fetch.ts';
import { generateKey } from '../../../src/identity/key-format.ts';
import { DirectoryConnection } from '../../../src/identity/ldap-connection.ts';
import { boundedFetch } from '../../../src/identity/oauth/wire.ts';
import { RemoteValidator } from '../../../src/identity/remote-validator.ts';
import { Breaker } from '../../../src/upstreams/breaker.ts';

type Found = (error: Error | null) => void;
let waiting: Found[] = [];

beforeEach(() => {
  vi.spyOn(dns, 'lookup').mockImplementation(((...given: unknown[]) => {
    waiting.push(given.at(-1) as Found);
  }) as typeof dns.lookup);
});
afterEach(() => {
  vi.restoreAllMocks();
  waiting = [];
});

const BREAKER = { volume: 10, error_percentage: 50, window_ms: 10_000, reset_ms: 1000, timeout_ms: 5000 };
const quiet = { debug() {}, info() {}, warn() {}, error() {} };
const clock = { now: () => Date.now() };
const key = generateKey('pc', 'dev');

const questions: readonly (readonly [string, number, () => Promise<unknown>])[] = [
  ['published keys', 1500, () => fetchDocument('https://slow.example/jwks').catch((error: unknown) => error)],
  [
    'an issuer',
    200,
    () =>
      boundedFetch(200)('https://slow.example/token', { method: 'GET', headers: {}, body: null } as never).catch(
        String,
      ),
  ],
  [
    'a directory',
    200,
    () =>
      DirectoryConnection.open(
        { url: 'ldaps://slow.example', startTls: false, ca: null, connectTimeoutMs: 200 },
        new AbortController().signal,
      ).catch(String),
  ],
  [
    'a key service',
    300,
    () =>
      new RemoteValidator({
        ...{
          url: 'https://slow.example',
          serviceId: 's',
          legacyBody: false,
          timeoutMs: 300,
          attemptMs: 200,
          retries: 2,
        },
        ...{ connections: 2, ca: null, clock, breaker: new Breaker(BREAKER) },
      }).ask(new Secret('k'), null),
  ],
  [
    'a gateway',
    200,
    () =>
      new AuthService({
        ...{ url: 'https://slow.example', secret: null, serviceKey: null, issuer: 'i', audience: 'i', cacheMs: 0 },
        ...{ timeoutMs: 200, clock, logger: quiet, fetch },
      }).authenticate({ 'x-api-key': key.text }, null),
  ],
];

test('questions to all of them end in their time', async () => {
  const late: string[] = [];
  const ask = async ([who, ms, question]: (typeof questions)[number]) => {
    const start = performance.now();
    await question();
    if (performance.now() - start > ms + 400) late.push(who);
  };
  await Promise.all(questions.map(ask));
  expect(late).toEqual([]);
  expect(waiting.length).toBeGreaterThanOrEqual(questions.length);
  // The system comes to an end with it, long after, and nobody stumbles over that.
  for (const found of waiting) found(Object.assign(new Error('no such name'), { code: 'ENOTFOUND' }));
});

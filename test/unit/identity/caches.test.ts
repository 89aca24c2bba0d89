/** Replays test/corpus/caches/events.json: what is remembered of a credential never outlives what made it good. */
import { hash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { issueKey, revokeKey } from '../../../src/identity/key-issuing.ts';
import type { Credential, IdentityFacts, IdentityProvider } from '../../../src/identity/provider.ts';
import { apiKey } from '../../../src/identity/providers/api-key.ts';
import { introspection } from '../../../src/identity/providers/introspection.ts';
import { jwt } from '../../../src/identity/providers/jwt.ts';
import { revokeToken } from '../../../src/identity/revocations.ts';
import { countAttacks } from '../../helpers/attacks.ts';
import { GATEWAY_CLIENT } from '../../helpers/authorization-server.ts';
import { ROOT } from '../../helpers/processes.ts';
import { publicJwk } from './forge.ts';
import { type FakeServer, fakeServer, filled } from './oauth/fake-server.ts';
import { makeToken } from './oauth/tokens.ts';
import { bearer, keyHeader, NEVER, type Setting, START, setting } from './setting.ts';

type Step =
  | readonly ['ask', string, string, { readonly principal?: object; readonly facts?: Partial<IdentityFacts> }?]
  | readonly ['move', number]
  | readonly ['revoke', string]
  | readonly ['keys', 'other' | 'replaced']
  | readonly ['answer', Record<string, unknown> | 'fails'];

interface Case {
  readonly name: string;
  readonly kind: 'jwt' | 'introspection' | 'api-key';
  readonly options?: Record<string, unknown>;
  readonly steps: readonly Step[];
}

/** A provider, and what its steps mean. */
interface Scene {
  readonly provider: IdentityProvider;
  credential(name: string): Credential;
  revoke?(name: string): Promise<unknown>;
  keys?(change: 'other' | 'replaced'): void;
  answer?(change: Record<string, unknown> | 'fails'): void;
}

const { cases } = JSON.parse(readFileSync(join(ROOT, 'test/corpus/caches/events.json'), 'utf8')) as { cases: Case[] };
const NOW = START / 1000;
let server: FakeServer;
beforeAll(async () => {
  server = await fakeServer();
});
afterAll(() => server[Symbol.asyncDispose]());

const signing = (name: string, kid: string) => ({ ...publicJwk(name), kid, use: 'sig', alg: 'ES256' });

async function tokens(around: Setting, options: object): Promise<Scene> {
  const keys = (...set: object[]) => server.json('/jwks', { keys: set });
  keys(signing('ec-1', 'ec-1'));
  const claims = { iss: '{issuer}', sub: 'alice', aud: 'us', jti: 'j1', iat: '{now+0}', exp: '{now+3600}' };
  const base = { ...claims, tenant_id: 'acme', roles: ['developer'] };
  const make = (change: object = {}, more: object = {}) =>
    makeToken({ claims: { ...change }, ...more }, base, server.url, NOW);
  const good = make();
  const known: Record<string, string> = {
    good,
    twin: `${good.slice(0, -6)}${good.at(-6) === 'A' ? 'B' : 'A'}${good.slice(-5)}`,
    longer: `${good}AAAA`,
    shorter: good.slice(0, -1),
    digest: hash('sha256', good, 'hex'),
    short: make({ jti: 'j2', exp: '{now+10}' }),
    namesake: make({ sub: 'bob' }),
    forged: make({}, { key: 'ec-ops' }),
    next: make({ jti: 'j3' }, { key: 'ec-ops', header: { kid: 'next' } }),
    unknown: make({ jti: 'j4' }, { key: 'ec-ops', header: { kid: 'nobody' } }),
    elsewhere: make({ jti: 'j5', tenant_id: 'globex' }),
    plain: make({ jti: 'j6', roles: [] }),
  };
  const schema = { issuer: server.url, audience: 'us', jwks: `${server.url}/jwks`, jwks_max_age_seconds: 10 };
  const provider = await jwt.create(
    jwt.schema.parse({ kind: 'jwt', ...schema, clock_skew_seconds: 0, ...options }),
    around.env,
  );
  return {
    provider,
    credential: (name) => bearer(known[name] ?? ''),
    revoke: () => revokeToken(around.shared, server.url, 'j1', START + 3_600_000, around.env.clock.now()),
    keys: (change) => keys(change === 'other' ? signing('ec-ops', 'next') : signing('ec-ops', 'ec-1')),
  };
}

async function opaque(around: Setting, options: object): Promise<Scene> {
  const base = { active: true, sub: 'alice', aud: 'us', client_id: 'app', iss: '{issuer}', exp: '{now+3600}' };
  const answer = (change: Record<string, unknown> | 'fails') => {
    if (change === 'fails') server.at('/introspect', (_asked, response) => response.writeHead(500).end());
    else server.json('/introspect', filled({ ...base, ...change }, server.url, NOW));
  };
  answer({});
  const endpoint = { issuer: server.url, ...GATEWAY_CLIENT, introspection_endpoint: `${server.url}/introspect` };
  const parsed = introspection.schema.parse({ kind: 'introspection', ...endpoint, audience: 'us', ...options });
  return { provider: await introspection.create(parsed, around.env), credential: bearer, answer };
}

async function keys(around: Setting, options: object): Promise<Scene> {
  const common = { name: 'ci', tenant_id: 'acme', owner_id: 'alice' };
  const made = {
    good: await issueKey(around.env, common),
    other: await issueKey(around.env, { ...common, tenant_id: 'globex' }),
    short: await issueKey(around.env, { ...common, expires_at: START + 10_000 }),
    bound: await issueKey(around.env, { ...common, allowed_ips: ['10.0.0.1'] }),
  };
  const good = made.good.key.reveal();
  const other = made.other.key.reveal();
  const parts = (text: string) => text.split('_');
  const known: Record<string, string> = {
    ...Object.fromEntries(Object.entries(made).map(([name, { key }]) => [name, key.reveal()])),
    twin: `${good.slice(0, -1)}${good.endsWith('A') ? 'B' : 'A'}`,
    crossed: [...parts(good).slice(0, 3), ...parts(other).slice(3)].join('_'),
    live: good.replace('_dev_', '_live_'),
    digest: hash('sha256', good, 'hex'),
  };
  const provider = await apiKey.create(apiKey.schema.parse({ kind: 'api-key', ...options }), around.env);
  return {
    provider,
    credential: (name) => keyHeader(known[name] ?? ''),
    revoke: (name) => revokeKey(around.env, 'acme', made[name as keyof typeof made].record.id),
  };
}

const SCENES = { jwt: tokens, introspection: opaque, 'api-key': keys };

async function take(scene: Scene, around: Setting, step: Step): Promise<void> {
  switch (step[0]) {
    case 'ask': {
      const [, name, wanted, { principal = {}, facts = {} } = {}] = step;
      const result = await scene.provider.authenticate(scene.credential(name), around.facts(facts), NEVER);
      expect([name, result.kind === 'rejected' ? result.reason : result.kind]).toEqual([name, wanted]);
      if (result.kind === 'authenticated') expect(result.principal).toMatchObject(principal);
      return;
    }
    case 'move':
      return around.move(step[1] * 1000);
    case 'revoke':
      return void (await scene.revoke?.(step[1]));
    case 'keys':
      return scene.keys?.(step[1]);
    case 'answer':
      return scene.answer?.(step[1]);
  }
}

describe('what is remembered of a credential', () => {
  countAttacks('caches', cases.length);

  test.each(cases.map((one) => [one.kind, one.name, one] as const))('%s: %s', async (kind, _name, one) => {
    await using around = await setting();
    const scene = await SCENES[kind](around, one.options ?? {});
    for (const step of one.steps) await take(scene, around, step);
    await scene.provider.close?.();
  });
});

/** What is left of rights when one acts for another, and what a delegation is made of. */
import { fileURLToPath } from 'node:url';
import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { Decision, DecisionRequest } from '../../../src/core/decision.ts';
import { GatewayError } from '../../../src/core/errors.ts';
import { makePrincipal, type Principal } from '../../../src/core/principal.ts';
import type { Delegation } from '../../../src/identity/delegation.ts';
import { covers, coversAll, sharedGrants } from '../../../src/identity/delegation-rights.ts';
import { delegationKey } from '../../../src/identity/delegation-token.ts';
import { keyOwners } from '../../../src/identity/directory.ts';
import { issueKey, revokeKey } from '../../../src/identity/key-issuing.ts';
import { jwt } from '../../../src/identity/providers/jwt.ts';
import { revokeToken } from '../../../src/identity/revocations.ts';
import { createPolicyEngine, type OpaEngine } from '../../../src/policy/opa-engine.ts';
import { silent } from '../../helpers/mcp-exchange.ts';
import { verifies } from '../../helpers/verifies.ts';
import { makeRequest, makeServer } from '../policy/requests.ts';
import { AUDIENCE, deskOf, partsOf, person, TENANT } from './delegation-people.ts';
import { bearer, NEVER, type Setting, START, setting } from './setting.ts';

let around: Setting;
let desk: Delegation;
let engine: OpaEngine;
const policies = fileURLToPath(new URL('../../../policies/', import.meta.url));
beforeAll(async () => {
  around = await setting();
  desk = deskOf(around);
  engine = await createPolicyEngine({
    ...{ bundleDir: policies, dataFile: `${policies}profiles/strict.json`, entrypoint: 'portcullis/main/decision' },
    ...{ clock: around.env.clock, cache: { entries: 1000, base_ttl_ms: 60_000 }, decisionLog: null, logger: silent },
    servers: new Map([['orders', makeServer()]]),
  });
});
afterAll(async () => {
  desk.close();
  await engine.close();
  await around[Symbol.asyncDispose]();
});

async function acting(from: Principal, to: Principal, wanted = {}): Promise<Principal> {
  const { token } = await desk.issue(from, to, wanted, START);
  const accepted = await desk.accept(to, token, START);
  if (accepted instanceof GatewayError) throw accepted;
  return accepted;
}

describe('shared rights', () => {
  test.each([
    ['tasks.read', 'tasks.read', true],
    ['tasks.*', 'tasks.read', true],
    ['tasks:*', 'tasks:read', true],
    ['*', 'anything', true],
    ['tasks.*', 'tasks.sub.read', true],
    ['tasks.*', 'tasks', false],
    ['tasks.*', 'tasks.', false],
    ['tasks.*', 'tasksfoo', false],
    ['tasks*', 'tasksfoo', false],
    ['tasks.read', 'tasks.*', false],
    ['tasks.*', '*', false],
    ['Tasks.*', 'tasks.read', false],
  ])('%s covers %s: %s', (held, wanted, expected) => {
    expect(covers(held, wanted)).toBe(expected);
  });

  const grant = fc
    .array(fc.constantFrom('a', 'b', '*'), { minLength: 1, maxLength: 3 })
    .chain((words) => fc.constantFrom('.', ':').map((separator) => words.join(separator)));
  const grants = fc.array(grant, { maxLength: 6 });

  test('are held by both, whatever the two hold, and are all that both hold', () => {
    verifies('SF-42');
    fc.assert(
      fc.property(grants, grants, grant, (a, b, probe) => {
        const both = sharedGrants(a, b);
        expect(coversAll(a, both) && coversAll(b, both)).toBe(true);
        expect(coversAll(both, [probe])).toBe(coversAll(a, [probe]) && coversAll(b, [probe]));
      }),
      { numRuns: 5000 },
    );
  });
});

describe('somebody for whom another acts', () => {
  test('has what both have and the weaker of the facts that trust is built on', async () => {
    verifies('SF-42');
    const boss = person('boss', {
      ...{ type: 'user', roles: ['admin', 'developer'], teams: ['a', 'b'], groups: ['g'], scopes: ['x', 'y.*'] },
      ...{ permissions: ['tasks.*'], tenure_months: 24, device_compliant: true, email: 'boss@example.com' },
      ...{
        metadata: { site: 'one', desk: '1' },
        auth: { mfa_verified: true, mfa_at: 20, expires_at: START / 1000 + 90 },
      },
    });
    const bot = person('bot', {
      ...{
        type: 'agent',
        roles: ['developer'],
        teams: ['b', 'c'],
        scopes: ['y.read', 'z'],
        permissions: ['tasks.read'],
      },
      ...{ tenure_months: 3, device_compliant: false, metadata: { site: 'one', desk: '2' } },
      auth: { mfa_verified: true, mfa_at: 10, key_id: 'k-bot' },
    });
    expect(await acting(boss, bot)).toMatchObject({
      ...{
        id: 'boss',
        tenant_id: TENANT,
        type: 'agent',
        email: 'boss@example.com',
        roles: ['developer'],
        teams: ['b'],
      },
      ...{ groups: [], scopes: ['y.read'], permissions: ['tasks.read'], tenure_months: 3, device_compliant: false },
      ...{ metadata: { site: 'one' }, actor: { id: 'bot', type: 'agent', actor: null } },
      auth: { mfa_verified: true, mfa_at: 10, key_id: 'k-bot', expires_at: START / 1000 + 90, session_id: null },
    });
  });

  test('has no second factor, tenure or compliant device that one of the two lacks', async () => {
    const strong = {
      roles: ['admin'],
      tenure_months: 24,
      device_compliant: true,
      auth: { mfa_verified: true, mfa_at: 1 },
    };
    for (const [from, to] of [
      [person('a', strong), person('b', { roles: ['admin'] })],
      [person('a', { roles: ['admin'] }), person('b', strong)],
    ] as const) {
      const both = await acting(from, person(to.id, { ...to, tenure_months: to.tenure_months }));
      expect([both.auth.mfa_verified, both.auth.mfa_at, both.device_compliant]).toEqual([false, null, false]);
    }
  });

  test.each([
    [{ rate_limit_per_hour: '9' }, {}, '9'],
    [{}, { rate_limit_per_hour: '9' }, '9'],
    [{ rate_limit_per_hour: '5' }, { rate_limit_per_hour: '9' }, '5'],
    [{}, {}, undefined],
  ])('keeps the smallest hourly limit: of %j and %j', async (from, to, expected) => {
    const both = await acting(person('boss', { metadata: from }), person('bot', { metadata: to }));
    expect(both.metadata.rate_limit_per_hour).toBe(expected);
  });

  test('keeps no more than what was lent', async () => {
    const boss = person('boss', { roles: ['admin', 'analyst'], permissions: ['tasks.*'], scopes: ['x', 'y'] });
    const bot = person('bot', { roles: ['admin', 'analyst'], permissions: ['*'], scopes: ['x', 'y'] });
    const lent = await acting(boss, bot, { roles: ['analyst'], permissions: ['tasks.read'], scopes: ['x'] });
    expect(lent).toMatchObject({ roles: ['analyst'], permissions: ['tasks.read'], scopes: ['x'] });
    expect(lent.parties?.[0]).toMatchObject({ roles: ['analyst'], permissions: ['tasks.read'], scopes: ['x'] });
  });

  test('loses what an earlier or a later hop kept back', async () => {
    const [a, b, c] = ['a', 'b', 'c'].map((id) => person(id, { roles: ['admin'], scopes: ['x', 'y', 'z'] }));
    const first = await acting(a as Principal, b as Principal, { scopes: ['x', 'y'] });
    await expect(desk.issue(first, c as Principal, { scopes: ['z'] }, START)).rejects.toMatchObject({
      code: 'FORBIDDEN',
    });
    const second = await acting(first, c as Principal, { scopes: ['y'] });
    expect(second.scopes).toEqual(['y']);
    expect(second.parties?.map(({ id, scopes }) => [id, scopes])).toEqual([
      ['a', ['y']],
      ['b', ['y']],
      ['c', ['x', 'y', 'z']],
    ]);
    expect(second.actor).toEqual({ id: 'c', type: 'service', actor: { id: 'b', type: 'service', actor: null } });
  });
});

const said = ({ allow }: Decision) => allow;

describe('the decision on a delegated call', () => {
  const anyone = fc.record({
    roles: fc.subarray(['admin', 'developer', 'data_engineer', 'analyst', 'viewer', 'guest'], { minLength: 1 }),
    permissions: fc.subarray(['tasks.read', 'tasks.*', 'other']),
    tenure_months: fc.constantFrom(null, 3, 24),
    device_compliant: fc.boolean(),
    mfa: fc.boolean(),
  });
  const calls = fc.record({
    action: fc.constantFrom(
      ...(['gateway:tool:invoke', 'gateway:tool:discover', 'http:get', 'llm:chat:create', 'responses:read'] as const),
    ),
    tool_type: fc.constantFrom('query', 'analytics', 'mutation', 'admin'),
    sensitivity_level: fc.constantFrom('low', 'medium', 'high', 'critical'),
    owner: fc.constantFrom(null, 'boss', 'bot', 'other'),
  });
  type Call = typeof calls extends fc.Arbitrary<infer T> ? T : never;

  function ask(principal: Principal, call: Call, owner: string | null): DecisionRequest {
    const { action, tool_type, sensitivity_level } = call;
    const isTool = action.startsWith('gateway:');
    return makeRequest({
      principal,
      facts: { now: START, source_region: 'eu-west-1' },
      call: {
        ...{ action, server: isTool ? 'orders' : null, tool: isTool ? 'run' : null },
        resource: {
          ...{ type: action === 'responses:read' ? 'response' : 'tool', id: 'r', tenant_id: TENANT, owner_id: owner },
          permissions: action === 'http:get' ? { allOf: ['tasks.read'] } : null,
        },
      },
      classification: { tool_type, sensitivity_level },
    });
  }

  test('is never more than what delegator and actor each may, over many pairs', { timeout: 60_000 }, async () => {
    verifies('SF-42');
    let allowed = 0;
    let stricter = 0;
    await fc.assert(
      fc.asyncProperty(anyone, anyone, calls, async (from, to, call) => {
        const make = (id: string, { mfa, ...facts }: typeof from) =>
          person(id, { ...facts, auth: { mfa_verified: mfa } });
        const [boss, bot] = [make('boss', from), make('bot', to)];
        const both = await acting(boss, bot);
        const joint = said(engine.decide(ask(both, call, call.owner)));
        const ofBoss = said(engine.decide(ask(boss, call, call.owner)));
        // What is the delegator's is lent with its rights; what anybody else owns is not.
        const ofBot = said(engine.decide(ask(bot, call, call.owner === 'boss' ? 'bot' : call.owner)));
        expect(joint).toBe(ofBoss && ofBot);
        const [listed, again] = engine.decideMany([ask(both, call, call.owner), ask(both, call, call.owner)]);
        expect([listed?.allow, again?.allow]).toEqual([joint, joint]);
        if (joint) allowed++;
        if (!joint && (ofBoss || ofBot)) stricter++;
      }),
      { numRuns: 1500 },
    );
    expect(allowed).toBeGreaterThan(50);
    expect(stricter).toBeGreaterThan(100);
  });

  test('gives the reasons of everyone who may not', async () => {
    const both = await acting(person('guest-boss', { roles: ['guest'] }), person('bot', { roles: ['viewer'] }));
    const decision = engine.decide(
      ask(both, { action: 'gateway:tool:invoke', tool_type: 'mutation', sensitivity_level: 'low', owner: null }, null),
    );
    expect(decision.allow).toBe(false);
    expect(decision.deny.map(({ message }) => message).join()).toMatch(/guest.*viewer/s);
  });

  test.each([
    ['keys:create', 'key', 'k'],
    ['keys:rotate', 'key', 'k'],
    ['approvals:decide', 'principal', 'p'],
    ['admin:switches', 'protocol', 'p'],
    ['http:post', 'http', '/auth/change-password'],
  ] as const)('on %s is a refusal whatever the policy says', async (action, type, id) => {
    const both = await acting(person('critical-1'), person('critical-2'));
    const request = makeRequest({
      principal: both,
      facts: { now: START },
      call: {
        ...{ action, server: null, tool: null, parameters: null },
        resource: { type, id, tenant_id: TENANT, owner_id: null, permissions: null },
      },
    });
    const decision = engine.decide(request);
    expect(decision.allow).toBe(false);
    expect(decision.deny.map(({ message }) => message)).toContain('This cannot be done for another');
  });
});

describe('a delegation token', () => {
  test('names the delegator, nests the actors, and says for whom it is (RFC 8693)', async () => {
    verifies('S-49');
    const [a, b, c] = ['critical-1', 'critical-2', 'critical-3'].map((name) => person(name)) as [
      Principal,
      Principal,
      Principal,
    ];
    const { token, id, lifetime } = await desk.issue(await acting(a, b), c, {}, START);
    const { header, claims } = partsOf(token);
    expect(header).toMatchObject({ alg: 'HS256', typ: 'delegation+jwt' });
    expect(claims).toMatchObject({
      ...{ iss: AUDIENCE, aud: AUDIENCE, sub: 'critical-1', tenant: TENANT, jti: id, depth: 2 },
      act: { sub: 'critical-3', act: { sub: 'critical-2' } },
      may_act: { sub: 'critical-3' },
      hops: [
        { sub: 'critical-1', iat: START / 1000 },
        { sub: 'critical-2', iat: START / 1000 },
      ],
    });
    expect(lifetime).toBe(300);
    expect((claims.hops as unknown[])[0]).not.toHaveProperty('hash');
  });

  test('is read by every gateway with the same pepper and address, and by no other', async () => {
    const { pepper } = around.env;
    expect(delegationKey(pepper, AUDIENCE)).toEqual(delegationKey(pepper, AUDIENCE));
    const { token } = await desk.issue(person('boss'), person('bot'), {}, START);
    const twin = deskOf(around);
    expect(await twin.accept(person('bot'), token, START)).toMatchObject({ id: 'boss' });
    twin.close();
    await using elsewhere = await setting();
    const foreign = deskOf({
      ...elsewhere,
      env: { ...elsewhere.env, keys: around.env.keys, pepper: around.env.pepper },
    });
    expect(await foreign.accept(person('bot'), token, START)).toMatchObject({ id: 'boss' });
    foreign.close();
  });

  test('opens nothing as a bearer token, not even where the issuer and the secret are the same', async () => {
    const { token } = await desk.issue(person('boss'), person('bot'), {}, START);
    const { secret } = delegationKey(around.env.pepper, AUDIENCE);
    const options = jwt.schema.parse({
      ...{ kind: 'jwt', issuer: AUDIENCE, audience: AUDIENCE, algorithms: ['HS256'] },
      secret: Buffer.from(secret).toString('latin1'),
    });
    const provider = await jwt.create(options, around.env);
    expect(await provider.authenticate(bearer(token), around.facts(), NEVER)).toMatchObject({ kind: 'rejected' });
    await provider.close?.();
  });

  test('is remembered, and forgotten at once when it is withdrawn elsewhere', async () => {
    const bot = person('bot');
    const { token, id, expiresAt } = await desk.issue(person('boss'), bot, {}, START);
    const first = await desk.accept(bot, token, START);
    expect(desk.accept(bot, token, START + 1)).toBe(first);
    await revokeToken(around.shared, AUDIENCE, id, expiresAt * 1000, START);
    expect(await desk.accept(bot, token, START + 2)).toMatchObject({ code: 'INVALID_CREDENTIALS' });
  });

  test('ends with the token that the delegator had shown', async () => {
    const boss = person('boss', { auth: { token_id: 'jti-1' } });
    const from = { ...boss, auth: { ...boss.auth, provider: 'staff' } };
    const { token } = await desk.issue(from, person('bot'), {}, START);
    expect(await desk.accept(person('bot'), token, START)).toMatchObject({ id: 'boss' });
    await revokeToken(around.shared, 'https://idp.example', 'jti-1', START + 1e6, START);
    expect(await desk.accept(person('bot'), token, START)).toMatchObject({ code: 'INVALID_CREDENTIALS' });
  });

  test('lends only what the key of the delegator still grants', async () => {
    const { env } = around;
    const { record } = await issueKey(env, { name: 'boss', tenant_id: TENANT, owner_id: 'boss', roles: ['admin'] });
    const boss = person('boss', { roles: ['admin', 'developer'], auth: { key_id: record.id, mfa_verified: true } });
    const bot = person('bot', { roles: ['admin', 'developer'] });
    const both = await acting(boss, bot);
    expect(both.parties?.[0]).toMatchObject({ roles: ['admin'], auth: { mfa_verified: false } });
    await revokeKey(env, TENANT, record.id);
    const { token } = await desk.issue(boss, bot, {}, START);
    expect(await desk.accept(bot, token, START)).toMatchObject({ code: 'INVALID_CREDENTIALS' });
  });

  test('is refused, not passed over, when the store cannot say whether it was withdrawn', async () => {
    const broken = deskOf({
      ...around,
      shared: { ...around.shared, get: () => Promise.reject(new Error('away')), subscribe: () => () => undefined },
    });
    const { token } = await desk.issue(person('boss'), person('bot'), {}, START);
    expect(await broken.accept(person('bot'), token, START)).toMatchObject({ code: 'AUTH_UNAVAILABLE', status: 503 });
    broken.close();
  });

  test('is not made from a key that another service keeps: whether it is good later nobody here could say', async () => {
    const { auth, ...facts } = person('boss');
    const foreign = makePrincipal({ ...facts, auth: { key_id: auth.key_id } }, 'elsewhere', 'api-key');
    await expect(desk.issue(foreign, person('bot'), {}, START)).rejects.toMatchObject({
      code: 'FORBIDDEN',
      message: expect.stringContaining('another service'),
    });
  });

  test('lives no longer than the credentials of both sides and the token it was made from', async () => {
    const at = START / 1000;
    const until = (expires_at: number) => person('boss', { auth: { expires_at } });
    expect((await desk.issue(until(at + 30), person('bot'), { lifetime: 3600 }, START)).expiresAt).toBe(at + 30);
    expect((await desk.issue(until(at + 90), person('bot'), { targetExpiresAt: at + 20 }, START)).expiresAt).toBe(
      at + 20,
    );
    await expect(desk.issue(until(at), person('bot'), {}, START)).rejects.toMatchObject({ code: 'FORBIDDEN' });
    const middle = person('middle');
    const { token } = await desk.issue(person('boss'), middle, { lifetime: 60 }, START);
    const lent = (await desk.accept(middle, token, START)) as Principal;
    expect((await desk.issue(lent, person('bot'), { lifetime: 3600 }, START)).expiresAt).toBe(at + 60);
  });
});

describe('the directory', () => {
  test('knows the owners of live keys of a tenant, by the most that one of their keys gives', async () => {
    verifies('SF-35');
    const { env } = around;
    const make = (name: string, more: object) =>
      issueKey(env, { name, tenant_id: TENANT, owner_id: 'twokeys', ...more });
    await make('one', { roles: ['analyst'], tenure_months: 1 });
    await make('two', { roles: ['developer'], tenure_months: 7 });
    await make('old', { roles: ['admin'], expires_at: START - 1 });
    const { record } = await make('gone', { roles: ['admin'] });
    await revokeKey(env, TENANT, record.id);
    const directory = keyOwners(env.keys);
    expect(await directory.find(TENANT, 'twokeys', START)).toMatchObject({
      ...{ id: 'twokeys', roles: ['analyst', 'developer'], tenure_months: 7 },
    });
    expect(await directory.find('rival', 'twokeys', START)).toBeNull();
    expect(await directory.find(TENANT, 'nobody', START)).toBeNull();
  });
});

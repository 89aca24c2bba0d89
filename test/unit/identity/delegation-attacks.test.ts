/** Replays test/corpus/delegation/issue.json and use.json: what is not marked as right must not get anywhere. */
import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { type A2aFacts, a2aUser } from '../../../src/core/call.ts';
import { GatewayError } from '../../../src/core/errors.ts';
import { actorIds, type Principal } from '../../../src/core/principal.ts';
import type { Delegation, DelegationRequest } from '../../../src/identity/delegation.ts';
import { issueKey, revokeKey } from '../../../src/identity/key-issuing.ts';
import { createPolicyEngine, type OpaEngine } from '../../../src/policy/opa-engine.ts';
import { countAttacks } from '../../helpers/attacks.ts';
import { silent } from '../../helpers/mcp-exchange.ts';
import { verifies } from '../../helpers/verifies.ts';
import { makeRequest } from '../policy/requests.ts';
import { deskOf, encode, keyOf, type Parts, partsOf, person, sign, TENANT } from './delegation-people.ts';
import { type Setting, START, setting } from './setting.ts';

const corpus = <T>(name: string): readonly T[] =>
  JSON.parse(readFileSync(new URL(`../../corpus/delegation/${name}.json`, import.meta.url), 'utf8')) as T[];
const policies = fileURLToPath(new URL('../../../policies/', import.meta.url));

let around: Setting;
let desk: Delegation;
let engine: OpaEngine;
beforeAll(async () => {
  around = await setting();
  desk = deskOf(around);
  engine = await createPolicyEngine({
    ...{ bundleDir: policies, dataFile: `${policies}data.json`, entrypoint: 'portcullis/main/decision' },
    ...{ clock: around.env.clock, cache: { entries: 0, base_ttl_ms: 1 }, servers: new Map(), decisionLog: null },
    logger: silent,
  });
});
afterAll(async () => {
  desk.close();
  await engine.close();
  await around[Symbol.asyncDispose]();
});

/** What the policy and then the desk say to handing on: null is yes. */
async function refusal(source: Principal, target: Principal, wanted: DelegationRequest): Promise<string | null> {
  const a2a: A2aFacts = {
    ...{ source_user: a2aUser(source), target_user: a2aUser(target), source_agent: null, target_agent: null },
    ...{
      capability: null,
      context: { workflow_id: null, user_id: source.id, delegation_depth: actorIds(source).length },
    },
  };
  const decision = engine.decide(
    makeRequest({
      principal: source,
      facts: { now: START },
      call: {
        ...{ action: 'a2a:delegate', server: null, tool: null, parameters: {}, a2a },
        resource: { type: 'principal', id: target.id, tenant_id: target.tenant_id, owner_id: null, permissions: null },
      },
    }),
  );
  if (!decision.allow) return decision.deny[0]?.code ?? 'POLICY_DENIED';
  try {
    await desk.issue(source, target, wanted, START);
    return null;
  } catch (error) {
    if (error instanceof GatewayError) return error.code;
    throw error;
  }
}

interface IssueCase {
  readonly name: string;
  readonly from: string;
  readonly via?: readonly string[];
  readonly to: string;
  readonly wanted?: DelegationRequest;
  readonly allowed: boolean;
  readonly code?: string;
}

async function issueOutcome({ from, via = [], to, wanted = {} }: IssueCase): Promise<string | null> {
  let caller = person(from);
  for (const name of via) {
    const next = person(name);
    try {
      const { token } = await desk.issue(caller, next, {}, START);
      const acting = await desk.accept(next, token, START);
      if (acting instanceof GatewayError) throw acting;
      caller = acting;
    } catch (error) {
      if (error instanceof GatewayError) return error.code;
      throw error;
    }
  }
  return refusal(caller, person(to), wanted);
}

describe('handing rights on', () => {
  const cases = corpus<IssueCase>('issue');

  countAttacks('delegation', cases.filter(({ allowed }) => !allowed).length);

  test.each(cases)('$name: $allowed', async (one) => {
    verifies('S-40', 'S-42', 'S-43', 'SF-35');
    expect(await issueOutcome(one)).toBe(one.allowed ? null : one.code);
  });

  test('is refused in every case of the corpus that is not marked as right', async () => {
    verifies('SF-35', 'S-49');
    const attacks = cases.filter(({ allowed }) => !allowed);
    const through: string[] = [];
    for (const attack of attacks) if ((await issueOutcome(attack)) === null) through.push(attack.name);
    expect(through).toEqual([]);
  });
});

interface Change {
  readonly at: 'header' | 'claims';
  readonly path: readonly (string | number)[];
  readonly value?: unknown;
  readonly remove?: boolean;
  readonly splice?: boolean;
  readonly reverse?: boolean;
}

interface UseCase {
  readonly name: string;
  readonly good?: boolean;
  readonly code?: string;
  readonly chain?: 2;
  readonly patch?: readonly Change[];
  readonly sign?: string;
  readonly presenter?: string;
  readonly after_ms?: number;
  readonly withdraw?: string;
}

type Holder = Record<string | number, unknown>;

function apply(parts: Parts, { at, path, value, remove, splice, reverse }: Change): void {
  const last = path[path.length - 1] as string | number;
  let holder = parts[at] as Holder;
  for (const step of path.slice(0, -1)) holder = holder[step] as Holder;
  if (remove === true) delete holder[last];
  else if (splice === true) (holder as unknown as unknown[]).splice(last as number, 1);
  else if (reverse === true) (holder[last] as unknown[]).reverse();
  // A number with its sign is that many seconds from what stood there.
  else if (typeof value === 'string' && /^[+-]\d+$/.test(value))
    holder[last] = (holder[last] as number) + Number(value);
  else holder[last] = value;
}

const bytes = (text: string) => new TextEncoder().encode(text);

async function forged(token: string, { patch = [], sign: by = 'ours' }: UseCase): Promise<string> {
  const parts = structuredClone(partsOf(token));
  for (const change of patch) apply(parts, change);
  const signature = token.split('.')[2] ?? '';
  const unsigned = `${encode(parts.header)}.${encode(parts.claims)}`;
  const duplicate = `${encode(parts.header)}.${Buffer.from(JSON.stringify(parts.claims).replace('{', '{"sub":"superuser",')).toString('base64url')}`;
  switch (by) {
    case 'ours':
      return patch.length === 0 ? token : sign(parts, keyOf(around).secret);
    case 'none':
      return `${unsigned}.`;
    case 'keep':
      return `${unsigned}.${signature}`;
    case 'pepper':
      return sign(parts, bytes(around.env.pepper.reveal()));
    case 'other':
      return sign(parts, bytes('another deployment has another key'));
    case 'empty':
      return sign({ ...parts, header: { ...parts.header, crit: undefined } }, bytes('\0'));
    case 'padded':
      return `${token}=`;
    case 'duplicate':
      return `${duplicate}.${signature}`;
    case 'api-key':
      return (await issueKey(issuing(), { name: 'x', tenant_id: TENANT })).key.reveal();
    case 'long':
      return `${token.slice(0, 20)}${'A'.repeat(9000)}`;
    default:
      return by === 'nothing' ? '' : 'some.text.here';
  }
}

const issuing = () => ({ ...around.env, environment: 'development' as const });

async function useOutcome(one: UseCase): Promise<Principal | GatewayError> {
  // A desk of its own: what is withdrawn in one case is withdrawn in that case only.
  const own = deskOf(around);
  try {
    const keys = new Map<string, string>();
    const holder = async (name: string) => {
      const { record } = await issueKey(issuing(), { name, tenant_id: TENANT, owner_id: name, roles: ['admin'] });
      keys.set(name, record.id);
      return person(name, { roles: ['admin'], auth: { key_id: record.id } });
    };
    const boss = await holder('boss');
    const middle = await holder('middle');
    const bot = person('bot');
    const first = await own.issue(boss, one.chain === 2 ? middle : bot, {}, START);
    let last = first;
    if (one.chain === 2) {
      const acting = (await own.accept(middle, first.token, START)) as Principal;
      last = await own.issue(acting, bot, {}, START);
    }
    const token = await forged(last.token, one);
    if (one.withdraw === 'token') await own.revoke(boss, last.token, START);
    if (one.withdraw === 'parent') await own.revoke(boss, first.token, START);
    const key = keys.get(one.withdraw === 'key' ? 'boss' : one.withdraw === 'middle-key' ? 'middle' : '');
    if (key !== undefined) await revokeKey(around.env, TENANT, key);
    const presenter =
      one.presenter === 'boss' ? boss : one.presenter === 'middle' ? middle : person(one.presenter ?? 'bot');
    return await own.accept(presenter, token, START + (one.after_ms ?? 0));
  } finally {
    own.close();
  }
}

describe('taking rights up', () => {
  const cases = corpus<UseCase>('use');

  countAttacks('delegation', cases.filter(({ good }) => good !== true).length);

  test.each(cases)('with a token $name', async (one) => {
    verifies('S-49', 'SF-35');
    const outcome = await useOutcome(one);
    if (one.good === true) expect(outcome).toMatchObject({ id: 'boss', roles: [], actor: { id: 'bot' } });
    else expect(outcome).toMatchObject({ name: 'GatewayError', code: one.code, status: 401 });
  });

  test('is refused in every case of the corpus that is not marked as right', async () => {
    const attacks = cases.filter(({ good }) => good !== true);
    const through: string[] = [];
    for (const attack of attacks) if (!((await useOutcome(attack)) instanceof GatewayError)) through.push(attack.name);
    expect(through).toEqual([]);
  });
});

/**
 * P6 and P8 of docs/performance.md: one policy, written for each engine, decided on the same questions in one process:
 * a role grants kinds of tools at levels, from some regions only, over an encrypted connection only. Every engine has to
 * answer every question alike before it is timed. OPA's Go engine measures itself (`opa bench`).
 */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { loadPolicy } from '@open-policy-agent/opa-wasm';
import { compile } from '../src/policy/compiler.ts';
import { findOpa, run } from '../src/policy/opa-command.ts';
import { BUILTINS } from '../src/policy/wasm/builtins.ts';
import { PolicyHost } from '../src/policy/wasm/host.ts';
import type { ShapeSpec } from '../src/policy/wasm/input-writer.ts';
import { markLasting } from '../src/policy/wasm/input-writer.ts';
import { DEFAULT_LIMITS, PolicyProgram } from '../src/policy/wasm/program.ts';
import type { Effort } from './proxy.ts';
import { median } from './report.ts';

const REGIONS = ['us-east-1', 'us-west-2', 'eu-west-1'];
const GRANTS: Readonly<Record<string, Readonly<Record<string, readonly string[]>>>> = {
  admin: { query: ['low', 'medium', 'high'], mutation: ['low', 'medium', 'high'], admin: ['low', 'medium', 'high'] },
  developer: { query: ['low', 'medium'], analytics: ['low', 'medium'] },
  analyst: { analytics: ['low', 'medium'] },
  data_engineer: { query: ['low', 'medium', 'high'], mutation: ['low', 'medium', 'high'] },
};

const REGO = `package bench

default allow := false

# METADATA
# entrypoint: true
allow if {
	some role in input.user.roles
	input.level in data.grants[role][input.kind]
	input.region in data.regions
	input.encrypted == true
}
`;

interface Question {
  readonly user: { readonly id: string; readonly roles: readonly string[] };
  readonly kind: string;
  readonly level: string;
  readonly region: string;
  readonly encrypted: boolean;
}

const SHAPE: ShapeSpec = { keys: ['user', 'kind', 'level', 'region', 'encrypted'] };

/** What the gateway knows of a caller stays the same from request to request, for every engine. */
const users = ['admin', 'developer', 'analyst', 'data_engineer', 'guest'].map((role) =>
  markLasting({ id: `user of ${role}`, roles: [role] }),
);

const QUESTIONS: readonly Question[] = users.flatMap((user) =>
  ['query', 'mutation', 'analytics', 'admin'].flatMap((kind) =>
    ['low', 'medium', 'high', 'critical'].flatMap((level) =>
      [true, false].map((known, i) => ({
        ...{ user, kind, level, region: known ? (REGIONS[level.length % 3] ?? '') : 'cn-north-1' },
        encrypted: i === 0 || kind !== 'query',
      })),
    ),
  ),
);

const expected = ({ user, kind, level, region, encrypted }: Question): boolean =>
  encrypted && REGIONS.includes(region) && user.roles.some((role) => GRANTS[role]?.[kind]?.includes(level) === true);

type Ask = (question: Question) => boolean | Promise<boolean>;

interface Contender {
  readonly name: string;
  readonly ask: Ask;
}

async function hostFor(wasm: Buffer, grants: object): Promise<PolicyHost> {
  const program = await PolicyProgram.load(wasm, BUILTINS, DEFAULT_LIMITS);
  return new PolicyHost(program, JSON.stringify({ grants, regions: REGIONS }));
}

const asking = (host: PolicyHost): Ask => {
  const now = Date.now();
  return (question) => {
    const outcome = host.evaluate('bench/allow', question, now, SHAPE);
    return outcome.kind === 'value' && outcome.value === true;
  };
};

/** The other engines, as far as they are installed: `npm ci --prefix bench/contenders`. */
const others = createRequire(new URL('contenders/package.json', import.meta.url));

async function sdk(wasm: Buffer): Promise<Ask> {
  const policy = await loadPolicy(new Uint8Array(wasm).buffer, { initial: 20 });
  policy.setData({ grants: GRANTS, regions: REGIONS });
  return (question) => policy.evaluate(question, 'bench/allow')[0]?.result === true;
}

interface Cedar {
  preparsePolicySet(name: string, policies: object): { readonly type: string };
  statefulIsAuthorized(call: object): { readonly response?: { readonly decision: string } };
}

/** One policy per role and kind, parsed once; roles are parents of the principal. */
function cedar(): Ask {
  const engine = others('@cedar-policy/cedar-wasm/nodejs') as Cedar;
  const regions = JSON.stringify(REGIONS);
  const policies = Object.entries(GRANTS).flatMap(([role, kinds]) =>
    Object.entries(kinds).map(
      ([kind, levels]) =>
        `permit(principal in Role::"${role}", action == Action::"${kind}", resource) when { ${JSON.stringify(levels)}.contains(context.level) && ${regions}.contains(context.region) && context.encrypted };`,
    ),
  );
  const staticPolicies = Object.fromEntries(policies.map((text, i) => [`p${i}`, text]));
  if (engine.preparsePolicySet('bench', { staticPolicies }).type !== 'success') throw new Error('cedar: not parsed');
  return ({ user, kind, level, region, encrypted }) => {
    const uid = { type: 'User', id: user.id };
    const answer = engine.statefulIsAuthorized({
      ...{ principal: uid, action: { type: 'Action', id: kind }, resource: { type: 'Tool', id: 'run' } },
      ...{ context: { level, region, encrypted }, preparsedPolicySetId: 'bench' },
      entities: [{ uid, attrs: {}, parents: user.roles.map((id) => ({ type: 'Role', id })) }],
    });
    return answer.response?.decision === 'allow';
  };
}

interface Casbin {
  newModelFromString(text: string): object;
  newEnforcer(model: object): Promise<{
    addPolicy(...rule: string[]): Promise<boolean>;
    addRoleForUser(user: string, role: string): Promise<boolean>;
    enforceSync(...request: unknown[]): boolean;
  }>;
}

async function casbin(): Promise<Ask> {
  const engine = others('casbin') as Casbin;
  const regions = REGIONS.map((region) => `r.region == "${region}"`).join(' || ');
  const enforcer = await engine.newEnforcer(
    engine.newModelFromString(
      [
        '[request_definition]\nr = sub, kind, level, region, encrypted',
        '[policy_definition]\np = sub, kind, level',
        '[role_definition]\ng = _, _',
        '[policy_effect]\ne = some(where (p.eft == allow))',
        `[matchers]\nm = g(r.sub, p.sub) && r.kind == p.kind && r.level == p.level && r.encrypted == true && (${regions})`,
      ].join('\n'),
    ),
  );
  for (const [role, kinds] of Object.entries(GRANTS)) {
    for (const [kind, levels] of Object.entries(kinds)) {
      for (const level of levels) await enforcer.addPolicy(role, kind, level);
    }
  }
  for (const user of users) for (const role of user.roles) await enforcer.addRoleForUser(user.id, role);
  return ({ user, kind, level, region, encrypted }) => enforcer.enforceSync(user.id, kind, level, region, encrypted);
}

class OsoUser {
  readonly roles: readonly string[];
  constructor(roles: readonly string[]) {
    this.roles = roles;
  }
}

interface OsoEngine {
  registerClass(of: unknown): void;
  loadStr(text: string): Promise<void>;
  isAllowed(actor: unknown, action: unknown, resource: unknown): Promise<boolean>;
}

async function oso(): Promise<Ask> {
  const { Oso } = others('oso') as { Oso: new () => OsoEngine };
  const engine = new Oso();
  engine.registerClass(OsoUser);
  const facts = Object.entries(GRANTS).flatMap(([role, kinds]) =>
    Object.entries(kinds).flatMap(([kind, levels]) =>
      levels.map((level) => `grant("${role}", "${kind}", "${level}");`),
    ),
  );
  const rule = `allow(user: OsoUser, kind, ask) if role in user.roles and grant(role, kind, ask.level) and ask.region in ${JSON.stringify(REGIONS)} and ask.encrypted = true;`;
  await engine.loadStr([...facts, rule].join('\n'));
  const known = new Map(users.map((user) => [user as object, new OsoUser(user.roles)]));
  return (question) => engine.isAllowed(known.get(question.user), question.kind, question);
}

/** Every answer has to be right before anything is timed. */
async function check({ name, ask }: Contender): Promise<void> {
  for (const question of QUESTIONS) {
    if ((await ask(question)) !== expected(question))
      throw new Error(`${name} is wrong on ${JSON.stringify(question)}`);
  }
}

async function timed(ask: Ask, milliseconds: number): Promise<number> {
  const start = performance.now();
  let [asked, now] = [0, start];
  while (now - start < milliseconds) {
    for (let i = 0; i < 20; i++, asked++) {
      const answer = ask(QUESTIONS[asked % QUESTIONS.length] as Question);
      if (typeof answer !== 'boolean') await answer;
    }
    now = performance.now();
  }
  return ((now - start) * 1000) / asked;
}

/** Median of the microseconds of one evaluation, by OPA's own account, over the questions given. */
async function goEngine(dir: string, opa: string, seconds: number): Promise<number> {
  const samples: number[] = [];
  for (const question of [QUESTIONS[0], QUESTIONS[9], QUESTIONS[40]]) {
    writeFileSync(join(dir, 'input.json'), JSON.stringify(question));
    const files = ['-d', 'policy.rego', '-d', 'data.json', '-i', 'input.json'];
    const flags = ['--format', 'json', '--benchmem=false', '--count', String(Math.max(1, Math.round(seconds / 4)))];
    const { stdout } = await run(opa, ['bench', ...files, ...flags, 'data.bench.allow'], { cwd: dir });
    const result = JSON.parse(stdout) as { N: number; T: number } | { N: number; T: number }[];
    for (const each of Array.isArray(result) ? result : [result]) samples.push(each.T / each.N / 1000);
  }
  return median(samples);
}

interface EngineRow {
  readonly name: string;
  readonly micros: number;
  readonly ratio: number;
}

/** Runs the lane; `say` hears what is skipped. */
export async function enginesLane(
  { seconds, rounds }: Effort,
  say: (line: string) => void,
): Promise<{ rows: EngineRow[]; text: string }> {
  const dir = mkdtempSync(join(tmpdir(), 'bench-engines-'));
  try {
    writeFileSync(join(dir, 'policy.rego'), REGO);
    writeFileSync(join(dir, 'data.json'), JSON.stringify({ grants: GRANTS, regions: REGIONS }));
    const built = await compile(dir);
    if (built.kind !== 'compiled') throw new Error(built.kind === 'no-compiler' ? built.message : 'not compiled');
    const contenders = await contendersOf(built.wasm, say);
    const samples = new Map<string, number[]>(contenders.map(({ name }) => [name, []]));
    for (const { ask } of contenders) await timed(ask, 500);
    for (let round = 0; round < rounds; round++) {
      for (const { name, ask } of contenders) {
        samples.get(name)?.push(await timed(ask, (seconds * 1000) / contenders.length));
      }
    }
    const opa = await findOpa();
    if (opa.path !== null) samples.set('OPA’s Go engine (opa bench)', [await goEngine(dir, opa.path, seconds)]);
    return report(samples);
  } finally {
    rmSync(dir, { recursive: true, force: true });
  }
}

const OURS = 'our host';
const FEW = 'our host, 10 grants in data';
const MANY = 'our host, 1,000 grants in data';

async function contendersOf(wasm: Buffer, say: (line: string) => void): Promise<Contender[]> {
  const found: Contender[] = [
    { name: OURS, ask: asking(await hostFor(wasm, GRANTS)) },
    { name: 'public WASM SDK', ask: await sdk(wasm) },
  ];
  const rest = { 'cedar-wasm, policies parsed once': cedar, 'casbin, enforceSync': casbin, oso } as const;
  for (const [name, make] of Object.entries(rest)) {
    try {
      found.push({ name, ask: await make() });
    } catch (fault) {
      if ((fault as NodeJS.ErrnoException).code !== 'MODULE_NOT_FOUND') throw fault;
      say(`${name}: skipped, not installed (npm ci --prefix bench/contenders)`);
    }
  }
  for (const one of found) await check(one);
  for (const [name, count] of [
    [FEW, 10],
    [MANY, 1000],
  ] as const) {
    const more = Array.from({ length: count - Object.keys(GRANTS).length }, (_, i) => [`role ${i}`, GRANTS.developer]);
    const one = { name, ask: asking(await hostFor(wasm, { ...Object.fromEntries(more), ...GRANTS })) };
    await check(one);
    found.push(one);
  }
  return found;
}

function report(samples: ReadonlyMap<string, readonly number[]>): { rows: EngineRow[]; text: string } {
  const ours = median(samples.get(OURS) ?? []);
  const rows = [...samples].map(([name, micros]) => ({ name, micros: median(micros), ratio: median(micros) / ours }));
  const lines = rows.map(({ name, micros, ratio }) => `| ${name} | ${micros.toFixed(2)} | ${ratio.toFixed(2)} |`);
  const of = (name: string) => median(samples.get(name) ?? []);
  const scale = `1,000 grants against 10: ${(of(MANY) / of(FEW)).toFixed(2)}`;
  return { rows, text: ['| engine | µs | × our host |', '|---|---|---|', ...lines, '', scale].join('\n') };
}

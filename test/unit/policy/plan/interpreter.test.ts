import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { beforeAll, describe, expect, test } from 'vitest';
import type { JsonValue } from '../../../../src/core/json.ts';
import { type Bundle, loadBundle } from '../../../../src/policy/bundle.ts';
import { interpret, PlanFault } from '../../../../src/policy/plan/interpreter.ts';
import { type Plan, parsePlan, readPlan } from '../../../../src/policy/plan/plan.ts';
import { BUILTINS } from '../../../../src/policy/wasm/builtins.ts';
import { PolicyHost } from '../../../../src/policy/wasm/host.ts';
import { DEFAULT_LIMITS, PolicyProgram } from '../../../../src/policy/wasm/program.ts';
import { fromJson, type Rego, toJson } from '../../../../src/policy/wasm/values.ts';
import { policyInput } from '../../../helpers/policy-input.ts';

const root = fileURLToPath(new URL('../../../../', import.meta.url));
const NOON = Date.UTC(2025, 0, 15, 10, 30);

interface Side {
  readonly host: PolicyHost;
  readonly plan: Plan;
  readonly data: Rego;
}

async function side(dataFile: string): Promise<Side> {
  const bundle: Bundle = await loadBundle({ bundleDir: `${root}policies`, dataFile: `${root}policies/${dataFile}` });
  if (bundle.plan === null) throw new Error('the bundle in the repository has no plan');
  const program = await PolicyProgram.load(bundle.wasm, BUILTINS, DEFAULT_LIMITS);
  return { host: new PolicyHost(program, bundle.dataText), plan: readPlan(bundle.plan), data: fromJson(bundle.data) };
}

/** Keys in order, so that texts can be compared. */
function canonical(value: JsonValue): JsonValue {
  if (Array.isArray(value)) return value.map((item) => canonical(item as JsonValue));
  if (typeof value !== 'object' || value === null) return value;
  const object = value as Readonly<Record<string, JsonValue>>;
  return Object.fromEntries(
    Object.keys(object)
      .sort()
      .map((key) => [key, canonical(object[key] ?? null)]),
  );
}

function byModule({ host }: Side, entrypoint: string, input: JsonValue, now: number): string {
  const outcome = host.evaluate(entrypoint, input, now);
  return outcome.kind === 'value' ? JSON.stringify(canonical(outcome.value)) : outcome.kind;
}

function byPlan({ plan, data }: Side, entrypoint: string, input: JsonValue, now: number): string {
  try {
    const { value } = interpret(plan, entrypoint, fromJson(input), data, now);
    return value === undefined ? 'undefined' : JSON.stringify(canonical(toJson(value)));
  } catch (fault) {
    if (fault instanceof PlanFault) return 'failed';
    throw fault;
  }
}

/** A small generator of its own: the same inputs on every run. */
function random(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
    return state / 4_294_967_296;
  };
}

const WORDS = ['admin', 'developer', 'query', 'mutation', 'low', 'critical', 'production', 'staging', 'orders', 'acme'];
const ODD: readonly JsonValue[] = [null, true, false, 0, -1, 1.5, 1e21, '', ' x ', 'İß', [], {}, ['a', 1], { a: null }];

function oddValue(next: () => number): JsonValue {
  const pool = next() < 0.6 ? WORDS : ODD;
  return (pool[Math.floor(next() * pool.length)] ?? null) as JsonValue;
}

/** Changes some members somewhere in the document, or takes them away. */
function scramble(value: JsonValue, next: () => number): JsonValue {
  if (next() < 0.06) return oddValue(next);
  if (Array.isArray(value)) return value.map((item) => scramble(item as JsonValue, next));
  if (typeof value !== 'object' || value === null) return value;
  const out: Record<string, JsonValue> = {};
  for (const [key, item] of Object.entries(value)) if (next() > 0.02) out[key] = scramble(item as JsonValue, next);
  return out;
}

function randomInput(next: () => number): JsonValue {
  const pick = (list: readonly string[]): string => list[Math.floor(next() * list.length)] ?? '';
  const base = policyInput({
    role: pick(['admin', 'developer', 'analyst', 'data_engineer', 'none']),
    tool_type: pick(['query', 'mutation', 'admin', 'export', 'import', 'delete', 'unknown']),
    sensitivity_level: pick(['low', 'medium', 'high', 'critical']),
    production: next() < 0.4,
    approved: next() < 0.3,
  });
  const action = pick(['gateway:tool:invoke', 'gateway:llm:invoke', 'gateway:http:request', 'gateway:tool:list']);
  return scramble({ ...base, action } as unknown as JsonValue, next);
}

describe('the interpreter of the plan', () => {
  let strict: Side;
  let relaxed: Side;

  beforeAll(async () => {
    strict = await side('profiles/strict.json');
    relaxed = await side('data.json');
  });

  test('answers every case of the golden matrix as the module does, at every entrypoint', () => {
    const rows = JSON.parse(readFileSync(`${root}test/corpus/policy/matrix.json`, 'utf8')) as object[];
    for (const row of rows) {
      const input = policyInput(row) as unknown as JsonValue;
      for (const entrypoint of strict.plan.entrypoints.keys()) {
        expect(byPlan(strict, entrypoint, input, NOON), `${entrypoint} ${JSON.stringify(row)}`).toBe(
          byModule(strict, entrypoint, input, NOON),
        );
      }
    }
  });

  test('answers 4,000 random inputs as the module does, odd types and missing members included', () => {
    const next = random(20_251_122);
    const entrypoints = [...strict.plan.entrypoints.keys()];
    const kinds = new Set<string>();
    for (let i = 0; i < 4000; i++) {
      const policy = i % 2 === 0 ? strict : relaxed;
      const input = randomInput(next);
      const now = NOON + Math.floor(next() * 7 * 86_400_000);
      const entrypoint = i % 3 === 0 ? (entrypoints[i % entrypoints.length] ?? '') : 'portcullis/main/decision';
      const wanted = byModule(policy, entrypoint, input, now);
      kinds.add(wanted.slice(0, 15));
      expect(byPlan(policy, entrypoint, input, now), `${entrypoint} ${JSON.stringify(input)}`).toBe(wanted);
    }
    expect(kinds.size).toBeGreaterThan(2);
  });

  test('answers lists of calls as the module does', () => {
    const next = random(7);
    for (let i = 0; i < 200; i++) {
      const calls = Array.from({ length: 1 + (i % 5) }, () => scramble({ tool_name: 't', action: 'a' }, next));
      const document = { ...(randomInput(next) as object), calls } as JsonValue;
      expect(byPlan(strict, 'portcullis/main/decisions', document, NOON)).toBe(
        byModule(strict, 'portcullis/main/decisions', document, NOON),
      );
    }
  });

  test('says by name what it cannot evaluate', () => {
    const call = { type: 'CallStmt', stmt: { func: 'no.such', args: [], result: 2, file: 0, row: 1, col: 1 } };
    const plan = parsePlan(JSON.stringify({ plans: { plans: [{ name: 'a/b', blocks: [{ stmts: [call] }] }] } }));
    expect(() => interpret(plan, 'a/b', null, null, 0)).toThrow('cannot explain: builtin no.such is not known here');
    expect(() => interpret(plan, 'a/c', null, null, 0)).toThrow('the policy has no entrypoint a/c');
    const odd = { plans: { plans: [{ name: 'a/b', blocks: [{ stmts: [{ type: 'NewStmt', stmt: {} }] }] }] } };
    expect(() => interpret(parsePlan(JSON.stringify(odd)), 'a/b', null, null, 0)).toThrow('NewStmt');
  });

  test('stops where the time is up', () => {
    const at = { file: 0, row: 1, col: 1 };
    const set = { type: 'AssignVarStmt', stmt: { source: { type: 'bool', value: true }, target: 2, ...at } };
    const many = { plans: { plans: [{ name: 'a/b', blocks: [{ stmts: Array(5000).fill(set) }] }] } };
    const plan = parsePlan(JSON.stringify(many));
    expect(interpret(plan, 'a/b', null, null, 0).value).toBeUndefined();
    expect(() => interpret(plan, 'a/b', null, null, 0, null, -1)).toThrow('takes too long');
  });

  test('refuses a plan that is none, is damaged, or belongs to another build', () => {
    expect(() => parsePlan('{')).toThrow('no JSON');
    expect(() => parsePlan('{}')).toThrow('no entrypoint');
    expect(() => readPlan({ bytes: Buffer.from('x'), gzip: true, digest: null })).toThrow('unpacked');
    expect(() => readPlan({ bytes: Buffer.from('{}'), gzip: false, digest: '00' })).toThrow('not of one build');
  });
});

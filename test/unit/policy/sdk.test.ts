/** The host against OPA's own JavaScript SDK, on the same module, data and inputs. */
import { readFile } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { beforeAll, describe, expect, test } from 'vitest';
import type { JsonObject, JsonValue } from '../../../src/core/json.ts';
import { makePrincipal } from '../../../src/core/principal.ts';
import { buildBatchInput, buildInput } from '../../../src/policy/input.ts';
import { parseReadSet, type ReadSet, shapeFor } from '../../../src/policy/input-shape.ts';
import { BUILTINS } from '../../../src/policy/wasm/builtins.ts';
import { PolicyHost } from '../../../src/policy/wasm/host.ts';
import { CallState } from '../../../src/policy/wasm/imports.ts';
import { DEFAULT_LIMITS, PolicyProgram } from '../../../src/policy/wasm/program.ts';
import { fromJson, toJson } from '../../../src/policy/wasm/values.ts';
import { verifies } from '../../helpers/verifies.ts';
import { makeRequest, makeServer, NOW } from './requests.ts';

interface SdkPolicy {
  readonly entrypoints: Readonly<Record<string, number>>;
  setData(data: unknown): void;
  evaluate(input: unknown, entrypoint: number): readonly { readonly result: JsonValue }[];
}
const sdk = createRequire(import.meta.url)('@open-policy-agent/opa-wasm') as {
  loadPolicySync(wasm: Uint8Array, memory: object, builtins: object): SdkPolicy;
};

const ROOT = new URL('../../../policies/', import.meta.url);
let host: PolicyHost;
let theirs: SdkPolicy;
let set: ReadSet;

function sdkBuiltins(): Record<string, (...args: JsonValue[]) => unknown> {
  const state = new CallState();
  state.start(NOW);
  return Object.fromEntries(
    [...BUILTINS].map(([name, spec]) => [
      name,
      (...args: JsonValue[]) => {
        const result = spec.call(args.map(fromJson), state);
        return result === undefined ? undefined : toJson(result);
      },
    ]),
  );
}

beforeAll(async () => {
  const wasm = await readFile(new URL('bundle/policy.wasm', ROOT));
  const data = await readFile(new URL('profiles/strict.json', ROOT), 'utf8');
  const manifest = JSON.parse(await readFile(new URL('bundle/manifest.json', ROOT), 'utf8')) as JsonObject;
  host = new PolicyHost(await PolicyProgram.load(wasm, BUILTINS, DEFAULT_LIMITS), data);
  theirs = sdk.loadPolicySync(wasm, { initial: 200, maximum: 1000 }, sdkBuiltins());
  theirs.setData(JSON.parse(data));
  set = parseReadSet(manifest.input_paths);
});

/** Keys and list members in one order; messages keep theirs. */
function canonical(value: JsonValue): JsonValue {
  if (Array.isArray(value))
    return value.map(canonical).sort((a, b) => (JSON.stringify(a) < JSON.stringify(b) ? -1 : 1));
  if (typeof value !== 'object' || value === null) return value;
  const object = value as JsonObject;
  return Object.fromEntries(
    Object.keys(object)
      .sort()
      .map((key) => [key, canonical(object[key] ?? null)]),
  );
}

const ROLES = [[], ['admin'], ['developer'], ['analyst'], ['data_engineer', 'viewer'], ['guest']];
const TYPES = ['query', 'mutation', 'analytics', 'admin', 'custom'];
const LEVELS = ['low', 'medium', 'high', 'critical'] as const;
const REGIONS = ['eu-west-1', 'cn-north-1'];

function* cases() {
  for (const roles of ROLES) {
    for (const tool_type of TYPES) {
      for (const sensitivity_level of LEVELS) {
        for (const source_region of REGIONS) {
          const even = roles.length % 2 === 0;
          yield makeRequest({
            principal: makePrincipal({ id: 'x', roles, auth: { mfa_verified: even } }, 'keys', 'api-key'),
            facts: { source_region, encryption_enabled: even, rate: { window_seconds: 60, count: even ? 5 : 100_000 } },
            classification: { tool_type, sensitivity_level },
            call: { parameters: { text: 'é😀', data_region: even ? 'eu' : 'us' } },
          });
        }
      }
    }
  }
}

const SERVER = makeServer({ data_region: 'eu', tags: ['phi'] });

describe('the policy host and the SDK', () => {
  test('agree on every decision, whole documents and only what is read alike', () => {
    verifies('SF-40');
    let count = 0;
    for (const request of cases()) {
      const input = buildInput(request, SERVER);
      for (const entrypoint of ['portcullis/main/decision', 'mcp/gateway/context/deny', 'mcp/gateway/trust/deny']) {
        const [expected] = theirs.evaluate(input, theirs.entrypoints[entrypoint] ?? -1);
        for (const shape of [null, shapeFor(null, false), shapeFor(set, false)]) {
          const mine = host.evaluate(entrypoint, input, NOW, shape);
          if (mine.kind !== 'value') expect(mine.kind).toBe(expected === undefined ? 'undefined' : 'value');
          else expect(canonical(mine.value)).toEqual(canonical(expected?.result ?? null));
          count++;
        }
      }
    }
    expect(count).toBe(6 * 5 * 4 * 2 * 3 * 3);
    expect(host.stats.failures).toEqual({});
  });

  test('agree on lists', () => {
    const [first] = cases();
    if (first === undefined) throw new Error('no cases');
    const list = [...cases()].map(({ call }, i) => ({
      ...first,
      call: { ...call, action: 'gateway:tool:discover' as const, tool: `tool ${i}`, parameters: null },
    }));
    const input = buildBatchInput(list, () => SERVER);
    const [expected] = theirs.evaluate(input, theirs.entrypoints['portcullis/main/decisions'] ?? -1);
    for (const shape of [null, shapeFor(set, true)]) {
      const mine = host.evaluate('portcullis/main/decisions', input, NOW, shape);
      expect(mine.kind === 'value' ? (mine.value as JsonValue[]).map(canonical) : mine).toEqual(
        ((expected?.result ?? []) as JsonValue[]).map(canonical),
      );
    }
  });
});

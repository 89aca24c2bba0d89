/** `portcullis policy bench`: what a decision costs in the engine the gateway uses. Source: policy-engine 5. */
import { resolve } from 'node:path';
import { systemClock } from '../core/clock.ts';
import { type DecisionRequest, NO_APPROVAL } from '../core/decision.ts';
import { isJsonObject, type JsonObject, type JsonValue } from '../core/json.ts';
import { makePrincipal } from '../core/principal.ts';
import { loadBundle } from '../policy/bundle.ts';
import { shapeFor } from '../policy/input-shape.ts';
import { createPolicyEngine, type PolicyEngineOptions } from '../policy/opa-engine.ts';
import { BUILTINS } from '../policy/wasm/builtins.ts';
import { PolicyHost } from '../policy/wasm/host.ts';
import { DEFAULT_LIMITS, PolicyProgram } from '../policy/wasm/program.ts';
import { readText, requireReadable } from './input-file.ts';
import type { Io } from './io.ts';
import { CommandError, EXIT, line, UsageError } from './io.ts';
import { type VerificationArguments, verificationRules } from './policy-bundle.ts';

export interface BenchArguments extends VerificationArguments {
  readonly bundle: string;
  readonly data?: string | undefined;
  readonly seconds?: string | undefined;
  readonly json?: boolean | undefined;
}

/** Microseconds of one decision; percentiles are of small groups of them. */
export interface BenchFigures {
  readonly mean: number;
  readonly p50: number;
  readonly p99: number;
  readonly per_second: number;
}

const DEFAULT_ENTRYPOINT = 'portcullis/main/decision';
const WARM_UP = 3000;
/** Decisions timed together: one alone is shorter than the clock is exact. */
const GROUP = 10;
const MAX_GROUPS = 500_000;
const OWN_VERSION = '1';

type Measured = { readonly uncached: BenchFigures; readonly cached: BenchFigures | null };

/** Measures for `--seconds` (default 2) each. Exit 1 when there is no decision to measure. */
export async function benchCommand(rest: readonly string[], options: BenchArguments, io: Io): Promise<number> {
  const [entrypoint = DEFAULT_ENTRYPOINT, name, extra] = rest;
  if (extra !== undefined) throw new UsageError(`unexpected argument ${extra}`);
  const seconds = Number(options.seconds ?? 2);
  if (!(seconds > 0 && seconds <= 600)) {
    throw new UsageError(`--seconds takes a number up to 600, not ${options.seconds}`);
  }
  const file = name === undefined ? null : resolve(io.cwd, name);
  const dataFile = options.data === undefined ? null : resolve(io.cwd, options.data);
  for (const path of [options.bundle, dataFile, file]) {
    if (path !== null) requireReadable(path, path === options.bundle ? 'any' : 'file');
  }
  const location = { bundleDir: options.bundle, dataFile, signing: await verificationRules(options, io) };
  const bundle = await loadBundle(location, location.signing).catch((error: unknown) => {
    throw new CommandError(error instanceof Error ? error.message : String(error));
  });
  const host = new PolicyHost(await PolicyProgram.load(bundle.wasm, BUILTINS, DEFAULT_LIMITS), bundle.dataText);
  if (!host.entrypoints.has(entrypoint)) {
    throw new UsageError(`no entrypoint ${entrypoint}; there are ${[...host.entrypoints.keys()].sort().join(', ')}`);
  }
  let measured: Measured;
  if (file === null) measured = await measureEngine(location, entrypoint, seconds);
  else {
    const input = readInput(file);
    const first = host.evaluate(entrypoint, input, Date.now());
    if (first.kind !== 'value') {
      throw new CommandError(
        first.kind === 'failed' ? `${first.failure}: ${first.detail}` : `${entrypoint} is undefined`,
      );
    }
    const shape = input.version === OWN_VERSION ? shapeFor(bundle.readSet, Array.isArray(input.calls)) : null;
    // What a document alone does not tell (who called, from where) is needed for the key of a remembered decision.
    measured = { uncached: measure(() => host.evaluate(entrypoint, input, Date.now(), shape), seconds), cached: null };
  }
  if (options.json === true) line(io, JSON.stringify({ entrypoint, revision: bundle.revision, ...measured }));
  else print(entrypoint, bundle.revision, measured, io);
  return EXIT.ok;
}

function readInput(file: string): JsonObject {
  const text = readText(file);
  let value: JsonValue;
  try {
    value = JSON.parse(text) as JsonValue;
  } catch (cause) {
    throw new CommandError(`${file} is no JSON: ${(cause as Error).message}`);
  }
  if (!isJsonObject(value)) throw new CommandError(`${file} must hold a JSON object`);
  return isJsonObject(value.input) ? (value.input as JsonObject) : value;
}

/** A tool call of a developer, decided as the gateway does it, input and answer included. */
async function measureEngine(
  location: Pick<PolicyEngineOptions, 'bundleDir' | 'dataFile' | 'signing'>,
  entrypoint: string,
  seconds: number,
): Promise<Measured> {
  const figures = async (entries: number): Promise<BenchFigures> => {
    const engine = await createPolicyEngine({
      ...location,
      entrypoint,
      clock: systemClock,
      cache: { entries, base_ttl_ms: 3_600_000 },
      servers: new Map(),
      decisionLog: null,
      logger: { debug() {}, info() {}, warn() {}, error() {} },
    });
    try {
      if (engine.revision === null) throw new CommandError(engine.status().last_error ?? 'the policy cannot be used');
      const request = sample(entrypoint);
      return measure(() => engine.decide(request), seconds);
    } finally {
      await engine.close();
    }
  };
  return { uncached: await figures(0), cached: await figures(1000) };
}

function sample(entrypoint: string): DecisionRequest {
  return {
    facts: {
      request_id: 'req_bench',
      now: Date.now(),
      endpoint: '/mcp/orders',
      source_ip: '127.0.0.1',
      source_region: 'unknown',
      user_agent: null,
      encryption_enabled: true,
      rate: { window_seconds: 60, count: 1 },
      approval: NO_APPROVAL,
    },
    principal: makePrincipal({ id: 'bench', roles: ['developer'] }, 'bench', 'api-key'),
    call: {
      action: 'gateway:tool:invoke',
      server: null,
      tool: 'execute_query',
      parameters: { query: 'SELECT id FROM orders WHERE id = 7' },
      annotations: null,
      schema_hash: null,
      resource: { type: 'tool', id: 'execute_query', tenant_id: 'default', owner_id: null, permissions: null },
      llm: null,
      classification: { tool_type: 'query', sensitivity_level: 'low', reasons: ['sql:select'], resources: ['orders'] },
    },
    entrypoint,
  };
}

/** Runs for so many seconds and sorts what each group took. */
function measure(decide: () => unknown, seconds: number): BenchFigures {
  for (let i = 0; i < WARM_UP; i++) decide();
  const micros: number[] = [];
  const until = performance.now() + seconds * 1000;
  for (let before = performance.now(); before < until && micros.length < MAX_GROUPS; ) {
    for (let i = 0; i < GROUP; i++) decide();
    const after = performance.now();
    micros.push(((after - before) * 1000) / GROUP);
    before = after;
  }
  micros.sort((a, b) => a - b);
  const at = (part: number): number =>
    round(micros[Math.min(micros.length - 1, Math.floor(micros.length * part))] ?? 0);
  const mean = micros.reduce((sum, one) => sum + one, 0) / Math.max(1, micros.length);
  return { mean: round(mean), p50: at(0.5), p99: at(0.99), per_second: Math.round(1e6 / mean) };
}

const round = (value: number): number => Math.round(value * 1000) / 1000;

function print(entrypoint: string, revision: string, { uncached, cached }: Measured, io: Io): void {
  line(io, `${entrypoint}, policy ${revision}`);
  const show = (name: string, { mean, p50, p99, per_second }: BenchFigures): void =>
    line(io, `${name}  mean ${mean} µs, p50 ${p50} µs, p99 ${p99} µs, ${per_second} a second on one core`);
  show('decided   ', uncached);
  if (cached === null) line(io, 'remembered  not measured: a document alone has no caller to remember it for');
  else show('remembered', cached);
}

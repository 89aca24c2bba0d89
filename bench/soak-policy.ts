/**
 * Good and hostile evaluations mixed, in one process, on the same hosts: every good one has to be right whatever came
 * before it, nothing may throw, and memory may not grow.
 */
import { readFileSync } from 'node:fs';
import { BUILTINS } from '../src/policy/wasm/builtins.ts';
import { type Outcome, PolicyHost } from '../src/policy/wasm/host.ts';
import { DEFAULT_LIMITS, PolicyProgram } from '../src/policy/wasm/program.ts';
import { policyInput } from '../test/helpers/policy-input.ts';

const ROOT = new URL('../', import.meta.url);
const NOW = Date.parse('2025-01-15T10:30:00Z');
const DECISION = 'portcullis/main/decision';
/** Small: the endless loops of the hostile part have to end soon. */
const LIMITS = { ...DEFAULT_LIMITS, fuel: 5_000_000, memoryBytes: 16 * 1024 * 1024, highWaterBytes: 4 * 1024 * 1024 };

export interface SoakReport {
  readonly evaluations: number;
  readonly good: number;
  readonly hostile: number;
  /** Good ones that came out otherwise than expected; has to be 0. */
  readonly wrong: number;
  /** Throws out of the host; has to be 0. */
  readonly thrown: number;
  /** Hostile ones by what became of them. */
  readonly outcomes: Readonly<Record<string, number>>;
  /** Resident megabytes at twenty points in time. */
  readonly rss: readonly number[];
  readonly seconds: number;
}

interface Row {
  readonly role: string;
  readonly tool_type: string;
  readonly sensitivity_level: string;
  readonly production: boolean;
  readonly approved: boolean;
  readonly allow: boolean;
}

const read = (path: string) => readFileSync(new URL(path, ROOT));

function deep(levels: number): unknown {
  let value: unknown = 1;
  for (let i = 0; i < levels; i++) value = i % 2 === 0 ? [value] : { a: value };
  return value;
}

/** Made once: what is measured is the host, not the making of its inputs. */
function hostileInputs(): readonly (readonly [entrypoint: string, input: unknown, oneIn: number])[] {
  const cycle: Record<string, unknown> = {};
  cycle.self = cycle;
  const keys = Object.fromEntries(Array.from({ length: 10_000 }, (_, i) => [`key ${i}`, i]));
  return [
    ['host/conflict', { xs: [1, 2] }, 1],
    ['host/echo', { text: '\ud800' }, 1],
    ['host/failing', { text: 'no time' }, 1],
    ['host/echo', undefined, 1],
    ['host/none', {}, 1],
    ['host/echo', Number.NaN, 1],
    ['host/echo', { a: 1n, b: () => 1 }, 1],
    ['host/patched', { doc: 'no object' }, 1],
    ['host/echo', cycle, 10],
    ['host/echo', deep(1000), 10],
    ['host/echo', deep(100_000), 200],
    ['host/echo', keys, 200],
    ['host/echo', { text: 'x'.repeat(1_000_000) }, 200],
    ['host/endless', {}, 400],
    ['host/hungry', { filler: 'x'.repeat(1000) }, 1000],
  ];
}

/** Runs `count` evaluations, three of four of them good. `progress` hears twenty times how far it is. */
export async function soakPolicy(count: number, progress: (line: string) => void = () => {}): Promise<SoakReport> {
  const load = async (wasm: string, data: string) =>
    new PolicyHost(await PolicyProgram.load(read(wasm), BUILTINS, LIMITS), data);
  const own = await load('policies/bundle/policy.wasm', read('policies/profiles/strict.json').toString());
  const test = await load('test/corpus/policy/host/host.wasm', '{"limits":[1,2]}');
  const rows = JSON.parse(read('test/corpus/policy/matrix.json').toString()) as Row[];
  const inputs = rows.map(policyInput);
  const hostiles = hostileInputs();
  const outcomes: Record<string, number> = {};
  const rss: number[] = [];
  let [good, hostile, wrong, thrown] = [0, 0, 0, 0];
  const started = performance.now();

  const judge = (i: number): void => {
    good++;
    if (i % 3 === 0) {
      const outcome = test.evaluate('host/echo', { i, text: 'Füße 😀' }, NOW);
      const echo = (outcome.kind === 'value' ? outcome.value : {}) as { i?: number; text?: string };
      if (echo.i !== i || echo.text !== 'Füße 😀') wrong++;
      return;
    }
    const outcome = own.evaluate(DECISION, inputs[i % inputs.length], NOW);
    const { allow } = (outcome.kind === 'value' ? outcome.value : {}) as { allow?: boolean };
    if (allow !== rows[i % rows.length]?.allow) wrong++;
  };
  const attack = (i: number): void => {
    const [entrypoint, input, oneIn] = hostiles[Math.floor(i / 4) % hostiles.length] ?? ['', null, 1];
    const round = Math.floor(i / 4 / hostiles.length);
    if (round % oneIn !== 0) {
      judge(i);
      return;
    }
    hostile++;
    // The shipped policy gets the same inputs under its own entrypoint.
    const outcome =
      (round / oneIn) % 2 === 0 ? test.evaluate(entrypoint, input, NOW) : own.evaluate(DECISION, input, NOW);
    const name = nameOf(outcome);
    // Whatever comes, the shipped policy lets nothing through.
    if (outcome.kind === 'value' && (outcome.value as { allow?: boolean } | null)?.allow === true) wrong++;
    outcomes[name] = (outcomes[name] ?? 0) + 1;
  };
  const step = Math.max(1, Math.floor(count / 20));
  for (let i = 0; i < count; i++) {
    try {
      if (i % 4 === 0) attack(i);
      else judge(i);
    } catch {
      thrown++;
    }
    if ((i + 1) % step !== 0) continue;
    rss.push(Math.round(process.memoryUsage.rss() / 1_048_576));
    progress(`${i + 1} evaluations, ${wrong} wrong, ${thrown} thrown, ${rss.at(-1)} MB`);
    // Memory of instances that were replaced is freed between turns of the event loop.
    await new Promise(setImmediate);
  }
  const seconds = (performance.now() - started) / 1000;
  return { evaluations: count, good, hostile, wrong, thrown, outcomes, rss, seconds };
}

function nameOf(outcome: Outcome): string {
  return outcome.kind === 'failed' ? outcome.failure : outcome.kind;
}

/** Megabytes by which the second half of the run (its median) lies above the second quarter: flat is about 0. */
export function growth({ rss }: SoakReport): number {
  const middle = (values: readonly number[]) => values.toSorted((a, b) => a - b)[Math.floor(values.length / 2)] ?? 0;
  const half = Math.floor(rss.length / 2);
  return middle(rss.slice(half)) - middle(rss.slice(Math.floor(half / 2), half));
}

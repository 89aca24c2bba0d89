/**
 * Decisions a bundle brings along (`smoke.json`) and must make as they say before it is used: the mistake that would
 * lock everyone out, or let everyone in, is found before the first request.
 */
import { isJsonObject, type JsonObject, type JsonValue } from '../core/json.ts';
import { readVerdict } from './result.ts';
import type { PolicyHost } from './wasm/host.ts';
import { PolicyLoadError } from './wasm/program.ts';

/** One entry of `smoke.json`, a list. */
export interface SmokeCase {
  /** What a refusal calls it; default: its place in the list. */
  readonly name: string;
  readonly input: JsonObject;
  /** Default: the configured entrypoint. */
  readonly entrypoint: string | null;
  /** RFC 3339 as epoch milliseconds; default: the sample time. */
  readonly clock: number | null;
  readonly expect: { readonly allow: boolean };
}

/** Throws PolicyLoadError. */
export function readSmoke(value: JsonValue): readonly SmokeCase[] {
  if (!Array.isArray(value)) throw new PolicyLoadError('smoke.json must hold a list');
  return value.map((entry: JsonValue, at) => readCase(entry, at));
}

function readCase(entry: JsonValue, at: number): SmokeCase {
  const bad = (why: string) => new PolicyLoadError(`smoke.json[${at}] ${why}`);
  if (!isJsonObject(entry) || entry.input === undefined || !isJsonObject(entry.input)) throw bad('has no input');
  const { input, expect, name, entrypoint, clock } = entry;
  if (expect === undefined || !isJsonObject(expect) || typeof expect.allow !== 'boolean') {
    throw bad('must expect {"allow": true} or {"allow": false}');
  }
  const time = typeof clock === 'string' ? Date.parse(clock) : null;
  if (time !== null && !Number.isFinite(time)) throw bad('has a clock that is no RFC 3339 time');
  return {
    name: typeof name === 'string' ? name : `smoke.json[${at}]`,
    input,
    entrypoint: typeof entrypoint === 'string' ? entrypoint : null,
    clock: time,
    expect: { allow: expect.allow },
  };
}

/** Throws PolicyLoadError with the first decision that is not as expected. */
export function runSmoke(cases: readonly SmokeCase[], host: PolicyHost, entrypoint: string, now: number): void {
  for (const { name, input, entrypoint: own, clock, expect } of cases) {
    const verdict = readVerdict(host.evaluate(own ?? entrypoint, input, clock ?? now));
    if (verdict.failure !== null) throw new PolicyLoadError(`${name}: no decision (${verdict.failure})`);
    if (verdict.allow !== expect.allow) {
      throw new PolicyLoadError(
        `${name}: ${verdict.allow ? 'allowed' : 'denied'}, but ${expect.allow ? 'allow' : 'deny'} is expected`,
      );
    }
  }
}

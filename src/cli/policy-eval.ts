/** `portcullis policy eval`: one entrypoint on one document or on many lines, with the host the gateway uses. */
import { resolve } from 'node:path';
import type { Readable } from 'node:stream';
import { buffer as readAll } from 'node:stream/consumers';
import type { JsonValue } from '../core/json.ts';
import { isJsonObject } from '../core/json.ts';
import { type Bundle, loadBundle } from '../policy/bundle.ts';
import { BUILTINS } from '../policy/wasm/builtins.ts';
import { PolicyHost } from '../policy/wasm/host.ts';
import { DEFAULT_LIMITS, PolicyProgram } from '../policy/wasm/program.ts';
import { parseStrict } from '../protocols/json.ts';
import { DocumentProfile, repeatOf } from './explain-measures.ts';
import { linesOf, openInput, requireReadable } from './input-file.ts';
import type { Io } from './io.ts';
import { CommandError, EXIT, line, UsageError } from './io.ts';
import { type VerificationArguments, verificationRules } from './policy-bundle.ts';

export interface EvaluateOptions extends VerificationArguments {
  readonly data?: string | undefined;
  /** Directory of the compiled policy. */
  readonly bundle: string;
  readonly jsonl?: string | undefined;
  readonly clock?: string | undefined;
  /** Say on standard error what the rules cost over all documents. */
  readonly profile?: boolean | undefined;
  readonly repeat?: string | undefined;
  readonly json?: boolean | undefined;
}

const DEFAULT_ENTRYPOINT = 'portcullis/main/decision';

type Fault = { readonly code: string; readonly message: string };
type Evaluation = { readonly value: JsonValue } | Fault;

/** What is asked of the policy, and the time it sees (epoch milliseconds). */
interface Question {
  readonly input: JsonValue | undefined;
  readonly time: number;
}

export async function evaluateCommand(rest: readonly string[], options: EvaluateOptions, io: Io): Promise<number> {
  const [entrypoint = DEFAULT_ENTRYPOINT, file, extra] = rest;
  if (extra !== undefined) throw new UsageError(`unexpected argument ${extra}`);
  const now = options.clock === undefined ? Date.now() : instant(options.clock);
  if (now === null) throw new UsageError(`--clock is not an RFC 3339 time: ${options.clock}`);
  const repeat = repeatOf(options);
  const bundle = await openBundle(options, io);
  const host = new PolicyHost(await PolicyProgram.load(bundle.wasm, BUILTINS, DEFAULT_LIMITS), bundle.dataText);
  if (!host.entrypoints.has(entrypoint)) {
    throw new UsageError(`no entrypoint ${entrypoint}; there are ${[...host.entrypoints.keys()].sort().join(', ')}`);
  }
  const profile = repeat === 0 ? null : new DocumentProfile(bundle, options.bundle, repeat);
  const lines = options.jsonl !== undefined;
  const input = openInput(options.jsonl ?? file ?? '-', io);
  let failed = false;
  let number = 0;
  for await (const document of lines ? linesOf(input) : wholeOf(input)) {
    number++;
    if (lines && document.toString().trim() === '') continue;
    const question = questionOf(document, now);
    const outcome = 'code' in question ? question : evaluate(host, entrypoint, question);
    if (!('code' in question)) profile?.add(entrypoint, question.input, question.time);
    failed ||= 'code' in outcome;
    const error = 'value' in outcome ? null : { ...(lines ? { line: number } : {}), error: outcome };
    line(io, JSON.stringify('value' in outcome ? outcome.value : error));
  }
  profile?.print(options.json === true, io);
  return failed ? EXIT.failed : EXIT.ok;
}

async function* wholeOf(input: Readable): AsyncGenerator<Buffer> {
  yield await readAll(input);
}

async function openBundle(options: EvaluateOptions, io: Io): Promise<Bundle> {
  const { bundle, data } = options;
  const dataFile = data === undefined ? null : resolve(io.cwd, data);
  for (const path of [bundle, dataFile]) {
    if (path !== null) requireReadable(path, path === bundle ? 'any' : 'file');
  }
  const signing = await verificationRules(options, io);
  return loadBundle({ bundleDir: bundle, dataFile }, signing).catch((error: unknown) => {
    throw new CommandError(error instanceof Error ? error.message : String(error));
  });
}

/** A bare document, or one wrapped as `{"input": …}` with an optional `clock`. */
function questionOf(text: Buffer, now: number): Question | Fault {
  let document: JsonValue;
  try {
    document = parseStrict(text);
  } catch (error) {
    return { code: 'INVALID_REQUEST', message: error instanceof Error ? error.message : 'not JSON' };
  }
  const wrapped = isJsonObject(document) && 'input' in document ? document : null;
  const time = typeof wrapped?.clock === 'string' ? instant(wrapped.clock) : now;
  if (time === null) return { code: 'INVALID_REQUEST', message: 'clock is not an RFC 3339 time' };
  return { input: wrapped === null ? document : wrapped.input, time };
}

function evaluate(host: PolicyHost, entrypoint: string, { input, time }: Question): Evaluation {
  const outcome = host.evaluate(entrypoint, input, time);
  switch (outcome.kind) {
    case 'value':
      return { value: outcome.value };
    case 'undefined':
      return { code: 'UNDEFINED', message: `${entrypoint} is undefined for this input` };
    case 'failed':
      return { code: 'POLICY_EVALUATION_ERROR', message: `${outcome.failure}: ${outcome.detail}` };
  }
}

/** Epoch milliseconds, or null. */
function instant(text: string): number | null {
  const shape = /^\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}(?:\.\d+)?(?:Z|[+-]\d{2}:\d{2})$/;
  const time = shape.test(text) ? Date.parse(text) : Number.NaN;
  return Number.isNaN(time) ? null : time;
}

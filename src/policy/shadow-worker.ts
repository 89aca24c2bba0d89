/**
 * Evaluates a candidate policy on a thread of its own: whatever it does with its time and memory, no request waits for
 * it. Started by `shadow.ts`, to which it answers with differences alone.
 */
import { parentPort, workerData } from 'node:worker_threads';
import { isJsonObject, type JsonObject } from '../core/json.ts';
import { type ActivationOptions, type ActivePolicy, activate, entrypointOf } from './activation.ts';
import { stepBack } from './background.ts';
import { compile } from './compiler.ts';
import { readVerdict, readVerdicts, type Verdict } from './result.ts';
import { compare } from './shadow-compare.ts';
import type {
  ShadowAnswer,
  ShadowBatch,
  ShadowFinding,
  ShadowQuestion,
  ShadowStart,
  ShadowTask,
} from './shadow-wire.ts';
import { PolicyLoadError } from './wasm/program.ts';

stepBack();
const start = workerData as ShadowStart;
const options: ActivationOptions = {
  bundleDir: start.bundleDir,
  dataFile: start.dataFile,
  entrypoint: start.entrypoint,
  listEntrypoint: start.listEntrypoint,
  routes: start.routes,
  limits: start.limits,
  compile: async (dir, { out }) => {
    const result = await compile(dir, { out });
    if (result.kind === 'no-compiler') throw new Error(result.message);
    return result.kind === 'rejected' ? { problems: result.problems } : {};
  },
};
let active: ActivePolicy | null = null;

const send = (answer: ShadowAnswer): void => parentPort?.postMessage(answer);

async function load(): Promise<void> {
  let error: string | null = null;
  try {
    active = await activate(options);
  } catch (fault) {
    error = fault instanceof PolicyLoadError ? fault.message : `unexpected fault: ${String(fault)}`;
  }
  send({ kind: 'loaded', revision: active?.revision ?? null, error });
}

function evaluate(policy: ActivePolicy, question: ShadowQuestion): ShadowFinding[] {
  const { live } = question;
  const verdicts = verdictsOf(policy, question);
  return live.map((one, at) => {
    const verdict = verdicts[at];
    if (verdict === undefined) return { kind: 'failure', added: [], removed: [], candidate: null };
    const found = compare(one, verdict);
    if (found.kind === 'same') return { ...found, candidate: null };
    const { allow, deny, obligations, failure, detail } = verdict;
    return { ...found, candidate: { allow, deny, obligations, failure, detail } };
  });
}

/** As the candidate would decide: a route that it binds to an entrypoint of its own has no list form. */
function verdictsOf(policy: ActivePolicy, question: ShadowQuestion): readonly (Verdict | undefined)[] {
  const { host, shape, listShape } = policy;
  const { isList, input, now, live } = question;
  const names = question.asked.map((asked) => entrypointOf(asked, policy, start.entrypoint));
  const nameOf = (at: number): string => names[at] ?? start.entrypoint;
  if (!isList) return [readVerdict(host.evaluate(nameOf(0), input, now, shape))];
  if (names.every((name) => name === start.entrypoint)) {
    return readVerdicts(host.evaluate(start.listEntrypoint, input, now, listShape), live.length);
  }
  const { calls, ...document } = input as JsonObject & { readonly calls: readonly JsonObject[] };
  return calls.map((call, at) => readVerdict(host.evaluate(nameOf(at), joined(document, call), now)));
}

/** The document of one call of a list: its members replace those of the list's, but metadata is added up. */
function joined(document: JsonObject, call: JsonObject): JsonObject {
  const [shared, own] = [document.gateway_metadata, call.gateway_metadata];
  const metadata =
    isJsonObject(shared ?? null) && isJsonObject(own ?? null)
      ? { ...(shared as JsonObject), ...(own as JsonObject) }
      : (own ?? shared ?? null);
  return { ...document, ...call, gateway_metadata: metadata };
}

function work({ questions }: ShadowBatch): void {
  const policy = active;
  const results = questions.map((question) => {
    if (policy === null) return { id: question.id, us: 0, findings: [] };
    const started = performance.now();
    const findings = evaluate(policy, question);
    return { id: question.id, us: (performance.now() - started) * 1000, findings };
  });
  send({ kind: 'results', results });
}

let loading = load();
parentPort?.on('message', (task: ShadowTask) => {
  if (task.kind === 'reload') loading = loading.then(load);
  else void loading.then(() => work(task));
});

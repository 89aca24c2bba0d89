/**
 * Evaluates a candidate policy on a thread of its own: whatever it does with its time and memory, no request waits for
 * it. Started by `shadow.ts`, to which it answers with differences alone.
 */
import { parentPort, workerData } from 'node:worker_threads';
import { type ActivationOptions, type ActivePolicy, activate } from './activation.ts';
import { stepBack } from './background.ts';
import { compile } from './compiler.ts';
import { readVerdict, readVerdicts } from './result.ts';
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

function evaluate(policy: ActivePolicy, { entrypoint, input, now, live }: ShadowQuestion): ShadowFinding[] {
  const isList = live.length > 1;
  const outcome = policy.host.evaluate(entrypoint, input, now, isList ? policy.listShape : policy.shape);
  const verdicts = isList ? readVerdicts(outcome, live.length) : [readVerdict(outcome)];
  return live.map((one, at) => {
    const verdict = verdicts[at];
    if (verdict === undefined) return { kind: 'failure', added: [], removed: [], candidate: null };
    const found = compare(one, verdict);
    if (found.kind === 'same') return { ...found, candidate: null };
    const { allow, deny, obligations, failure, detail } = verdict;
    return { ...found, candidate: { allow, deny, obligations, failure, detail } };
  });
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

/** `portcullis policy`: build, check, test, evaluate, reload. Source: contracts 5. */
import { existsSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { suggestion } from '../config/problem.ts';
import type { JsonValue } from '../core/json.ts';
import { loadBundle } from '../policy/bundle.ts';
import type { CompileProblem, CompileResult, PolicyTestResult } from '../policy/compiler.ts';
import { compile, runOpaTests, sourceNames } from '../policy/compiler.ts';
import { inBoth, runHostTests } from '../policy/host-tests.ts';
import { type LintFinding, lint } from '../policy/lint.ts';
import { requireReadable } from './input-file.ts';
import type { Io } from './io.ts';
import { CommandError, EXIT, line, UsageError } from './io.ts';
import { benchCommand } from './policy-bench.ts';
import { verifyCommand, writeBundle } from './policy-bundle.ts';
import { coverageOf, printCoverage, thresholdOf } from './policy-coverage.ts';
import { deltaCommand } from './policy-delta.ts';
import { evaluateCommand } from './policy-eval.ts';
import { POLICY_VERBS, policyHelp } from './policy-help.ts';
import { remoteCommand, rollbackCommand } from './policy-remote.ts';
import { replayCommand } from './policy-replay.ts';
import { routeLines, routesReport } from './policy-routes.ts';
import { shadowCommand } from './policy-shadow.ts';
import { readArguments, USUAL_OPTIONS } from './usual-options.ts';

const OPTIONS = {
  ...USUAL_OPTIONS,
  out: { type: 'string' },
  data: { type: 'string' },
  bundle: { type: 'string' },
  jsonl: { type: 'string' },
  clock: { type: 'string' },
  sample: { type: 'string' },
  jobs: { type: 'string' },
  profile: { type: 'boolean' },
  repeat: { type: 'string' },
  coverage: { type: 'boolean' },
  threshold: { type: 'string' },
  engine: { type: 'string' },
  seconds: { type: 'string' },
  url: { type: 'string' },
  revision: { type: 'string' },
  sequence: { type: 'string' },
  from: { type: 'string' },
  to: { type: 'string' },
  'signing-key': { type: 'string' },
  'signing-alg': { type: 'string' },
  keyid: { type: 'string' },
  scope: { type: 'string' },
  key: { type: 'string' },
} as const;

type PolicyArguments = ReturnType<typeof parse>;

const parse = (argv: readonly string[]) => readArguments(argv, OPTIONS);

/** Where the product's own policies are, beside `src` or `dist`. */
const OWN_POLICIES = join(import.meta.dirname, '../../policies');

export async function policyCommand(argv: readonly string[], io: Io): Promise<number> {
  const { values, positionals } = parse(argv);
  const [verb, ...rest] = positionals;
  if (values.help) {
    io.out(policyHelp(verb));
    return EXIT.ok;
  }
  if (verb === undefined) {
    throw new UsageError(`expected ${POLICY_VERBS.slice(0, -1).join(', ')} or ${POLICY_VERBS.at(-1)}`);
  }
  switch (verb) {
    case 'build':
      return build(folder(rest, io), { values, positionals }, io);
    case 'verify':
      return verifyCommand(rest, values, io);
    case 'delta':
      return deltaCommand(rest, values, io);
    case 'rollback':
      return rollbackCommand(values, io);
    case 'check':
      return check(folder(rest, io), values, io);
    case 'test':
      return test(folder(rest, io), values, io);
    case 'eval':
      return evaluateCommand(rest, { ...values, bundle: bundleOf(values.bundle, io) }, io);
    case 'bench':
      return benchCommand(rest, { ...values, bundle: bundleOf(values.bundle, io) }, io);
    case 'replay':
      return replayCommand(rest, { ...values, bundle: bundleOf(values.bundle, io) }, io);
    case 'reload':
    case 'status':
      return remoteCommand(verb, values, io);
    case 'shadow':
      return shadowCommand(values, io);
    default:
      throw new UsageError(`no such command: policy ${verb}${suggestion(verb, POLICY_VERBS)}`);
  }
}

const bundleOf = (named: string | undefined, io: Io): string => folder(named === undefined ? [] : [named], io, 'any');

/** The directory that is named, or else the usual one; a bundle may be an archive. */
function folder(rest: readonly string[], io: Io, what: 'directory' | 'any' = 'directory'): string {
  if (rest.length > 1) throw new UsageError(`unexpected argument ${rest[1]}`);
  const here = resolve(io.cwd, rest[0] ?? 'policies');
  if (rest[0] === undefined) return existsSync(here) ? here : OWN_POLICIES;
  requireReadable(here, what);
  return here;
}

/** What to say of a directory without rules is not left to the compiler. */
async function requireRules(dir: string): Promise<readonly string[]> {
  const names = await sourceNames(dir);
  if (names.length === 0) throw new CommandError(`there is no .rego file in ${dir}`);
  return names;
}

async function build(dir: string, { values }: PolicyArguments, io: Io): Promise<number> {
  await requireRules(dir);
  io.err(`compiling ${dir} …\n`);
  const out = values.out === undefined ? join(dir, 'bundle') : resolve(io.cwd, values.out);
  const result = await compile(dir, { out, env: io.env as NodeJS.ProcessEnv });
  if (result.kind === 'compiled') {
    const archive = await writeBundle(dir, out, result.manifest, values, io);
    if (archive !== null) io.err(`wrote ${archive}\n`);
  }
  return report(result, values.json === true, io, await activeRevision(result, values.out === undefined ? dir : out));
}

/** What `status`, the audit and the decision log call this policy: the data beside it counts too. */
async function activeRevision(result: CompileResult, bundleDir: string): Promise<string | null> {
  return result.kind === 'compiled' ? (await loadBundle({ bundleDir, dataFile: null })).revision : null;
}

const problemText = ({ file, line: row, column, message }: CompileProblem) => `${file}:${row}:${column}: ${message}`;

function report(
  result: CompileResult,
  json: boolean,
  io: Io,
  active: string | null = null,
  good = 'no problems',
): number {
  if (result.kind === 'no-compiler') throw new CommandError(result.message);
  if (result.kind === 'rejected') {
    if (json) line(io, JSON.stringify({ ok: false, problems: result.problems }));
    else for (const problem of result.problems) io.err(`${problemText(problem)}\n`);
    return EXIT.failed;
  }
  const { manifest, wasm, out } = result;
  const revision = active ?? manifest.revision;
  if (json) line(io, JSON.stringify({ ok: true, out, bytes: wasm.length, ...manifest, revision }));
  else line(io, out === null ? good : `${out}: ${wasm.length} bytes, revision ${revision}`);
  return EXIT.ok;
}

const findingText = ({ file, line: row, column, severity, code, message }: LintFinding) =>
  `${file}:${row}:${column}: ${severity} ${code}: ${message}`;

async function check(dir: string, values: PolicyArguments['values'], io: Io): Promise<number> {
  const json = values.json === true;
  const env = io.env as NodeJS.ProcessEnv;
  const findings = await lint(dir, await requireRules(dir), env);
  if ('message' in findings) throw new CommandError(findings.message);
  if (findings.some(({ severity }) => severity === 'error')) {
    if (json) line(io, JSON.stringify({ ok: false, findings }));
    else for (const one of findings) io.err(`${findingText(one)}\n`);
    return EXIT.failed;
  }
  const result = await compile(dir, { env });
  if (result.kind === 'rejected') {
    const refused = result.problems.map((one) => ({ ...one, severity: 'error', code: 'compile' }) as const);
    if (json) line(io, JSON.stringify({ ok: false, findings: [...findings, ...refused] }));
    else for (const one of [...findings, ...refused]) io.err(`${findingText(one)}\n`);
    return EXIT.failed;
  }
  const routes =
    result.kind === 'compiled' ? await routesReport(dir, result.manifest.bindings ?? [], values.config, io) : null;
  const all = [...findings, ...(routes?.findings ?? [])];
  if (!json) {
    for (const one of all) io.err(`${findingText(one)}\n`);
    if (routes !== null) for (const text of routeLines(routes.routes as unknown as JsonValue, [])) line(io, text);
  }
  if (result.kind !== 'compiled' || !json) {
    return report(result, json, io, null, all.length === 0 ? undefined : 'no errors');
  }
  const bound = routes === null ? {} : { routes: routes.routes };
  line(
    io,
    JSON.stringify({ ok: true, out: null, bytes: result.wasm.length, findings: all, ...bound, ...result.manifest }),
  );
  return EXIT.ok;
}

const ENGINES = ['both', 'opa', 'wasm'];

/** By the compiler's interpreter, by the host that decides in the gateway, or by both. */
async function runTests(dir: string, engine: string, env: NodeJS.ProcessEnv): Promise<PolicyTestResult> {
  if (!ENGINES.includes(engine)) throw new UsageError(`--engine is one of ${ENGINES.join(', ')}`);
  const found = await runOpaTests(dir, env);
  if (engine === 'opa' || found.error !== null) return found;
  const hosted = await runHostTests(dir, found, env);
  return engine === 'wasm' ? hosted : inBoth(found, hosted);
}

async function test(dir: string, values: PolicyArguments['values'], io: Io): Promise<number> {
  const json = values.json === true;
  const threshold = thresholdOf(values.threshold);
  io.err(`testing ${dir} …\n`);
  const result = await runTests(dir, values.engine ?? 'both', io.env as NodeJS.ProcessEnv);
  if (result.error !== null) throw new CommandError(result.error);
  const covers = values.coverage === true || threshold > 0;
  if (covers) io.err('measuring what the tests reach …\n');
  const coverage = covers ? await coverageOf(dir, io) : null;
  if (json) line(io, JSON.stringify(coverage === null ? result : { ...result, coverage }));
  else {
    for (const { outcome, file, line: row, name, reason } of result.tests) {
      if (outcome === 'failed') io.err(`${file}:${row}: ${name} failed${reason === undefined ? '' : ` ${reason}`}\n`);
    }
    line(io, `${result.passed} passed, ${result.failed} failed, ${result.skipped} skipped`);
    if (coverage !== null) printCoverage(coverage, threshold, io);
  }
  if (result.tests.length === 0) io.err(`there is no test in ${dir}: *_test.rego with rules named test_…\n`);
  if (coverage !== null && coverage.percent < threshold) return EXIT.failed;
  // A directory without tests has not been tested.
  return result.failed === 0 && result.passed > 0 ? EXIT.ok : EXIT.failed;
}

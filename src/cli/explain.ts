/** `portcullis explain`: why a call is allowed or denied, from an input or from what the decision log holds. */
import { existsSync, statSync } from 'node:fs';
import { dirname, join, resolve } from 'node:path';
import { signingRules } from '../composition/policy-sources.ts';
import type { Config } from '../config/schema.ts';
import { isJsonObject, type JsonObject, type JsonValue } from '../core/json.ts';
import { loadBundle } from '../policy/bundle.ts';
import type { SigningRules } from '../policy/bundle-signing.ts';
import { keptIn } from '../policy/bundle-store.ts';
import { type ExplainRequest, explain } from '../policy/explain/explain.ts';
import { findDecision } from '../policy/explain/find-event.ts';
import { renderExplanation } from '../policy/explain/render.ts';
import { PlanFault } from '../policy/plan/interpreter.ts';
import { PolicyLoadError } from '../policy/wasm/program.ts';
import { configFile, requireConfig } from './config-file.ts';
import { printMeasures, repeatOf } from './explain-measures.ts';
import { readText, requireReadable } from './input-file.ts';
import type { Io } from './io.ts';
import { CommandError, EXIT, line, UsageError } from './io.ts';
import { verificationRules } from './policy-bundle.ts';
import { printable } from './printable.ts';
import { readArguments, USUAL_OPTIONS } from './usual-options.ts';

export const EXPLAIN_HELP = `Usage: portcullis explain --input FILE [--entrypoint NAME] [--clock TIME]
       portcullis explain REQUEST_ID | DECISION_ID --log FILE
       portcullis explain REQUEST_ID | DECISION_ID [-c FILE]
  all of them: [--bundle DIR|FILE] [--data FILE] [--json]
               [--profile [--repeat N]] [--coverage]
               [--key FILE [--signing-alg ALG] [--keyid ID] [--scope SCOPE]]

Says which rules made a decision, with file and line, and of a deny which rules
came closest to allowing it and the expression at which each stopped, with the
values it looked at. Secrets are hidden.

  --input  the document to decide: as policies see it, or {"input": …, "clock": "…"}
  --log    the decision log to look the decision up in; else log, policy and data
           come from the configuration -c names, or from $PORTCULLIS_CONFIG,
           portcullis.yaml or the demo's
  --key    the public key of a signed bundle, as "portcullis policy verify" takes
           it (RS256 unless --signing-alg names another); -c brings the keys along
  --clock  the time the policy sees (RFC 3339); a logged decision has its own
  --bundle the policy, where it is not ./policies, the one -c names or the shipped
           one; --data its data, where they are not beside it
  --profile   instead of why: what each rule costs, the hottest first, with how often
           it was evaluated and came to a value, and the lines with most statements.
           Counts are exact. Times are the median of --repeat runs (default 25) in
           the interpreter of the plan, not in the module that decides: they compare
           rules with one another
  --coverage  instead of why: the lines of the policy this decision reached, and
           those it did not
  --json   print JSON: all of it, with profile and coverage where they are asked for

The policy must be the one that decided: its revision is compared with the log's.
Needs no compiler, only a bundle that holds its plan ("portcullis policy build").
Exits with 0 when it could explain, whatever the decision.
`;

const OPTIONS = {
  ...USUAL_OPTIONS,
  input: { type: 'string' },
  log: { type: 'string' },
  bundle: { type: 'string' },
  data: { type: 'string' },
  clock: { type: 'string' },
  entrypoint: { type: 'string' },
  key: { type: 'string' },
  'signing-alg': { type: 'string' },
  keyid: { type: 'string' },
  scope: { type: 'string' },
  profile: { type: 'boolean' },
  repeat: { type: 'string' },
  coverage: { type: 'boolean' },
} as const;

const DEFAULT_ENTRYPOINT = 'portcullis/main/decision';
const OWN_POLICIES = join(import.meta.dirname, '../../policies');

interface Places {
  readonly bundleDir: string;
  readonly dataFile: string | null;
  readonly log: string | null;
  /** Whose signature the bundle needs; null: nobody's. */
  readonly signing: SigningRules | null;
}

type Values = ReturnType<typeof parse>['values'];

const parse = (argv: readonly string[]) => readArguments(argv, OPTIONS);

export async function explainCommand(argv: readonly string[], io: Io): Promise<number> {
  const { values, positionals } = parse(argv);
  if (values.help) {
    io.out(EXPLAIN_HELP);
    return EXIT.ok;
  }
  const [id, extra] = positionals;
  if (extra !== undefined) throw new UsageError(`unexpected argument ${extra}`);
  if ((id === undefined) === (values.input === undefined)) {
    throw new UsageError('expected --input FILE, or the id of a request or a decision');
  }
  const measures = { repeat: repeatOf(values), coverage: values.coverage === true };
  const places = await findPlaces(values, io);
  const bundle = await loadBundle(places, places.signing).catch((error: unknown) => {
    throw new CommandError(error instanceof Error ? error.message : String(error));
  });
  const request = id === undefined ? fromFile(values, io) : await fromLog(id, places, bundle.revision, io);
  try {
    const explanation = explain(bundle, places.bundleDir, { ...request, ...measures });
    if (values.json === true) line(io, JSON.stringify(explanation));
    else if (measures.repeat > 0 || measures.coverage) printMeasures(explanation, io);
    else for (const text of renderExplanation(explanation)) line(io, printable(text));
  } catch (fault) {
    if (fault instanceof PlanFault || fault instanceof PolicyLoadError) throw new CommandError(fault.message);
    throw fault;
  }
  return EXIT.ok;
}

async function findPlaces(values: Values, io: Io): Promise<Places> {
  const named = (path: string | undefined): string | null => (path === undefined ? null : resolve(io.cwd, path));
  let places: Places = { bundleDir: ownOrHere(io), dataFile: null, log: null, signing: null };
  // A call of the past is one of some configuration: the usual one, unless a log is named. A document by hand is of none.
  const file = configFile(values.config, io);
  if (values.config !== undefined || (values.input === undefined && values.log === undefined && existsSync(file))) {
    const { policy } = (await requireConfig(file, io)).config;
    const beside = (path: string | undefined): string | null =>
      path === undefined ? null : resolve(dirname(file), path);
    places = {
      bundleDir: beside(localBundle(policy.bundle, values)) ?? places.bundleDir,
      dataFile: beside(policy.data),
      log: beside(policy.decision_log?.file),
      // A directory that is named instead was built here, and cannot be signed.
      signing: isDirectory(named(values.bundle)) ? null : signingRules(policy.bundle),
    };
  }
  const chosen: Places = {
    bundleDir: named(values.bundle) ?? places.bundleDir,
    dataFile: named(values.data) ?? places.dataFile,
    log: named(values.log) ?? places.log,
    signing: (await verificationRules(values, io)) ?? places.signing,
  };
  for (const path of [chosen.bundleDir, chosen.dataFile, named(values.log)]) {
    if (path !== null) requireReadable(path, path === chosen.bundleDir ? 'any' : 'file');
  }
  return chosen;
}

const isDirectory = (path: string | null): boolean =>
  path !== null && statSync(path, { throwIfNoEntry: false })?.isDirectory() === true;

/** A bundle of a service lies where the last good one is kept; where none is, --bundle has to name one. */
function localBundle(bundle: Config['policy']['bundle'], values: Values): string | undefined {
  if (typeof bundle === 'string') return bundle;
  if ('file' in bundle) return bundle.file;
  if (values.bundle !== undefined) return undefined;
  if (bundle.persist !== undefined) return keptIn(bundle.persist);
  throw new UsageError(
    'the policy comes from a service: name its directory with --bundle, or ask the gateway (POST /policy/explain)',
  );
}

function ownOrHere(io: Io): string {
  const here = resolve(io.cwd, 'policies');
  return existsSync(here) ? here : OWN_POLICIES;
}

function fromFile(values: Values, io: Io): ExplainRequest {
  const file = resolve(io.cwd, values.input ?? '');
  const text = readText(file);
  let document: JsonValue;
  try {
    document = JSON.parse(text) as JsonValue;
  } catch (cause) {
    throw new CommandError(`${file} is no JSON: ${(cause as Error).message}`);
  }
  if (!isJsonObject(document)) throw new CommandError(`${file} must hold a JSON object`);
  const wrapped = isJsonObject(document.input) ? document : null;
  const clock = values.clock ?? (typeof wrapped?.clock === 'string' ? wrapped.clock : undefined);
  const now = clock === undefined ? Date.now() : Date.parse(clock);
  if (Number.isNaN(now)) throw new UsageError(`--clock is not an RFC 3339 time: ${clock}`);
  const input = wrapped === null ? document : (wrapped.input as JsonObject);
  return { entrypoint: values.entrypoint ?? DEFAULT_ENTRYPOINT, input, now };
}

async function fromLog(id: string, { log }: Places, revision: string, io: Io): Promise<ExplainRequest> {
  if (log === null) throw new UsageError('name the decision log with --log, or with -c a configuration that has one');
  requireReadable(log);
  const search = await findDecision(log, id);
  if (search.kind === 'none') throw new CommandError(`${log} holds no decision of ${id}`);
  if (search.kind === 'no_document') {
    throw new CommandError(`${log} does not hold the document that ${id} was decided on`);
  }
  const { event, input } = search.decision;
  if (event.revision !== revision) {
    throw new CommandError(
      `${event.decision_id} was decided by the policy ${event.revision || '(not named)'}, and the one at hand is ` +
        `${revision}: name the policy of then with --bundle and --data, or ask "portcullis policy replay" what changes`,
    );
  }
  if (search.other > 0) io.err(`${id} has ${search.other} more decisions; name one by its decision_id to see it\n`);
  return { entrypoint: event.entrypoint, input, now: event.now, drawn: event.drawn, masked: event.hidden };
}

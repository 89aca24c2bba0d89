/** Makes a bundle ready to decide: compile if its sources changed, check, try out, warm up. Source: policy-engine 7. */
import { statSync } from 'node:fs';
import { access, mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setImmediate } from 'node:timers/promises';
import type { ClassifiedCall } from '../core/call.ts';
import { type DecisionRequest, NO_APPROVAL } from '../core/decision.ts';
import { makePrincipal } from '../core/principal.ts';
import { type BindableRoute, bindRoutes, type RouteBinding, type RouteClaim } from './bindings.ts';
import { type Bundle, type BundleLocation, loadBundle, staleSources } from './bundle.ts';
import type { SigningRules } from './bundle-signing.ts';
import type { CompileProblem } from './compiler.ts';
import { DataDocument } from './data-document.ts';
import { requireDataShape } from './data-shape.ts';
import { KeyMaker } from './decision-key.ts';
import { buildBatchInput, buildInput } from './input.ts';
import { type ReadSet, shapeFor } from './input-shape.ts';
import { LogRules } from './log-rules.ts';
import { readVerdict, readVerdicts, type Verdict } from './result.ts';
import { runSmoke } from './smoke.ts';
import { BUILTINS } from './wasm/builtins.ts';
import { PolicyHost } from './wasm/host.ts';
import type { ShapeSpec } from './wasm/input-writer.ts';
import { DEFAULT_LIMITS, type HostLimits, PolicyLoadError, PolicyProgram } from './wasm/program.ts';

/**
 * Compiles the .rego files of a directory into `out` (policy.wasm and manifest.json). Faults of the sources are problems;
 * a compiler that is not there is a rejection.
 */
export type PolicyCompiler = (
  dir: string,
  options: { readonly out: string },
) => Promise<{ readonly problems?: readonly CompileProblem[] }>;

export interface ActivationOptions extends BundleLocation {
  readonly entrypoint: string;
  readonly listEntrypoint: string;
  /** Entrypoints that routes name: a bundle without one of them is refused. */
  readonly required?: readonly string[] | undefined;
  /** Routes that the metadata of a bundle may bind to its entrypoints, at their places. */
  readonly routes?: readonly BindableRoute[] | undefined;
  /** Whose signature a bundle file needs; null: nobody's. */
  readonly signing?: SigningRules | null | undefined;
  readonly compile?: PolicyCompiler | undefined;
  readonly limits?: HostLimits | undefined;
  /** True when decisions are logged: then the bundle's own rules for its records are made ready too. */
  readonly logged?: boolean | undefined;
  /** Evaluations before it is in use; default 1000. */
  readonly warmUp?: number | undefined;
}

/** A policy that may decide. */
export interface ActivePolicy {
  readonly revision: string;
  /** What it was made from; its data is the document's, which changes. */
  readonly bundle: Bundle;
  readonly document: DataDocument;
  readonly host: PolicyHost;
  readonly readSet: ReadSet;
  readonly shape: ShapeSpec;
  readonly listShape: ShapeSpec;
  readonly keys: KeyMaker;
  readonly logRules: LogRules | null;
  /** Who decides on each route, at their places; it comes and goes with the policy. */
  readonly bindings: readonly RouteBinding[];
}

/** Who decides on the route of a request. `standard` decides where neither configuration nor policy names anybody. */
export function entrypointOf(
  { entrypoint, place }: Pick<DecisionRequest, 'entrypoint' | 'place'>,
  { bindings }: Pick<ActivePolicy, 'bindings'>,
  standard: string,
): string {
  if (entrypoint !== null) return entrypoint;
  return place === undefined ? standard : (bindings[place]?.entrypoint ?? standard);
}

/** Throws PolicyLoadError: then nothing has changed. */
export async function activate(options: ActivationOptions): Promise<ActivePolicy> {
  return activateBundle(await currentBundle(options), options);
}

/** Makes a bundle ready, wherever it comes from. Throws PolicyLoadError: then nothing has changed. */
export async function activateBundle(bundle: Bundle, options: ActivationOptions): Promise<ActivePolicy> {
  const program = await PolicyProgram.load(bundle.wasm, BUILTINS, options.limits ?? DEFAULT_LIMITS);
  const document = new DataDocument(bundle.data, bundle.dataText);
  const host = new PolicyHost(program, () => document.text());
  const policy: ActivePolicy = {
    revision: bundle.revision,
    bundle,
    document,
    host,
    readSet: bundle.readSet,
    shape: shapeFor(bundle.readSet, false),
    listShape: shapeFor(bundle.readSet, true),
    keys: new KeyMaker(bundle.readSet, bundle.data),
    logRules: options.logged === true ? await LogRules.load(host.entrypoints, bundle.wasm, bundle.dataText) : null,
    bindings: bindRoutes(options.routes ?? [], bundle.claims, options.entrypoint),
  };
  requireDataShape(document.root, host.entrypoints);
  tryOut(policy, options);
  await warmUp(policy, options);
  return policy;
}

/** The bundle as it lies there, or freshly compiled when its sources have changed since. Throws PolicyLoadError. */
export async function currentBundle(options: ActivationOptions): Promise<Bundle> {
  const bundle = await loadBundle(options, options.signing ?? null).catch((fault: unknown) => {
    // Sources without a compiled bundle: a first start. An archive has none, and its fault is what there is to say.
    const place = statSync(options.bundleDir, { throwIfNoEntry: false });
    if (options.compile === undefined || !(fault instanceof PolicyLoadError) || place?.isDirectory() !== true)
      throw fault;
    return null;
  });
  if (bundle !== null) {
    const stale = await staleSources(options.bundleDir, bundle);
    if (stale.length === 0) return bundle;
    if (options.compile === undefined) {
      throw new PolicyLoadError(`the compiled policy is older than ${stale.join(', ')}: run "portcullis policy build"`);
    }
  }
  return compileBundle(options);
}

async function compileBundle(options: ActivationOptions): Promise<Bundle> {
  const out = await mkdtemp(join(tmpdir(), 'portcullis-policy-'));
  try {
    const { problems = [] } = (await options.compile?.(options.bundleDir, { out })) ?? {};
    if (problems.length > 0) throw new PolicyLoadError(problems.map(describe).join('\n'));
    const dataFile = options.dataFile ?? (await ownData(options.bundleDir));
    return await loadBundle({ bundleDir: out, dataFile });
  } catch (cause) {
    if (cause instanceof PolicyLoadError) throw cause;
    throw new PolicyLoadError(`the policy cannot be compiled: ${(cause as Error).message}`, { cause });
  } finally {
    await rm(out, { recursive: true, force: true });
  }
}

/** The data beside the sources, if there is any. */
async function ownData(dir: string): Promise<string | null> {
  const path = join(dir, 'data.json');
  return access(path).then(
    () => path,
    () => null,
  );
}

function describe(problem: CompileProblem): string {
  return `${problem.file}:${problem.line}:${problem.column}: ${problem.message}`;
}

/** A sample request: what it decides is the policy's business, but it has to decide. */
const SAMPLE_CALL: ClassifiedCall = {
  action: 'gateway:tool:invoke',
  server: null,
  tool: 'sample',
  parameters: {},
  annotations: null,
  schema_hash: null,
  resource: { type: 'tool', id: 'sample', tenant_id: 'default', owner_id: null, permissions: null },
  llm: null,
  classification: { tool_type: 'query', sensitivity_level: 'low', reasons: ['sample'], resources: [] },
};

const SAMPLE: DecisionRequest = {
  facts: {
    request_id: 'req_sample',
    now: Date.UTC(2025, 0, 15, 12),
    endpoint: '/sample',
    source_ip: '127.0.0.1',
    source_region: 'unknown',
    user_agent: null,
    encryption_enabled: true,
    rate: { window_seconds: 60, count: 0 },
    approval: NO_APPROVAL,
  },
  principal: makePrincipal({ id: 'sample', roles: ['developer'] }, 'sample', 'api-key'),
  call: SAMPLE_CALL,
  entrypoint: null,
};

/** Throws PolicyLoadError when the policy does not decide, or not as its own smoke decisions expect. */
export function tryOut(policy: ActivePolicy, options: ActivationOptions): void {
  const { entrypoint, listEntrypoint, required = [] } = options;
  const { host } = policy;
  for (const name of [entrypoint, listEntrypoint, ...required]) {
    if (!host.entrypoints.has(name)) throw new PolicyLoadError(`the policy has no entrypoint ${name}`);
  }
  const { now } = SAMPLE.facts;
  const claimed = policy.bundle.claims;
  const absent = claimed.find((claim) => !host.entrypoints.has(claim.entrypoint));
  if (absent !== undefined) throw new PolicyLoadError(`${claimText(absent)}, which is no entrypoint of the policy`);
  // What is bound to a route decides on it as the default one does on the others: it must be able to.
  const input = buildInput(SAMPLE, null);
  for (const name of new Set([entrypoint, ...claimed.map((claim) => claim.entrypoint)])) {
    const single = readVerdict(host.evaluate(name, input, now, policy.shape));
    if (single.failure === null) continue;
    const claim = claimed.find((one) => one.entrypoint === name);
    throw refused(name === entrypoint || claim === undefined ? name : `${claimText(claim)}, which`, single);
  }
  const batch = buildBatchInput([SAMPLE, SAMPLE], () => null);
  for (const one of readVerdicts(host.evaluate(listEntrypoint, batch, now, policy.listShape), 2)) {
    if (one.failure !== null) throw refused(listEntrypoint, one);
  }
  runSmoke(policy.bundle.smoke, host, entrypoint, now);
}

function refused(who: string, { failure, detail }: Pick<Verdict, 'failure' | 'detail'>): PolicyLoadError {
  return new PolicyLoadError(`${who} gives no decision on a sample request (${failure}): ${detail ?? ''}`);
}

function claimText({ route, entrypoint, at }: RouteClaim): string {
  return `${at === null ? '' : `${at}: `}the policy binds ${route} to ${entrypoint}`;
}

const WARM_EVALUATIONS = 1000;
/** Milliseconds of it between two turns of the event loop, and in all: a slow policy is not made fast by repeating it. */
const SLICE_MS = 2;
const WARM_MS = 500;

/** Lets V8 compile what is hot before the first request comes, without keeping other requests waiting. */
async function warmUp(policy: ActivePolicy, options: ActivationOptions): Promise<void> {
  const levels = ['low', 'medium', 'high', 'critical'] as const;
  const names = [...new Set([options.entrypoint, ...policy.bindings.map(({ entrypoint }) => entrypoint)])];
  let spent = 0;
  let slice = 0;
  for (let i = 0; i < (options.warmUp ?? WARM_EVALUATIONS); i++) {
    const sensitivity_level = levels[i % levels.length] ?? 'low';
    const call = { ...SAMPLE_CALL, classification: { ...SAMPLE_CALL.classification, sensitivity_level } };
    const input = buildInput({ ...SAMPLE, call }, null);
    const started = performance.now();
    const name = names[Math.floor(i / levels.length) % names.length] ?? options.entrypoint;
    policy.host.evaluate(name, input, SAMPLE.facts.now, policy.shape);
    const took = performance.now() - started;
    spent += took;
    slice += took;
    if (spent > WARM_MS) return;
    if (slice < SLICE_MS) continue;
    slice = 0;
    await setImmediate();
  }
}

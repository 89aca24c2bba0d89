/** What outlives configurations: stores, audit, metrics, logger; and the reports that every end of a request leaves. */
import { readFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import type { AdminAction } from '../admin/app.ts';
import { shownSwitch } from '../admin/switches.ts';
import type { ApprovalEvent } from '../approvals/approval.ts';
import { auditEnd } from '../audit/build.ts';
import type { FileAuditRecorder } from '../audit/recorder.ts';
import { createAuditRecorder } from '../audit/recorder.ts';
import { createSilentRecorder } from '../audit/silent.ts';
import type { Config } from '../config/schema.ts';
import type { Clock } from '../core/clock.ts';
import { systemClock } from '../core/clock.ts';
import type { ErrorCode, GatewayError } from '../core/errors.ts';
import type { Logger } from '../core/module.ts';
import { scrubText } from '../core/redaction.ts';
import type { DoorRefusal } from '../http/server.ts';
import { fromOwn, type NamedOwnProvider } from '../identity/own-provider.ts';
import { REVOKED } from '../identity/revocations.ts';
import type { Logging } from '../observability/logger.ts';
import { createLogging } from '../observability/logger.ts';
import type { Metrics } from '../observability/metrics.ts';
import { createMetrics } from '../observability/metrics.ts';
import type { RequestEnd } from '../pipeline/pipeline.ts';
import type { TunnelCut } from '../pipeline/running.ts';
import { RunningExchanges } from '../pipeline/running.ts';
import { Refusal } from '../pipeline/stages/decide.ts';
import { createApiKeyStore } from '../stores/api-keys.ts';
import { createApprovalStore } from '../stores/approvals.ts';
import type { Backend, Database, DatabaseOptions } from '../stores/database.ts';
import { openDatabase } from '../stores/database.ts';
import { createKeyUsageStore } from '../stores/key-usage.ts';
import { insuredCounters, openShared } from '../stores/open-shared.ts';
import { borrowed, loadOwnShared } from '../stores/own-shared.ts';
import { loadPepper } from '../stores/pepper.ts';
import type { Shared } from '../stores/shared.ts';
import { createSwitchStore } from '../stores/switches.ts';
import { accountIssuer, openAccountStores } from './account-set.ts';
import { approvalDraft } from './approval-set.ts';
import type { Platform } from './assembly.ts';
import { making, reading } from './setting-fault.ts';
import type { NoticedChange, Switching, SwitchingOptions } from './switching.ts';
import { openSwitching } from './switching.ts';
import { readAuthority } from './upstream-set.ts';
import { writtenFiles } from './written-files.ts';

export interface PlatformOptions {
  readonly baseDir: string;
  readonly clock?: Clock | undefined;
  readonly writeLog?: ((line: string) => void) | undefined;
  readonly storage?: OwnStorage | undefined;
  readonly auth?: readonly NamedOwnProvider[] | undefined;
}

/** Stores that the program around the gateway brings; what is left out is as configured. */
export interface OwnStorage {
  /** Counters, limits, revocations, messages. It stays open when the gateway closes. */
  readonly shared?: Shared;
  /** The SQL database, by how it is reached. Needs `stores.pepper`. The gateway closes it. */
  readonly database?: Backend;
}

export interface OpenPlatform extends Platform {
  readonly audit: FileAuditRecorder;
  /** False with `audit.mode: off`. */
  readonly recording: boolean;
  /** Set by the gateway: the generation in use decides which parameters of a tool are sensitive. */
  sensitiveParams: (server: string | null, tool: string | null) => readonly string[];
  /** Set by the gateway: what the generation in use says of this provider's credentials. */
  credentialFacts: (provider: string) => CredentialFacts;
  readonly switching: Switching;
  close(): Promise<void>;
}

/** What a provider's options say of its credentials. */
export interface CredentialFacts {
  /** Null where there is none, or none is configured. */
  readonly issuer: string | null;
  /** How long a credential is accepted beyond its expiry. */
  readonly graceMs: number;
  /** Its keys are in no database of ours. */
  readonly keysElsewhere?: boolean;
}

/** Options of the many kinds of providers, of which only these two matter here. */
export function credentialFacts(
  config: Pick<Config, 'identity' | 'accounts' | 'public_url'>,
  provider: string,
): CredentialFacts {
  const { identity } = config;
  if (identity[provider]?.kind === 'local') return { issuer: accountIssuer(config), graceMs: 0 };
  const options = new Map(Object.entries(identity[provider] ?? {}));
  const issuer: unknown = options.get('issuer');
  const skew: unknown = options.get('clock_skew_seconds');
  return {
    issuer: typeof issuer === 'string' ? issuer : null,
    graceMs: typeof skew === 'number' ? skew * 1000 : 0,
    keysElsewhere: identity[provider]?.kind === 'remote-key',
  };
}

export async function openPlatform(config: Config, options: PlatformOptions): Promise<OpenPlatform> {
  await using cleanup = new AsyncDisposableStack();
  const { baseDir } = options;
  const clock = options.clock ?? systemClock;
  const version = packageVersion();
  const logging = createLogging({ ...config.logging, ...(options.writeLog ? { write: options.writeLog } : {}) });
  const metrics = createMetrics({ version, node: process.version });
  const onConnectionError = storeTrouble(logging.component('stores'), clock);
  const { storage } = options;
  const backend = storage?.database;
  requireWrittenFiles(config, baseDir, storage);
  const asked = { baseDir, clock, onQuery: countQuery(metrics), onConnectionError, backend };
  const database = cleanup.use(await openDatabase(config.stores.database, asked));
  const shared = cleanup.use(
    storage?.shared === undefined
      ? await openStateOf(config, { baseDir, clock, database, onError: onConnectionError, logging })
      : borrowed(storage.shared),
  );
  const counters = insuredCounters(shared, clock, () => metrics.storeError('shared'));
  const audit = cleanup.use(
    openAudit(config, baseDir, clock, logging, metrics, (...names) => platform.sensitiveParams(...names)),
  );
  if (backend !== undefined && config.stores.pepper === undefined)
    throw new Error('stores.pepper is missing: a database of your own needs it');
  const pepper = loadPepper(config.stores.database, baseDir, config.stores.pepper);
  const keys = createApiKeyStore(database);
  const running = runningExchanges(() => platform);
  const watched = { keys, shared, clock, logger: logging.component('gateway'), running, metrics };
  const switching = cleanup.use(await openSwitches(database, () => platform, watched));
  const kept = cleanup.move();
  const platform: OpenPlatform = {
    baseDir,
    clock,
    logging,
    metrics,
    shared,
    counters,
    audit,
    recording: config.audit.mode !== 'off',
    version,
    keys,
    keyUsage: createKeyUsageStore(database),
    approvals: createApprovalStore(database),
    accounts: openAccountStores(database),
    pepper,
    given: new Map((options.auth ?? []).map(({ name, provider }) => [name, fromOwn(provider)])),
    upgrades: new WeakMap(),
    ...{ switches: switching.board, running, switching },
    sensitiveParams: () => [],
    credentialFacts: () => ({ issuer: null, graceMs: 0 }),
    onEnd: (end) => reportEnd(platform, end),
    onApproval: (event) => reportApproval(platform, event),
    async close() {
      await kept.disposeAsync();
      logging.flush();
    },
  };
  return platform;
}

function requireWrittenFiles(config: Config, baseDir: string, storage: OwnStorage | undefined): void {
  for (const [path, check] of writtenFiles(config, baseDir)) {
    // A database of the program's own is in no file of ours.
    if (path[0] !== 'stores' || storage?.database === undefined) reading(path, check);
  }
}

interface StateEnv {
  readonly baseDir: string;
  readonly clock: Clock;
  readonly database: Database;
  readonly onError: (error: Error) => void;
  readonly logging: Logging;
}

function openStateOf({ stores, mode }: Config, { baseDir, clock, database, onError, logging }: StateEnv) {
  if (typeof stores.shared === 'string') {
    const ca = readAuthority(['stores', 'shared_ca'], stores.shared_ca, baseDir);
    return openShared(stores.shared, { clock, database, kept: [REVOKED], onError, ca });
  }
  const own = stores.shared;
  const env = { name: 'shared', clock, logger: logging.component('stores'), mode, baseDir };
  return making(['stores', 'shared'], () => loadOwnShared(own, env));
}

/** One record and one count for every step of an approval. */
function reportApproval({ audit, metrics }: OpenPlatform, event: ApprovalEvent): void {
  metrics.approvalStep(event.type);
  audit.record(approvalDraft(event));
}

function openAudit(
  { audit }: Config,
  baseDir: string,
  clock: Clock,
  logging: Logging,
  metrics: Metrics,
  sensitiveParams: OpenPlatform['sensitiveParams'],
): FileAuditRecorder {
  return (audit.mode === 'off' ? createSilentRecorder : createAuditRecorder)({
    file: resolve(baseDir, audit.file),
    redact: audit.redact,
    maxValueBytes: audit.max_value_bytes,
    clock,
    logger: logging.component('audit'),
    sensitiveParams,
    onDrop: metrics.auditDropped,
    onEvent: metrics.auditEvent,
    onWriteFailure: metrics.auditWriteFailed,
  });
}

/** At most one line in ten seconds: an outage tells of itself with every try. */
function storeTrouble(logger: Logger, clock: Clock): (error: Error) => void {
  let saidAt = Number.NEGATIVE_INFINITY;
  return (error) => {
    if (clock.now() - saidAt < 10_000) return;
    saidAt = clock.now();
    logger.error({ reason: scrubText(error.message) }, 'store_connection_failed');
  };
}

type Watched = Pick<SwitchingOptions, 'keys' | 'shared' | 'clock' | 'logger' | 'running' | 'metrics'>;

function openSwitches(database: Database, platform: () => OpenPlatform, watched: Watched): Promise<Switching> {
  return openSwitching({
    ...watched,
    store: createSwitchStore(database),
    issuerOf: (provider) => platform().credentialFacts(provider).issuer,
    onNoticed: (change) => reportNoticed(platform(), change),
  });
}

/** @param platform asked when something happens: it is made with what this gives */
function runningExchanges(platform: () => OpenPlatform): RunningExchanges {
  return new RunningExchanges({
    graceMs: (provider) => platform().credentialFacts(provider).graceMs,
    keysElsewhere: (provider) => platform().credentialFacts(provider).keysElsewhere === true,
    onCut: ({ code }) => platform().metrics.exchangeCut(code),
    onTunnelCut: (cut) => reportTunnelCut(platform(), cut),
  });
}

function countQuery(metrics: Metrics): NonNullable<DatabaseOptions['onQuery']> {
  return (operation, seconds, ok) => {
    metrics.store('database', operation, seconds);
    if (!ok) metrics.storeError('database');
  };
}

function packageVersion(): string {
  const manifest = readFileSync(join(import.meta.dirname, '../../package.json'), 'utf8');
  return (JSON.parse(manifest) as { version: string }).version;
}

/** One audit record and one count for every end. */
function reportEnd({ audit, recording, metrics, clock, logging }: OpenPlatform, end: RequestEnd): void {
  if (end.error !== null) logCause(logging, end, end.error);
  const durationMs = clock.now() - end.received.receivedAt;
  // Events are not even built when nobody keeps them.
  if (recording) auditEnd(audit, { ...end, durationMs });
  reportWaived(metrics, end);
  const flag = end.error?.flag ?? 'OK';
  if (end.error?.code === 'RATE_LIMIT_EXCEEDED') {
    metrics.rateLimited(end.principal === null || end.principal.type === 'anonymous' ? 'ip' : 'principal');
  }
  const { decisions, message } = end;
  // Permitted and sent: what came back, or 0 for no answer of its own.
  if (decisions !== null && message?.plan.kind === 'upstream' && !(end.error instanceof Refusal)) {
    metrics.upstream(message.plan.upstream, end.error === null ? end.status : 0);
  }
  if (end.route === null) metrics.refused(flag);
  else
    metrics.route(end.route.id, end.route.protocol).observe(outcomeOf(end.error, end.status), flag, durationMs / 1000);
}

/** What a list left out is no attempt. */
function reportWaived(metrics: Metrics, { route, decisions, message }: RequestEnd): void {
  if (route?.mode !== 'report' || decisions === null || message?.mode === 'filter') return;
  for (const { would_deny } of decisions) {
    if (would_deny !== undefined) metrics.wouldDeny(route.id, would_deny.code);
  }
}

/** Said where it happened already, or nobody's fault. */
const NOT_LOGGED: ReadonlySet<ErrorCode> = new Set(['AUTH_UNAVAILABLE', 'CLIENT_CLOSED']);

/** The caller reads a sentence; what was behind it is for the operator. A breaker that opens ends the repetition. */
function logCause(logging: Logging, { received, route }: RequestEnd, error: GatewayError): void {
  const { cause } = error.extras;
  if (cause === undefined || error.status < 500 || NOT_LOGGED.has(error.code)) return;
  const logger = logging.component('gateway');
  const fields = { request_id: received.id, route: route?.id ?? null, code: error.code, err: cause };
  if (error.code === 'INTERNAL_ERROR') logger.error(fields, 'request_failed');
  else logger.warn(fields, 'request_failed');
}

function outcomeOf(error: GatewayError | null, status: number): 'allowed' | 'denied' | 'failed' {
  if (error === null) return status >= 500 ? 'failed' : 'allowed';
  return error.status === 401 || error.status === 403 || error.status === 429 ? 'denied' : 'failed';
}

/** A request that the door turned away: it has no route, but it has an end. */
export function reportRefusal({ audit, metrics }: OpenPlatform, refusal: DoorRefusal): void {
  const { error } = refusal;
  metrics.refused(error.flag);
  audit.record({
    event_type: 'request_refused',
    ...nobody(refusal.id, refusal.address, refusal.received?.headers['user-agent'] ?? null),
    route: null,
    method: refusal.method ?? '',
    path: scrubText(refusal.target ?? ''),
    action: null,
    server_name: null,
    tool_name: null,
    outcome: outcomeOf(error, error.status),
    status: error.status,
    code: error.code,
    flag: error.flag,
    duration_ms: 0,
  });
}

/** What an operator did on the administration listener. */
export function reportAdminAction(
  { audit }: OpenPlatform,
  { received, operation, outcome, details }: AdminAction,
): void {
  audit.record({
    event_type: 'admin_action',
    ...nobody(received.id, received.peer.address, received.headers['user-agent'] ?? null),
    operation,
    outcome,
    details,
  });
}

/** What another process, or a command beside it, switched: each gateway's records say when it took effect there. */
function reportNoticed({ audit, logging }: OpenPlatform, { operation, record }: NoticedChange): void {
  const details = shownSwitch(record);
  audit.record({ event_type: 'admin_action', ...nobody(null, null, null), operation, outcome: 'allowed', details });
  logging.component('gateway').warn(details, operation === 'switch:off' ? 'switched_off' : 'switched_on');
}

/** A tunnel's request was recorded when it began; this is how it ended. */
function reportTunnelCut({ audit, clock }: OpenPlatform, { entry, error }: TunnelCut): void {
  const { received, principal, route } = entry;
  const durationMs = clock.now() - received.receivedAt;
  auditEnd(audit, { received, principal, route: { id: route }, status: SWITCHING_PROTOCOLS, error, durationMs });
}

const SWITCHING_PROTOCOLS = 101;

const nobody = (request_id: string | null, source_ip: string | null, user_agent: string | null) => ({
  request_id,
  tenant_id: null,
  user_id: null,
  principal_type: null,
  auth_provider: null,
  key_id: null,
  source_ip,
  user_agent: user_agent === null ? null : scrubText(user_agent),
  session_id: null,
});

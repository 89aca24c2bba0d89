/** What outlives configurations: stores, audit, metrics, logger; and the reports that every end of a request leaves. */
import { readFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import type { AdminAction } from './admin/app.ts';
import type { Platform } from './assembly.ts';
import { auditEnd } from './audit/build.ts';
import type { FileAuditRecorder } from './audit/recorder.ts';
import { createAuditRecorder } from './audit/recorder.ts';
import { createSilentRecorder } from './audit/silent.ts';
import type { Config } from './config/schema.ts';
import type { Clock } from './core/clock.ts';
import { systemClock } from './core/clock.ts';
import type { ErrorCode, GatewayError } from './core/errors.ts';
import { scrubText } from './core/redaction.ts';
import type { DoorRefusal } from './http/server.ts';
import type { Logging } from './observability/logger.ts';
import { createLogging } from './observability/logger.ts';
import type { Metrics } from './observability/metrics.ts';
import { createMetrics } from './observability/metrics.ts';
import type { RequestEnd } from './pipeline/pipeline.ts';
import { Refusal } from './pipeline/stages/decide.ts';
import { createApiKeyStore } from './stores/api-keys.ts';
import type { DatabaseOptions } from './stores/database.ts';
import { openDatabase } from './stores/database.ts';
import { createMemoryShared } from './stores/memory-shared.ts';
import { loadPepper } from './stores/pepper.ts';

export interface PlatformOptions {
  readonly baseDir: string;
  readonly clock?: Clock | undefined;
  readonly writeLog?: ((line: string) => void) | undefined;
}

export interface OpenPlatform extends Platform {
  readonly audit: FileAuditRecorder;
  /** False with `audit.mode: off`. */
  readonly recording: boolean;
  /** Set by the gateway: the generation in use decides which parameters of a tool are sensitive. */
  sensitiveParams: (server: string | null, tool: string | null) => readonly string[];
  close(): Promise<void>;
}

export async function openPlatform(config: Config, options: PlatformOptions): Promise<OpenPlatform> {
  await using cleanup = new AsyncDisposableStack();
  const { baseDir } = options;
  const clock = options.clock ?? systemClock;
  const version = packageVersion();
  const logging = createLogging({ ...config.logging, ...(options.writeLog ? { write: options.writeLog } : {}) });
  const metrics = createMetrics({ version, node: process.version });
  const database = cleanup.use(
    await openDatabase(config.stores.database, { baseDir, clock, onQuery: countQuery(metrics) }),
  );
  const shared = cleanup.use(createMemoryShared({ clock }));
  const audit = cleanup.use(
    (config.audit.mode === 'off' ? createSilentRecorder : createAuditRecorder)({
      file: resolve(baseDir, config.audit.file),
      redact: config.audit.redact,
      maxValueBytes: config.audit.max_value_bytes,
      clock,
      logger: logging.component('audit'),
      sensitiveParams: (server, tool) => platform.sensitiveParams(server, tool),
      onDrop: metrics.auditDropped,
      onEvent: metrics.auditEvent,
      onWriteFailure: metrics.auditWriteFailed,
    }),
  );
  const pepper = loadPepper(config.stores.database, baseDir, config.stores.pepper);
  const kept = cleanup.move();
  const platform: OpenPlatform = {
    baseDir,
    clock,
    logging,
    metrics,
    shared,
    audit,
    recording: config.audit.mode !== 'off',
    version,
    keys: createApiKeyStore(database),
    pepper,
    upgrades: new WeakMap(),
    sensitiveParams: () => [],
    onEnd: (end) => reportEnd(platform, end),
    async close() {
      await kept.disposeAsync();
      logging.flush();
    },
  };
  return platform;
}

function countQuery(metrics: Metrics): NonNullable<DatabaseOptions['onQuery']> {
  return (operation, seconds, ok) => {
    metrics.store('database', operation, seconds);
    if (!ok) metrics.storeError('database');
  };
}

function packageVersion(): string {
  const manifest = readFileSync(join(import.meta.dirname, '../package.json'), 'utf8');
  return (JSON.parse(manifest) as { version: string }).version;
}

/** One audit record and one count for every end. */
function reportEnd({ audit, recording, metrics, clock, logging }: OpenPlatform, end: RequestEnd): void {
  if (end.error !== null) logCause(logging, end, end.error);
  const durationMs = clock.now() - end.received.receivedAt;
  // Events are not even built when nobody keeps them.
  if (recording) auditEnd(audit, { ...end, durationMs });
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

const nobody = (request_id: string, source_ip: string, user_agent: string | null) => ({
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

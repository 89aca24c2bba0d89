/**
 * Writes decisions to a file in the event format of OPA's decision log, one JSON line each. Events wait in memory and
 * are turned into text after the request; what does not fit is dropped and counted, and no request ever waits.
 */
import { open } from 'node:fs/promises';
import { hostname } from 'node:os';
import type { Decision, DecisionRequest } from '../core/decision.ts';
import type { JsonObject, JsonValue } from '../core/json.ts';
import type { Logger } from '../core/module.ts';
import { isSensitiveName, REDACTED, scrubText } from '../core/redaction.ts';
import { GATEWAY_VERSION, isoTime, type PolicyInput } from './input.ts';

export interface LoggedDecision {
  readonly decision: Decision;
  readonly request: DecisionRequest;
  readonly entrypoint: string;
  /** Null where the document stands in another event of the same evaluation. */
  readonly input: PolicyInput | null;
}

export interface DecisionLog {
  /** Never throws and never waits. */
  record(event: LoggedDecision): void;
  readonly dropped: number;
  flush(): Promise<void>;
  close(): Promise<void>;
}

const MAX_WAITING = 10_000;
const MAX_PER_WRITE = 500;
const FLUSH_MS = 100;
const MAX_TEXT = 4096;
const MAX_DEPTH = 32;

/** Opens (or creates, readable by the owner only) the file at the first write. */
export function openDecisionLog(file: string, logger: Logger): DecisionLog {
  return new FileDecisionLog(file, logger);
}

class FileDecisionLog implements DecisionLog {
  readonly #file: string;
  readonly #logger: Logger;
  readonly #waiting: LoggedDecision[] = [];
  #timer: NodeJS.Timeout | null = null;
  #writing: Promise<void> = Promise.resolve();
  dropped = 0;

  constructor(file: string, logger: Logger) {
    this.#file = file;
    this.#logger = logger;
  }

  record(event: LoggedDecision): void {
    if (this.#waiting.length >= MAX_WAITING) {
      if (this.dropped++ === 0)
        this.#logger.warn({ file: this.#file }, 'the decision log cannot keep up; events are dropped');
      return;
    }
    this.#waiting.push(event);
    this.#timer ??= setTimeout(() => void this.flush(), FLUSH_MS).unref();
  }

  flush(): Promise<void> {
    if (this.#timer !== null) clearTimeout(this.#timer);
    this.#timer = null;
    this.#writing = this.#writing.then(() => this.#drain());
    return this.#writing;
  }

  async #drain(): Promise<void> {
    if (this.#waiting.length === 0) return;
    try {
      await using handle = await open(this.#file, 'a', 0o600);
      while (this.#waiting.length > 0) {
        const events = this.#waiting.slice(0, MAX_PER_WRITE);
        await handle.appendFile(events.map(formatEvent).join(''));
        this.#waiting.splice(0, events.length);
      }
    } catch (cause) {
      this.dropped += this.#waiting.length;
      this.#waiting.length = 0;
      this.#logger.error({ file: this.#file, reason: (cause as Error).message }, 'the decision log cannot be written');
    }
  }

  async close(): Promise<void> {
    await this.flush();
  }
}

const LABELS = { id: hostname(), version: GATEWAY_VERSION, app: 'portcullis' };

/** One line. Masked places are named in `masked`, as OPA does. */
export function formatEvent({ decision, request, entrypoint, input }: LoggedDecision): string {
  const masked: string[] = [];
  const sensitive = sensitiveNames(input);
  const shown = input !== null && isMetadataOnly(decision) ? { ...input, parameters: null } : input;
  if (shown !== input) masked.push('/input/parameters');
  const event = {
    labels: LABELS,
    decision_id: decision.decision_id,
    bundles: { portcullis: { revision: decision.revision } },
    path: entrypoint,
    ...(shown === null
      ? { input: callOnly(request) }
      : { input: mask(shown as unknown as JsonValue, '/input', sensitive, masked, 0) }),
    result: { allow: decision.allow, deny: decision.deny, obligations: decision.obligations },
    ...(masked.length === 0 ? {} : { masked }),
    ...(decision.failure === null ? {} : { error: { code: decision.failure } }),
    requested_by: request.facts.source_ip,
    timestamp: isoTime(request.facts.now),
    metrics: {
      timer_rego_query_eval_ns: Math.round(decision.eval_us * 1000),
      counter_cache_hit: decision.cached ? 1 : 0,
    },
    req_id: request.facts.request_id,
    nd_builtin_cache: { 'time.now_ns': { '[]': request.facts.now * 1e6 } },
  };
  return `${JSON.stringify(event)}\n`;
}

/** A policy may keep a call's arguments out of the records. */
function isMetadataOnly({ obligations }: Decision): boolean {
  return obligations.some((one) => one.type === 'audit' && one.level === 'metadata');
}

/** A call of a list: the document it belongs to is in the event of the list's first call. */
function callOnly({ call }: DecisionRequest): JsonObject {
  const { tool_type, sensitivity_level } = call.classification;
  return {
    action: call.action,
    server_name: call.server,
    tool_name: call.tool,
    gateway_metadata: { tool_type, sensitivity_level },
  };
}

function sensitiveNames(input: PolicyInput | null): ReadonlySet<string> {
  const named = input?.tool?.sensitive_params;
  return new Set(Array.isArray(named) ? named.map(String) : []);
}

function mask(value: JsonValue, path: string, names: ReadonlySet<string>, masked: string[], depth: number): JsonValue {
  if (typeof value === 'string') return maskText(value, path, masked);
  if (typeof value !== 'object' || value === null) return value;
  if (depth > MAX_DEPTH) return REDACTED;
  if (Array.isArray(value)) {
    return value.map((item: JsonValue, i) => mask(item, `${path}/${i}`, names, masked, depth + 1));
  }
  const inParameters = path.startsWith('/input/parameters');
  const out: Record<string, JsonValue> = Object.create(null);
  for (const [key, item] of Object.entries(value as JsonObject)) {
    const at = `${path}/${key.replaceAll('~', '~0').replaceAll('/', '~1')}`;
    if (inParameters && (names.has(key) || isSensitiveName(key))) {
      masked.push(at);
      out[key] = REDACTED;
    } else out[key] = mask(item, at, names, masked, depth + 1);
  }
  return out;
}

function maskText(text: string, path: string, masked: string[]): string {
  const cut = text.length > MAX_TEXT ? `${text.slice(0, MAX_TEXT)}…` : text;
  const clean = scrubText(cut);
  if (clean !== text) masked.push(path);
  return clean;
}

/**
 * A decision as an event of OPA's decision log (openpolicyagent.org/docs/latest/management-decision-logs), with what is
 * secret by its name or its look hidden before anything else sees the event. It holds what a replay needs: entrypoint,
 * input, result, and the one time that the policy saw.
 */
import { hostname } from 'node:os';
import type { Decision, DecisionRequest } from '../core/decision.ts';
import type { JsonObject, JsonValue } from '../core/json.ts';
import { isSensitiveName, REDACTED, scrubText } from '../core/redaction.ts';
import { GATEWAY_VERSION, isoTime, type PolicyInput } from './input.ts';
import type { LogRules } from './log-rules.ts';
import type { Drawn } from './wasm/imports.ts';
import { toJson } from './wasm/values.ts';

export interface LoggedDecision {
  readonly decision: Decision;
  readonly request: DecisionRequest;
  readonly entrypoint: string;
  /** Null where the document stands in another event of the same evaluation. */
  readonly input: PolicyInput | null;
  /** Names the evaluation that decided several calls at once. */
  readonly batchId?: string | undefined;
  /** What the policy that decided says about its records; null when it says nothing. */
  readonly rules?: LogRules | null | undefined;
  /** What the policy drew by chance; null: nothing, or it is not known (a remembered decision). */
  readonly drawn?: Drawn | null | undefined;
}

/** An event before it becomes text; the members are those of OPA's log. */
export interface LogEvent {
  input?: JsonValue;
  result?: JsonValue;
  nd_builtin_cache?: JsonValue;
  erased?: string[];
  masked?: string[];
  custom?: Record<string, JsonValue>;
  readonly [member: string]: unknown;
}

const MAX_TEXT = 4096;
const MAX_DEPTH = 32;
/** Values of one document that are written down; the rest of a longer one is left out. */
const MAX_VALUES = 20_000;

/** What goes along while a document is copied. */
interface Copying {
  readonly sensitive: ReadonlySet<string>;
  readonly masked: string[];
  left: number;
}
const NONE: ReadonlySet<string> = new Set();
/** Who reports: the same in decision log and status reports. */
export const LABELS = { id: hostname(), version: GATEWAY_VERSION, app: 'portcullis' };

/** Masked places are named in `masked`, as OPA does. The event shares nothing with the request that could be changed. */
export function eventOf(logged: LoggedDecision): LogEvent {
  const { decision, request, entrypoint, input, batchId } = logged;
  const masked: string[] = [];
  const shown = input !== null && isMetadataOnly(decision) ? { ...input, parameters: null } : input;
  if (shown !== input) masked.push('/input/parameters');
  const document =
    shown === null
      ? callOnly(request)
      : copy(
          shown as unknown as JsonValue,
          '/input',
          { sensitive: sensitiveNames(input), masked, left: MAX_VALUES },
          0,
        );
  return {
    labels: LABELS,
    decision_id: decision.decision_id,
    ...(batchId === undefined ? {} : { batch_decision_id: batchId }),
    bundles: { portcullis: { revision: decision.revision } },
    path: entrypoint,
    input: document,
    result: resultOf(decision, masked),
    ...(masked.length === 0 ? {} : { masked }),
    ...(decision.failure === null ? {} : { error: { code: decision.failure } }),
    ...(request.mode === 'report' ? { custom: { mode: 'report', would_deny: !decision.allow } } : {}),
    requested_by: request.facts.source_ip,
    timestamp: isoTime(request.facts.now),
    metrics: {
      timer_rego_query_eval_ns: Math.round(decision.eval_us * 1000),
      counter_cache_hit: decision.cached ? 1 : 0,
    },
    req_id: request.facts.request_id,
    nd_builtin_cache: { 'time.now_ns': { '[]': request.facts.now * 1e6 }, ...byBuiltin(logged.drawn ?? null) },
  };
}

/** As OPA writes them: by builtin, and by its arguments as JSON. */
function byBuiltin(drawn: Drawn | null): JsonObject {
  const out: Record<string, Record<string, JsonValue>> = {};
  for (const [name, value] of drawn ?? []) {
    const blank = name.indexOf(' ');
    const builtin = name.slice(0, blank);
    out[builtin] = { ...out[builtin], [name.slice(blank + 1)]: toJson(value) };
  }
  return out;
}

/** Messages and obligations may have been made of the request, or of a secret in the policy's data. */
function resultOf({ allow, deny, obligations }: Decision, masked: string[]): JsonObject {
  const copying: Copying = { sensitive: NONE, masked, left: MAX_VALUES };
  const shown = obligations.map((one, at) => {
    if (one.type !== 'set_header' || !isSensitiveName(one.name)) return one;
    masked.push(`/result/obligations/${at}/value`);
    return { ...one, value: REDACTED };
  });
  const result = { allow, deny, obligations: shown } as unknown as JsonObject;
  return copy(result, '/result', copying, 0) as JsonObject;
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

function copy(value: JsonValue, path: string, copying: Copying, depth: number): JsonValue {
  if (typeof value === 'string') return copyText(value, path, copying.masked);
  if (typeof value !== 'object' || value === null) return value;
  if (depth > MAX_DEPTH || copying.left <= 0) {
    copying.masked.push(path);
    return REDACTED;
  }
  if (Array.isArray(value)) return copyList(value as readonly JsonValue[], path, copying, depth);
  const inParameters = path.startsWith('/input/parameters');
  const out: Record<string, JsonValue> = Object.create(null);
  for (const [key, item] of Object.entries(value as JsonObject)) {
    if (copying.left-- <= 0) {
      copying.masked.push(path);
      return REDACTED;
    }
    const at = `${path}/${key.replaceAll('~', '~0').replaceAll('/', '~1')}`;
    if (inParameters && (copying.sensitive.has(key) || isSensitiveName(key))) {
      copying.masked.push(at);
      out[key] = REDACTED;
    } else out[key] = copy(item, at, copying, depth + 1);
  }
  return out;
}

function copyList(list: readonly JsonValue[], path: string, copying: Copying, depth: number): JsonValue {
  const kept = list.slice(0, Math.max(0, copying.left));
  copying.left -= kept.length;
  if (kept.length < list.length) copying.masked.push(path);
  return kept.map((item, i) => copy(item, `${path}/${i}`, copying, depth + 1));
}

function copyText(text: string, path: string, masked: string[]): string {
  const cut = text.length > MAX_TEXT ? `${text.slice(0, MAX_TEXT)}…` : text;
  const clean = scrubText(cut);
  if (clean !== text) masked.push(path);
  return clean;
}

/** Reads what the policy answered. Whatever is not exactly a decision denies. Source: design 2.5, contracts 3. */
import type { DecisionFailure, Obligation, Violation } from '../core/decision.ts';
import { type ErrorCode, isErrorCode } from '../core/errors.ts';
import { isJsonObject, type JsonObject, type JsonValue } from '../core/json.ts';
import type { Outcome } from './wasm/host.ts';
import { compareText } from './wasm/values.ts';

/** A decision before it gets an id. */
export interface Verdict {
  readonly allow: boolean;
  readonly deny: readonly Violation[];
  readonly obligations: readonly Obligation[];
  readonly failure: DecisionFailure | null;
  /** Epoch milliseconds after which it must not be used again, or null. */
  readonly validUntil: number | null;
  /** It depends on the time of day or on chance. */
  readonly volatile: boolean;
  /** For the operator: why there is no decision. */
  readonly detail: string | null;
}

const NONE: readonly never[] = Object.freeze([]);
const SEVERITIES: readonly string[] = ['low', 'medium', 'high', 'critical'];
const FAILED_PACKAGE = 'portcullis';

const MESSAGES: Readonly<Record<DecisionFailure, string>> = {
  no_bundle: 'No usable policy is loaded',
  undefined: 'The policy gives no decision on this request',
  abort: 'The policy could not be evaluated',
  timeout: 'The policy took too long on this request',
  memory: 'The policy needed too much memory on this request',
  bad_input: 'The request cannot be put before the policy',
  bad_result: 'The policy gave an answer that is no decision',
  unknown_obligation: 'The policy demands something this gateway cannot do',
};

/** The deny that stands in where no decision exists. */
export function failedVerdict(failure: DecisionFailure, detail: string | null): Verdict {
  const code: ErrorCode = failure === 'no_bundle' ? 'POLICY_UNAVAILABLE' : 'POLICY_EVALUATION_ERROR';
  return {
    allow: false,
    deny: [{ package: FAILED_PACKAGE, code, message: MESSAGES[failure], severity: 'critical' }],
    obligations: NONE,
    failure,
    validUntil: null,
    volatile: true,
    detail,
  };
}

/** The verdict of a single evaluation. */
export function readVerdict(outcome: Outcome): Verdict {
  if (outcome.kind === 'failed') return failedVerdict(outcome.failure, outcome.detail);
  if (outcome.kind === 'undefined') return failedVerdict('undefined', null);
  return parseVerdict(outcome.value, outcome.volatile);
}

/** The verdicts of a list evaluation: as many as were asked for, or a deny for each. */
export function readVerdicts(outcome: Outcome, count: number): readonly Verdict[] {
  const all = (verdict: Verdict): readonly Verdict[] => Array.from({ length: count }, () => verdict);
  if (outcome.kind !== 'value') return all(readVerdict(outcome));
  const { value } = outcome;
  if (!Array.isArray(value) || value.length !== count) {
    return all(failedVerdict('bad_result', `a list of ${count} decisions was expected`));
  }
  return parseList(value as readonly JsonValue[], outcome.volatile);
}

/** Equal neighbours are the same object: what was checked once need not be checked again. */
function parseList(items: readonly JsonValue[], volatile: boolean): Verdict[] {
  const out: Verdict[] = [];
  let last: JsonValue | undefined;
  let verdict: Verdict | undefined;
  for (const item of items) {
    if (verdict === undefined || item !== last) verdict = parseVerdict(item, volatile);
    last = item;
    out.push(verdict);
  }
  return out;
}

function parseVerdict(value: JsonValue, volatile: boolean): Verdict {
  if (!isJsonObject(value) || typeof value.allow !== 'boolean') return bad('"allow" is missing');
  const deny = parseDeny(value.deny);
  if (deny === null) return bad('"deny" is no list of violations');
  const validUntil = parseTime(value.valid_until);
  if (validUntil === undefined) return bad('"valid_until" is no time');
  const obligations = parseObligations(value.obligations);
  if (typeof obligations === 'string') return failedVerdict('unknown_obligation', obligations);
  if (value.allow && deny.length === 0) return permitted(obligations, validUntil, volatile);
  const reasons = deny.length > 0 ? deny : [violation('POLICY_DENIED', 'Denied by policy', 'medium')];
  return { allow: false, deny: reasons, obligations, failure: null, validUntil, volatile, detail: null };
}

function bad(detail: string): Verdict {
  return failedVerdict('bad_result', detail);
}

function violation(code: ErrorCode, message: string, severity: Violation['severity']): Violation {
  return { package: FAILED_PACKAGE, code, message, severity };
}

/** What must happen before a call may pass stands against an allow. */
function permitted(obligations: readonly Obligation[], validUntil: number | null, volatile: boolean): Verdict {
  const deny: Violation[] = [];
  for (const obligation of obligations) {
    if (obligation.type === 'require_approval') {
      deny.push(violation('APPROVAL_REQUIRED', 'A human approval is required', 'high'));
    } else if (obligation.type === 'require_mfa') {
      deny.push(violation('MFA_REQUIRED', 'Multi-factor authentication is required', 'high'));
    }
  }
  return { allow: deny.length === 0, deny, obligations, failure: null, validUntil, volatile, detail: null };
}

function parseDeny(value: JsonValue | undefined): readonly Violation[] | null {
  if (value === undefined || !Array.isArray(value)) return null;
  if (value.length === 0) return NONE;
  const deny: Violation[] = [];
  for (const item of value as readonly JsonValue[]) {
    if (!isJsonObject(item)) return null;
    const { package: from, code, message, severity } = item;
    if (typeof from !== 'string' || typeof message !== 'string') return null;
    if (typeof severity !== 'string' || !SEVERITIES.includes(severity)) return null;
    if (typeof code !== 'string' || !isErrorCode(code)) return null;
    deny.push({ package: from, code, message, severity: severity as Violation['severity'] });
  }
  return deny.length > 1 ? deny.sort(compareViolations) : deny;
}

function compareViolations(a: Violation, b: Violation): number {
  return compareText(a.package, b.package) || compareText(a.code, b.code) || compareText(a.message, b.message);
}

/** Epoch milliseconds; undefined: not a time. Numbers are nanoseconds, as Rego's own times. */
function parseTime(value: JsonValue | undefined): number | null | undefined {
  if (value === null || value === undefined) return null;
  if (typeof value === 'number') return Number.isFinite(value) && value >= 0 ? Math.floor(value / 1e6) : undefined;
  if (typeof value !== 'string' || !/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)$/.test(value)) {
    return undefined;
  }
  const time = Date.parse(value);
  return Number.isNaN(time) ? undefined : time;
}

/** The obligations in canonical order, or the name of what is unknown or malformed. */
function parseObligations(value: JsonValue | undefined): readonly Obligation[] | string {
  if (value === undefined || !Array.isArray(value)) return '"obligations" is no list';
  if (value.length === 0) return NONE;
  const known: Obligation[] = [];
  for (const item of value as readonly JsonValue[]) {
    if (!isJsonObject(item) || typeof item.type !== 'string') return 'an obligation without type';
    const check = Object.hasOwn(CHECKS, item.type) ? CHECKS[item.type as Obligation['type']] : undefined;
    if (check === undefined || !check(item)) return `the obligation ${item.type.slice(0, 40)}`;
    known.push(item as unknown as Obligation);
  }
  return known.length > 1 ? sortByText(known) : known;
}

function sortByText(obligations: Obligation[]): Obligation[] {
  const texts = new Map(obligations.map((one) => [one, JSON.stringify(one, Object.keys(one).sort())]));
  return obligations.sort((a, b) => compareText(texts.get(a) ?? '', texts.get(b) ?? ''));
}

/** A day: longer counts are quotas, which need a store that keeps them. */
const MAX_WINDOW_SECONDS = 86_400;

type Check = (item: JsonObject) => boolean;

const isText = (value: JsonValue | undefined): boolean => typeof value === 'string' && value !== '';
const isCount = (value: JsonValue | undefined): boolean => Number.isSafeInteger(value) && (value as number) >= 0;
const isNames = (value: JsonValue | undefined): boolean =>
  Array.isArray(value) && value.length > 0 && value.every((name) => isText(name));

/** Shape of each obligation the gateway knows: a closed list, because an unknown one must not be passed over. */
const CHECKS: Readonly<Record<Obligation['type'], Check>> = {
  require_approval: (item) =>
    (item.reason === undefined || isText(item.reason)) && (item.ttl_seconds === undefined || isCount(item.ttl_seconds)),
  require_mfa: () => true,
  redact_parameters: (item) => isNames(item.names),
  redact_result: (item) => isNames(item.names),
  inject_credential: (item) => isText(item.auth_type) && isText(item.key),
  rate_limit: (item) =>
    isCount(item.limit) &&
    isCount(item.window_seconds) &&
    (item.window_seconds as number) >= 1 &&
    (item.window_seconds as number) <= MAX_WINDOW_SECONDS &&
    (item.name === undefined || isText(item.name)),
  clamp: (item) => isText(item.name) && typeof item.maximum === 'number' && Number.isFinite(item.maximum),
  set_header: (item) => isText(item.name) && typeof item.value === 'string' && !/[\r\n\0]/.test(item.value),
  audit: (item) => item.level === 'full' || item.level === 'metadata',
};

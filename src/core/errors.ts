/**
 * THE error catalogue: every way a request can end other than well. One entry gives the HTTP status, the text shown to
 * callers, a two-letter flag for log lines (after Envoy's response flags), a number that never changes its meaning, and
 * whether an unchanged retry can succeed.
 * `docs/errors.md` lists the same entries; `test/errors.test.ts` compares both ways.
 * Source: design 2.5, contracts 4, acceptance SW-05.
 */
import type { JsonValue } from './json.ts';

/**
 * What the first letters of a number say: the request and the gateway itself, what somebody may do, who somebody is, the
 * other end of a connection, how the gateway is configured.
 */
export const FAMILIES = {
  GW: 'gateway',
  AZ: 'authorization',
  AU: 'authentication',
  CN: 'connection',
  CF: 'configuration',
} as const;

type ErrorNumber = `${keyof typeof FAMILIES}-${string}`;

interface ErrorSpec {
  readonly number: ErrorNumber;
  readonly status: number;
  readonly title: string;
  readonly flag: string;
  readonly retryable: boolean;
}

const entry = (number: ErrorNumber, status: number, title: string, flag: string, retryable = false): ErrorSpec => ({
  number,
  status,
  title,
  flag,
  retryable,
});

export const CATALOGUE = {
  INVALID_REQUEST: entry('GW-001', 400, 'The request is malformed', 'IR'),
  AMBIGUOUS_PATH: entry('GW-002', 400, 'The path can be read in more than one way', 'AP'),
  HEADER_MISMATCH: entry('GW-003', 400, 'A header disagrees with the body', 'HM'),
  UNSUPPORTED_PROTOCOL_VERSION: entry('GW-004', 400, 'The protocol version is not supported', 'UV'),
  MISSING_CREDENTIALS: entry('AU-001', 401, 'Credentials are required', 'NC'),
  INVALID_CREDENTIALS: entry('AU-002', 401, 'The credentials are not valid', 'IC'),
  TOKEN_EXPIRED: entry('AU-003', 401, 'The credentials have expired', 'TE'),
  TOKEN_REVOKED: entry('AU-004', 401, 'The credentials were revoked', 'TR'),
  SECOND_FACTOR_REQUIRED: entry('AU-005', 401, 'A second factor is required', 'SF'),
  INSUFFICIENT_BALANCE: entry('AZ-016', 402, 'The account has no balance left', 'IB'),
  FORBIDDEN: entry('AZ-001', 403, 'Not permitted', 'FB'),
  INSUFFICIENT_SCOPE: entry('AZ-017', 403, 'The credentials do not cover this', 'IS'),
  ORIGIN_DENIED: entry('AZ-002', 403, 'The request origin is not allowed', 'OD'),
  POLICY_DENIED: entry('AZ-003', 403, 'Denied by policy', 'PD'),
  SWITCHED_OFF: entry('AZ-004', 403, 'Switched off by an operator', 'SO'),
  MFA_REQUIRED: entry('AZ-005', 403, 'Multi-factor authentication is required', 'MF'),
  DEVICE_NOT_COMPLIANT: entry('AZ-006', 403, 'The device is not compliant', 'DC'),
  REGION_DENIED: entry('AZ-007', 403, 'Access from this region is denied', 'RD'),
  OUTSIDE_WORK_HOURS: entry('AZ-008', 403, 'Not allowed at this time', 'WH'),
  GDPR_VIOLATION: entry('AZ-009', 403, 'The data may not leave its region', 'GD'),
  HIPAA_VIOLATION: entry('AZ-010', 403, 'Health data needs an encrypted channel', 'HI'),
  APPROVAL_REQUIRED: entry('AZ-011', 403, 'A human approval is required', 'AR'),
  APPROVAL_INVALID: entry('AZ-012', 403, 'The approval is not valid for this call', 'AI'),
  CONSENT_REQUIRED: entry('AZ-013', 403, 'The user has to consent first', 'CR'),
  NOT_FOUND: entry('GW-005', 404, 'Not found', 'NF'),
  ROUTE_NOT_FOUND: entry('CF-001', 404, 'No route serves this path', 'NR'),
  SERVER_NOT_FOUND: entry('GW-006', 404, 'No such server', 'SN'),
  TOOL_NOT_FOUND: entry('GW-007', 404, 'No such tool', 'TN'),
  MODEL_NOT_FOUND: entry('GW-008', 404, 'No such model', 'MN'),
  METHOD_NOT_ALLOWED: entry('GW-009', 405, 'The method is not allowed here', 'MA'),
  NOT_ACCEPTABLE: entry('GW-010', 406, 'No acceptable representation', 'NA'),
  REQUEST_TIMEOUT: entry('CN-001', 408, 'The request took too long to arrive', 'RT', true),
  CONFLICT: entry('GW-011', 409, 'The object was changed meanwhile', 'CF'),
  NAME_TAKEN: entry('GW-023', 409, 'The name or address is taken', 'NT'),
  PAYLOAD_TOO_LARGE: entry('GW-012', 413, 'The request body is too large', 'PL'),
  URI_TOO_LONG: entry('GW-013', 414, 'The request target is too long', 'UL'),
  UNSUPPORTED_MEDIA_TYPE: entry('GW-014', 415, 'The content type or coding is not supported', 'UM'),
  EXPECTATION_FAILED: entry('GW-015', 417, 'The expectation cannot be met', 'EF'),
  WEAK_PASSWORD: entry('AU-006', 422, 'The password does not meet the rules', 'WP'),
  UNPROCESSABLE: entry('GW-016', 422, 'The request is well-formed but not valid', 'UN'),
  ACCOUNT_LOCKED: entry('AU-007', 423, 'The account is locked', 'AL'),
  RATE_LIMIT_EXCEEDED: entry('AZ-014', 429, 'Rate limit exceeded', 'RL', true),
  HEADERS_TOO_LARGE: entry('GW-017', 431, 'The request headers are too large', 'HL'),
  CLIENT_CLOSED: entry('CN-002', 499, 'The client closed the connection', 'CC'),
  INTERNAL_ERROR: entry('GW-018', 500, 'Internal error', 'IE'),
  POLICY_EVALUATION_ERROR: entry('AZ-015', 500, 'The policy could not be evaluated on this request', 'PE'),
  NOT_IMPLEMENTED: entry('GW-019', 501, 'The method is not implemented', 'NI'),
  UPSTREAM_ERROR: entry('CN-003', 502, 'The upstream failed', 'UF', true),
  AUTH_UNAVAILABLE: entry('AU-008', 503, 'Authentication is unavailable', 'AU', true),
  POLICY_UNAVAILABLE: entry('CF-002', 503, 'No usable policy is loaded', 'PU'),
  SERVER_DISABLED: entry('CF-003', 503, 'The server is disabled', 'SD'),
  GATEWAY_NOT_ENABLED: entry('CF-004', 503, 'The decision API for gateways is not enabled', 'GN'),
  A2A_NOT_ENABLED: entry('CF-005', 503, 'Decisions between agents are not enabled', 'AN'),
  UPSTREAM_CIRCUIT_OPEN: entry('CN-004', 503, 'The upstream is failing and is not being called', 'UO', true),
  OVERLOADED: entry('GW-020', 503, 'The gateway is overloaded', 'OL', true),
  SHUTTING_DOWN: entry('GW-021', 503, 'The gateway is shutting down', 'SH', true),
  STORE_UNAVAILABLE: entry('CN-006', 503, 'A store is unavailable', 'SU', true),
  GATEWAY_TIMEOUT: entry('CN-005', 504, 'The upstream did not answer in time', 'UT', true),
  QUOTA_EXCEEDED: entry('GW-022', 507, 'The storage quota is used up', 'QE'),
} as const satisfies Record<string, ErrorSpec>;

/** A stable, documented error name. */
export type ErrorCode = keyof typeof CATALOGUE;

/** Names that other systems have for these errors: what they mean here. */
export const OTHER_NAMES = {
  UNAUTHORIZED: ['MISSING_CREDENTIALS', 'INVALID_CREDENTIALS', 'TOKEN_EXPIRED', 'TOKEN_REVOKED'],
  INVALID_TOKEN: ['INVALID_CREDENTIALS', 'TOKEN_REVOKED'],
} as const satisfies Readonly<Record<string, readonly ErrorCode[]>>;

/** A reason a caller may see: a code and a sentence, never a package, rule or input. */
export interface PublicReason {
  readonly code: string;
  readonly message: string;
}

/** What a caller is told of a limit that refuses. */
export interface Spent {
  readonly rule: string;
  /** Requests in the window; null where it is not known. */
  readonly limit: number | null;
  readonly windowSeconds: number;
  /** Epoch milliseconds. */
  readonly resetAt: number;
}

export interface ErrorExtras {
  /** What the caller may read instead of the catalogue's title. Must hold no secret and no policy internal. */
  readonly message?: string;
  /** Structured facts for the caller (`error.details`). */
  readonly details?: Readonly<Record<string, unknown>>;
  /** Deny reasons, for policy refusals. */
  readonly reasons?: readonly PublicReason[];
  /** Seconds, for `Retry-After`. */
  readonly retryAfter?: number;
  /** The limit that refuses, for the `RateLimit` headers. */
  readonly spent?: Spent;
  /** Value of `WWW-Authenticate`. */
  readonly challenge?: string;
  /** The technical cause: for the operator's log only, never rendered to a caller. */
  readonly cause?: unknown;
  /** Extra members for JSON-RPC `data`, e.g. approval_id. */
  readonly data?: Readonly<Record<string, unknown>>;
  /** JSON-RPC id of a message that was read far enough to have one, but is refused. */
  readonly rpcId?: JsonValue;
}

/** An expected end of a request. Everything else that is thrown is a defect and becomes INTERNAL_ERROR. */
export class GatewayError extends Error {
  readonly code: ErrorCode;
  readonly status: number;
  readonly extras: ErrorExtras;

  constructor(code: ErrorCode, extras: ErrorExtras = {}) {
    super(extras.message ?? CATALOGUE[code].title, extras.cause === undefined ? undefined : { cause: extras.cause });
    this.name = 'GatewayError';
    this.code = code;
    this.status = CATALOGUE[code].status;
    this.extras = extras;
  }

  get flag(): string {
    return CATALOGUE[this.code].flag;
  }

  get retryable(): boolean {
    return CATALOGUE[this.code].retryable;
  }
}

/** True when a policy's violation code names an entry of the catalogue (then it becomes the error code). */
export function isErrorCode(code: string): code is ErrorCode {
  return Object.hasOwn(CATALOGUE, code);
}

/** Any thrown value as a GatewayError; unknown ones keep their cause for the log and show nothing to the caller. */
export function toGatewayError(thrown: unknown): GatewayError {
  return thrown instanceof GatewayError ? thrown : new GatewayError('INTERNAL_ERROR', { cause: thrown });
}

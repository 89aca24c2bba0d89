/** Errors as OpenAI clients read them. Source: llm 3.5, contracts 4. */
import type { ErrorCode, GatewayError } from '../../core/errors.ts';
import type { Reply } from '../../core/exchange.ts';
import { errorDetails, errorHeaders } from '../problem.ts';
import type { ErrorContext } from '../protocol.ts';

/** Codes that OpenAI clients know by a name of their own; all others keep the catalogue's name. */
const KNOWN: Partial<Record<ErrorCode, string | null>> = {
  INVALID_REQUEST: null,
  MODEL_NOT_FOUND: 'model_not_found',
  MISSING_CREDENTIALS: 'invalid_api_key',
  INVALID_CREDENTIALS: 'invalid_api_key',
  RATE_LIMIT_EXCEEDED: 'rate_limit_exceeded',
  INSUFFICIENT_BALANCE: 'insufficient_quota',
};

interface OpenAiError {
  readonly error: {
    readonly message: string;
    readonly type: string;
    readonly param: string | null;
    readonly code: string | null;
    /** `code` here is always the catalogue's. */
    readonly details: Readonly<Record<string, unknown>>;
  };
  readonly request_id: string;
}

/** `{error: {message, type, param, code}}`; `x-should-retry: false` on everything that a retry cannot change. */
export function encodeOpenAiError(error: GatewayError, context: ErrorContext): Reply {
  const headers: Record<string, string> = { 'content-type': 'application/json', ...errorHeaders(error, context) };
  if (!error.retryable) headers['x-should-retry'] = 'false';
  return { status: error.status, headers, body: JSON.stringify(bodyOf(error, context)) };
}

/**
 * The event that ends a stream that broke off: clients throw on a top-level `error`. The blank line before it closes an
 * event that was cut, so that the error is never glued to half a token.
 */
export function encodeOpenAiStreamError(error: GatewayError, context: ErrorContext): string {
  return `\n\ndata: ${JSON.stringify(bodyOf(error, context))}\n\n`;
}

function bodyOf(error: GatewayError, context: ErrorContext): OpenAiError {
  const param = error.extras.details?.param;
  const known = KNOWN[error.code];
  return {
    error: {
      message: error.message,
      type: typeOf(error.status),
      param: typeof param === 'string' ? param : null,
      code: known === undefined ? error.code : known,
      details: { code: error.code, ...errorDetails(error, context) },
    },
    request_id: context.requestId,
  };
}

function typeOf(status: number): string {
  if (status === 401) return 'authentication_error';
  if (status === 403) return 'permission_error';
  if (status === 402) return 'insufficient_quota';
  if (status === 429) return 'rate_limit_error';
  return status >= 500 ? 'server_error' : 'invalid_request_error';
}

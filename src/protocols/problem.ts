/** Errors outside JSON-RPC and the LLM dialects: RFC 9457 problem details with two members of our own. Source: contracts 4. */
import { CATALOGUE, type GatewayError } from '../core/errors.ts';
import type { Reply, Routed } from '../core/exchange.ts';
import { scrubText } from '../core/redaction.ts';
import { helpLink } from './errors-api.ts';
import type { ErrorContext } from './protocol.ts';

/** Renders an error as `application/problem+json`. `exchange` names the path in `instance` when there is one. */
export function problem(error: GatewayError, context: ErrorContext, exchange: Routed | null): Reply {
  const body = {
    type: `urn:portcullis:error:${error.code}`,
    title: CATALOGUE[error.code].title,
    status: error.status,
    detail: error.message,
    instance: exchange === null ? `urn:portcullis:request:${context.requestId}` : scrubText(exchange.received.path),
    error: { code: error.code, message: error.message, details: errorDetails(error, context) },
    request_id: context.requestId,
  };
  return {
    status: error.status,
    headers: { 'content-type': 'application/problem+json', ...errorHeaders(error, context) },
    body: JSON.stringify(body),
  };
}

/** What a caller may know besides the sentence: the deny reasons, the decision, and facts of the fault. */
export function errorDetails(error: GatewayError, context: ErrorContext): Readonly<Record<string, unknown>> {
  const { details, reasons, data, retryAfter } = error.extras;
  return {
    ...details,
    ...data,
    // For those who keep the body alone (acceptance SW-05).
    ...(error.status === 429 && retryAfter !== undefined ? { retry_after: retryAfter } : {}),
    ...(reasons === undefined || reasons.length === 0 ? {} : { reasons }),
    ...(context.decisionId === null ? {} : { decision_id: context.decisionId }),
  };
}

/** Headers that go with an error in every HTTP dialect. */
export function errorHeaders(error: GatewayError, context: ErrorContext): Record<string, string> {
  const headers: Record<string, string> = {
    ...{ 'cache-control': 'no-store', 'x-request-id': context.requestId },
    link: helpLink(error.code),
  };
  const { retryAfter, challenge, details } = error.extras;
  if (context.decisionId !== null) headers['x-decision-id'] = context.decisionId;
  if (retryAfter !== undefined) headers['retry-after'] = String(retryAfter);
  if (challenge !== undefined) headers['www-authenticate'] = challenge;
  if (error.code === 'METHOD_NOT_ALLOWED' && typeof details?.allow === 'string') headers.allow = details.allow;
  // SDKs retry 408, 409, 429 and all 5xx by themselves; where that cannot help they are told so.
  if (!error.retryable && isRetriedBySdks(error.status)) headers['x-should-retry'] = 'false';
  return headers;
}

function isRetriedBySdks(status: number): boolean {
  return status === 408 || status === 409 || status === 429 || status >= 500;
}

/** Which requests are questions about calls that are made elsewhere, and no calls themselves. Source: acceptance SW-01, SW-06. */
import type { Routed } from '../../core/exchange.ts';

/** Below it is the decision API for gateways. */
export const GATEWAY_API = '/api/v1/gateway';
/** Below it is OpenID AuthZEN. */
const AUTHZEN = '/access/v1';

export function isQuestion({ route, received }: Routed): boolean {
  return route.protocol === 'api' && (isBelow(received.path, GATEWAY_API) || isBelow(received.path, AUTHZEN));
}

function isBelow(path: string, base: string): boolean {
  return path.startsWith(base) && path.charCodeAt(base.length) === 47;
}

/** Of the API below `/api/v1`, told with each of its answers, good and bad. Source: acceptance SW-06. */
export function versionHeader(path: string): Readonly<Record<string, string>> {
  return isBelow(path, '/api/v1') ? VERSION : NONE;
}

const VERSION = { 'x-api-version': '1' };
const NONE = {};

/**
 * Which generation an upstream speaks, found by asking it once. A verdict is only kept when the server really gave one:
 * never from authentication, overload or failure. Source: mcp 1.4 (client side), 1.8 (lessons 1 and 2).
 */
import { GatewayError } from '../../core/errors.ts';
import type { JsonObject } from '../../core/json.ts';
import { isJsonObject } from '../../core/json.ts';
import { RPC } from './envelope.ts';
import type { Era } from './era.ts';
import { MODERN_VERSION } from './era.ts';

/** Statuses that say nothing about the protocol. */
const NO_VERDICT: readonly number[] = [401, 403, 407, 408, 429];
/** Errors that only a modern server knows. */
const MODERN_ERRORS: readonly unknown[] = [RPC.headerMismatch, -32021];

/** The verdict in a server's answer to `server/discover`. Throws UPSTREAM_ERROR when there is none. */
export function eraVerdict(status: number, message: JsonObject | null): Era {
  if (status >= 500 || NO_VERDICT.includes(status)) {
    throw new GatewayError('UPSTREAM_ERROR', { cause: new Error(`discovery was answered with ${status}`) });
  }
  const result = message?.result;
  // Some servers answer discovery while they negotiate down, so success alone proves nothing.
  if (isJsonObject(result)) return supports(result.supportedVersions) ? 'modern' : 'legacy';
  const error = message?.error;
  if (!isJsonObject(error)) return 'legacy';
  if (MODERN_ERRORS.includes(error.code)) return 'modern';
  const { data } = error;
  const isVersionError = error.code === RPC.unsupportedVersion && isJsonObject(data);
  return isVersionError && supports(data.supported) ? 'modern' : 'legacy';
}

function supports(versions: unknown): boolean {
  return Array.isArray(versions) && versions.includes(MODERN_VERSION);
}

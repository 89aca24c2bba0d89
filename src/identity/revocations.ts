/**
 * Credentials that were withdrawn before their time. Kept in the shared store under a digest, announced by message, so
 * that every gateway refuses them at once and forgets what it remembered. Source: acceptance VF-03, VF-04.
 */
import { hash } from 'node:crypto';
import type { Shared } from '../stores/shared.ts';

const TOKENS = 'identity:token-revoked';
const KEYS = 'identity:key-revoked';

/** Before the keys of values that say what was revoked. */
export const REVOKED = 'revoked:';

function tokenKey(issuer: string, tokenId: string): string {
  return `${REVOKED}${hash('sha256', `${issuer}\n${tokenId}`, 'base64url')}`;
}

/** True when the token with this `jti` was revoked. Rejects when the store cannot say: the caller must refuse then. */
export async function isTokenRevoked(shared: Shared, issuer: string, tokenId: string): Promise<boolean> {
  return (await shared.get(tokenKey(issuer, tokenId))) !== null;
}

/** Revokes a token until `until` (epoch milliseconds), after which it has expired anyhow. Stored before it is announced. */
export async function revokeToken(
  shared: Shared,
  issuer: string,
  tokenId: string,
  until: number,
  now: number,
): Promise<void> {
  if (until <= now) return;
  await shared.set(tokenKey(issuer, tokenId), '1', until - now);
  await shared.publish(TOKENS, JSON.stringify([issuer, tokenId]));
}

/** Calls `listener` with the `jti` of each token of this issuer that is revoked. Returns the way to stop. */
export function onTokenRevoked(shared: Shared, issuer: string, listener: (tokenId: string) => void): () => void {
  return onEveryTokenRevoked(shared, (from, tokenId) => {
    if (from === issuer) listener(tokenId);
  });
}

/** Calls `listener` with issuer and `jti` of each token that is revoked. Returns the way to stop. */
export function onEveryTokenRevoked(shared: Shared, listener: (issuer: string, tokenId: string) => void): () => void {
  return shared.subscribe(TOKENS, (message) => {
    const parsed: unknown = JSON.parse(message);
    if (!Array.isArray(parsed)) return;
    const [issuer, tokenId] = parsed as unknown[];
    if (typeof issuer === 'string' && typeof tokenId === 'string') listener(issuer, tokenId);
  });
}

/** Announces that an API key was revoked or changed. The row in the database is the truth; this empties caches. */
export function announceKeyChange(shared: Shared, keyId: string): Promise<void> {
  return shared.publish(KEYS, keyId);
}

/** Calls `listener` with the id of each API key that was revoked or changed. Returns the way to stop. */
export function onKeyChange(shared: Shared, listener: (keyId: string) => void): () => void {
  return shared.subscribe(KEYS, listener);
}

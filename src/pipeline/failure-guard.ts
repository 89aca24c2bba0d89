/**
 * Slows down guessing: a network whose credentials are refused too often is not listened to for a while. Off unless
 * configured: behind a proxy that is not trusted everybody has one address. Source: acceptance HF-04.
 */
import type { ErrorCode } from '../core/errors.ts';
import { GatewayError } from '../core/errors.ts';
import { networkOf } from '../core/network.ts';
import type { Counters } from '../stores/open-shared.ts';
import type { Bucket } from '../stores/shared.ts';
import type { Authenticator } from './stages/authenticate.ts';

export interface FailureGuard {
  /** RATE_LIMIT_EXCEEDED while the address is not listened to, else null. */
  check(address: string, now: number): GatewayError | null;
  /** A credential from this address was refused. Never throws. */
  failed(address: string, now: number): void;
}

/** Credentials that were presented and are worth nothing. */
const REFUSED: ReadonlySet<ErrorCode> = new Set(['INVALID_CREDENTIALS', 'TOKEN_EXPIRED', 'TOKEN_REVOKED']);

/** The same authenticator behind the guard. */
export function guarded(authenticator: Authenticator, guard: FailureGuard): Authenticator {
  return {
    authenticate(received, facts) {
      const { source_ip, now } = facts;
      const turnedAway = guard.check(source_ip, now);
      if (turnedAway !== null) return turnedAway;
      const look = <T>(identified: T): T => {
        if (identified instanceof GatewayError && REFUSED.has(identified.code)) guard.failed(source_ip, now);
        return identified;
      };
      const identified = authenticator.authenticate(received, facts);
      return identified instanceof Promise ? identified.then(look) : look(identified);
    },
  };
}

/** Networks that are remembered as turned away; each forgets itself in time. */
const MAX_BLOCKED = 100_000;

export function createFailureGuard(bucket: Bucket, counters: Counters): FailureGuard {
  const blocked = new Map<string, number>();
  const note = (network: string, until: number) => {
    const oldest = blocked.size >= MAX_BLOCKED ? blocked.keys().next().value : undefined;
    if (oldest !== undefined) blocked.delete(oldest);
    blocked.set(network, until);
  };
  return {
    check(address, now) {
      // Nearly always there is nobody.
      if (blocked.size === 0) return null;
      const network = networkOf(address);
      const until = blocked.get(network);
      if (until === undefined) return null;
      if (until <= now) {
        blocked.delete(network);
        return null;
      }
      const message = 'Too many refused credentials from this address';
      return new GatewayError('RATE_LIMIT_EXCEEDED', { message, retryAfter: Math.ceil((until - now) / 1000) });
    },
    failed(address, now) {
      const network = networkOf(address);
      const taken = counters.take(`refused:${network}`, bucket);
      const judge = ({ isAllowed, retryInMs }: Awaited<typeof taken>) => {
        if (!isAllowed) note(network, now + retryInMs);
      };
      // The counters are insured: only a defect rejects, and then nobody is blocked by mistake.
      if (taken instanceof Promise) taken.then(judge).catch(() => {});
      else judge(taken);
    },
  };
}

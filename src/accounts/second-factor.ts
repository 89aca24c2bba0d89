/**
 * The second factor of an account: one-time codes of an app (RFC 6238), and ten recovery codes for the day the phone is
 * gone. A code is good once over all gateways; wrong ones count under a lock of the account's own, which nobody reaches
 * without the password or a session, and under another one from where its owner has come before, so that a thief of either
 * cannot keep the owner out by it. Source: acceptance VW-06.
 */
import { randomBytes } from 'node:crypto';
import { GatewayError } from '../core/errors.ts';
import type { SecondFactorStore, TotpRecord } from '../stores/second-factors.ts';
import type { Guard } from './guard.ts';
import { base32, fromBase32, otpauthUri, stepOf } from './totp.ts';

/** 160 bits, as long as the hash (RFC 4226 4, R6). */
const SECRET_BYTES = 20;
const RECOVERY_CODES = 10;
/** 80 bits: sixteen characters of base32. */
const RECOVERY_BYTES = 10;
/** Milliseconds between showing a secret and its first code. */
const ENROLMENT_MS = 900_000;

/** What somebody shows besides the password; at most one of the two counts, the code of the app first. */
export interface Proof {
  readonly otp?: string | undefined;
  readonly recovery_code?: string | undefined;
}

export interface SecondFactorOptions {
  readonly store: SecondFactorStore;
  readonly guard: Guard;
  /** Encrypts secrets before they are stored; opens only what belongs to the same account. */
  readonly seal: {
    close(text: string, context: string): string;
    open(sealed: string, context: string): string | null;
  };
  /** What apps show beside the code. */
  readonly issuer: string;
}

/** `none`: the account has no second factor. `missing`: it has one and nothing was shown. */
export type ProofResult = 'none' | 'missing' | 'wrong' | 'otp' | 'recovery_code';

export class SecondFactor {
  readonly #options: SecondFactorOptions;

  constructor(options: SecondFactorOptions) {
    this.#options = options;
  }

  /** Begins an enrolment. Rejects with CONFLICT where there is a second factor already. */
  async enrol(account: { readonly id: string; readonly username: string }, now: number) {
    const { store, seal, issuer } = this.#options;
    const secret = base32(randomBytes(SECRET_BYTES));
    if (!(await store.begin(account.id, seal.close(secret, account.id), now))) {
      throw new GatewayError('CONFLICT', { message: 'There is a second factor already: take it away first' });
    }
    return { secret, otpauth_uri: otpauthUri(issuer, account.username, secret) };
  }

  /**
   * Ends an enrolment with the first code of the app; gives the recovery codes, which are shown once. Rejects with
   * UNPROCESSABLE for a wrong code, CONFLICT where no enrolment is under way, ACCOUNT_LOCKED.
   */
  async confirm(accountId: string, code: string, now: number): Promise<readonly string[]> {
    const { store, guard } = this.#options;
    const record = await store.find(accountId);
    if (record === null || record.confirmed_at !== null || record.created_at + ENROLMENT_MS <= now) {
      throw new GatewayError('CONFLICT', { message: 'No enrolment is under way: begin one' });
    }
    return this.#guarded(factorLock(guard, accountId, null), now, async () => {
      const step = stepOf(this.#keyOf(record), tidy(code), now);
      if (step === null) return null;
      const codes = newCodes();
      if (await store.confirm(record, step, this.#digests(accountId, codes), now)) return codes;
      throw new GatewayError('CONFLICT', { message: 'Another enrolment was begun meanwhile' });
    }).then((codes) => {
      if (codes === null) throw new GatewayError('UNPROCESSABLE', { message: 'This is not the code of this moment' });
      return codes;
    });
  }

  /**
   * What was shown for this account is. Rejects with ACCOUNT_LOCKED after too many wrong ones.
   * @param lock of `factorLock`
   */
  async check(accountId: string, proof: Proof, lock: string, now: number): Promise<ProofResult> {
    const record = await this.#options.store.find(accountId);
    if (record?.confirmed_at == null) return 'none';
    const { otp, recovery_code } = proof;
    if (otp === undefined && recovery_code === undefined) return 'missing';
    const shown = await this.#guarded(lock, now, async () => {
      if (otp !== undefined) return (await this.#takeOtp(record, otp, now)) ? ('otp' as const) : null;
      const digest = this.#digest(accountId, recovery_code ?? '');
      return (await this.#options.store.takeCode(accountId, digest, now)) ? ('recovery_code' as const) : null;
    });
    return shown ?? 'wrong';
  }

  async #takeOtp(record: TotpRecord, otp: string, now: number): Promise<boolean> {
    const step = stepOf(this.#keyOf(record), tidy(otp), now);
    return step !== null && (await this.#options.store.takeStep(record.account_id, step));
  }

  /**
   * One attempt after the other. Null is a wrong one. It counts before it is looked at: two gateways that looked at the same
   * moment would both let one pass that is too many.
   */
  #guarded<T>(lock: string, now: number, attempt: () => Promise<T | null>): Promise<T | null> {
    const { guard } = this.#options;
    return guard.inTurn(lock, async () => {
      const until = (await guard.lockedUntil(lock, now)) ?? (await guard.reserve(lock, now));
      if (until !== null) {
        throw new GatewayError('ACCOUNT_LOCKED', { retryAfter: Math.max(1, Math.ceil((until - now) / 1000)) });
      }
      const result = await attempt();
      if (result !== null) await guard.succeed(lock);
      return result;
    });
  }

  /** True after too many wrong codes. */
  async isLocked(lock: string, now: number): Promise<boolean> {
    return (await this.#options.guard.lockedUntil(lock, now)) !== null;
  }

  #keyOf({ account_id, secret_box }: TotpRecord): Buffer {
    const secret = this.#options.seal.open(secret_box, account_id);
    if (secret === null) {
      throw new Error('the second factors of accounts were encrypted with another pepper: restore stores.pepper');
    }
    return fromBase32(secret);
  }

  /** New recovery codes in the place of all others. */
  async renewCodes(accountId: string): Promise<readonly string[]> {
    const codes = newCodes();
    await this.#options.store.replaceCodes(accountId, this.#digests(accountId, codes));
    return codes;
  }

  /** Null for an account without one. */
  async status(accountId: string): Promise<{ readonly since: number; readonly codes_left: number } | null> {
    const { store } = this.#options;
    const since = (await store.find(accountId))?.confirmed_at ?? null;
    return since === null ? null : { since, codes_left: await store.codesLeft(accountId) };
  }

  async remove(accountId: string): Promise<boolean> {
    const { guard } = this.#options;
    await guard.succeed(factorLock(guard, accountId, null));
    return this.#options.store.remove(accountId);
  }

  #digest(accountId: string, code: string): string {
    return this.#options.guard.digest('recovery-code', accountId, tidy(code).toUpperCase());
  }

  #digests(accountId: string, codes: readonly string[]): string[] {
    return codes.map((code) => this.#digest(accountId, code));
  }
}

/**
 * Under what wrong codes of an account count.
 * @param source digest of the address, where the account has come from there before
 */
export const factorLock = (guard: Pick<Guard, 'digest'>, accountId: string, source: string | null): string =>
  guard.digest('second-factor', accountId, ...(source === null ? [] : [source]));

/** The right password of an account with a second factor, and no code with it. */
export const secondFactorRequired = (): GatewayError =>
  new GatewayError('SECOND_FACTOR_REQUIRED', {
    message: 'A second factor is required: send otp or recovery_code as well',
    challenge: 'Bearer realm="portcullis"',
  });

/** Apps show codes in groups, and so do we. */
const tidy = (code: string): string => code.replaceAll(/[\s-]/g, '');

/** Four groups of four. */
const newCodes = (): string[] =>
  Array.from({ length: RECOVERY_CODES }, () => base32(randomBytes(RECOVERY_BYTES)).replace(/(.{4})(?=.)/g, '$1-'));

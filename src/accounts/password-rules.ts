/** Which passwords may be chosen. Source: contracts 6, acceptance V-23; NIST SP 800-63B-4 section 3.1.1.2. */
import { GatewayError } from '../core/errors.ts';
import { isKnownPassword } from './known-passwords.ts';

export type PasswordRule = 'nist' | 'classic';

/** Characters; longer ones only cost time. */
export const MAX_PASSWORD = 1024;
const LEAST: Readonly<Record<PasswordRule, number>> = { nist: 15, classic: 8 };

const CLASSES: readonly (readonly [RegExp, string])[] = [
  [/\p{Lu}/u, 'an upper-case letter'],
  [/\p{Ll}/u, 'a lower-case letter'],
  [/\p{Nd}/u, 'a digit'],
  [/[^\p{L}\p{N}]/u, 'a special character'],
];

/**
 * What is wrong with a password, each in words for who chose it; nothing when it is good. `personal`: what is told of the
 * account, which must not be its password.
 */
export function passwordFaults(password: string, rule: PasswordRule, personal: readonly string[]): string[] {
  const faults: string[] = [];
  const least = LEAST[rule];
  const length = [...password].length;
  if (length < least) faults.push(`needs at least ${least} characters`);
  if (length > MAX_PASSWORD) faults.push(`may have at most ${MAX_PASSWORD} characters`);
  if (rule === 'classic')
    for (const [pattern, name] of CLASSES) if (!pattern.test(password)) faults.push(`needs ${name}`);
  if (faults.length === 0 && isKnownPassword(password, personal)) faults.push('is one that everybody knows');
  return faults;
}

/** @throws GatewayError WEAK_PASSWORD that names every fault */
export function requireGoodPassword(password: string, rule: PasswordRule, personal: readonly string[]): void {
  const faults = passwordFaults(password, rule, personal);
  if (faults.length > 0) throw weakPassword(faults);
}

/** The refusal of a password, `detail` in words. */
export function weakPassword(faults: readonly string[]): GatewayError {
  return new GatewayError('WEAK_PASSWORD', {
    message: `The password ${faults.join(', ')}`,
    details: { rules: faults },
  });
}

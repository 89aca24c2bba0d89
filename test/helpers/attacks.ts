/** How many attacks the tests replayed, by what they are on: said by each suite, printed by the coverage reporter. */
import { expect, test } from 'vitest';

/** What is attacked, and how many attacks a whole run has at least. */
export const ATTACKED = {
  JWT: 400,
  OAuth: 60,
  LDAP: 30,
  'mTLS and certificate headers': 25,
  accounts: 50,
  'forwarded and identity headers': 40,
  caches: 20,
  delegation: 60,
} as const;

export type Attacked = keyof typeof ATTACKED;

declare module 'vitest' {
  interface TaskMeta {
    attacks?: { readonly on: Attacked; readonly count: number };
  }
}

/**
 * Call it in the suite that replays them, one test per attack. Attacks that got through are the tests that fail in the same
 * file.
 */
export function countAttacks(on: Attacked, count: number): void {
  test(`${count} attacks on ${on} are replayed`, ({ task }) => {
    task.meta.attacks = { on, count };
    expect(count).toBeGreaterThan(0);
  });
}

import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { verifies } from '../helpers/verifies.ts';
import { openSuite, type PolicySuite, runCases } from './policy-cases.ts';

/** One case in so many; `npm run policy:conformance` runs all of them in two to three minutes. */
const EVERY = 24;

let suite: PolicySuite | null = null;
let missing = '';

beforeAll(async () => {
  const opened = await openSuite();
  if ('missing' in opened) missing = opened.missing;
  else suite = opened;
});
afterAll(async () => suite?.close());

describe('OPA’s own conformance cases', () => {
  test('give through the policy host what OPA wants, or are refused by the name of a builtin', async (context) => {
    verifies('SF-40');
    if (suite === null) {
      if (process.env.CI === 'true') throw new Error(missing);
      return context.skip(missing);
    }
    const cases = suite.cases.filter((_, i) => i % EVERY === 0);
    const failed: string[] = [];
    let passed = 0;
    await runCases(suite, cases, (one, result) => {
      if (result.kind === 'passed') passed++;
      if (result.kind === 'failed') failed.push(`${one.file}: ${one.note}: ${result.got}`);
    });
    expect(failed).toEqual([]);
    expect(passed).toBeGreaterThan(cases.length * 0.8);
  }, 60_000);
});

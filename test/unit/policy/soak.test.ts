import { expect, test } from 'vitest';
import { growth, soakPolicy } from '../../../bench/soak-policy.ts';

/** A fiftieth of `npm run soak -- policy`. */
const COUNT = 20_000;

test('good evaluations stay right between hostile ones, and memory stays flat', { timeout: 60_000 }, async () => {
  const report = await soakPolicy(COUNT);
  expect(report).toMatchObject({ evaluations: COUNT, wrong: 0, thrown: 0 });
  expect(report.good + report.hostile).toBe(COUNT);
  for (const name of ['abort', 'bad_input', 'timeout', 'memory', 'undefined']) {
    expect(report.outcomes[name] ?? 0, name).toBeGreaterThan(0);
  }
  expect(growth(report)).toBeLessThan(64);
});

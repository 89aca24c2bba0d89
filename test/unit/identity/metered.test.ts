import { expect, test } from 'vitest';
import { metered } from '../../../src/identity/metered.ts';
import type { AuthResult, IdentityProvider } from '../../../src/identity/provider.ts';
import { bearer, NEVER, setting } from './setting.ts';

const REJECTED: AuthResult = { kind: 'rejected', reason: 'invalid' };
const OTHER: AuthResult = { kind: 'not-applicable' };

async function figuresOf(authenticate: IdentityProvider['authenticate']) {
  await using around = await setting();
  const results: string[] = [];
  const seconds: number[] = [];
  const provider = metered(
    'staff',
    { authenticate },
    {
      auth: (name, result) => results.push(`${name} ${result}`),
      authDuration: (name, time) => seconds.push(name === 'staff' ? time : Number.NaN),
    },
  );
  const answer = provider.authenticate(bearer('x'), around.facts(), NEVER);
  const settled = await Promise.resolve(answer).catch((error: unknown) => error);
  return { answer, settled, results, seconds };
}

test('an answer that is there at once is counted and passed on as it is', async () => {
  const { answer, results, seconds } = await figuresOf(() => OTHER);
  expect(answer).toBe(OTHER);
  expect([results, seconds]).toEqual([['staff not_applicable'], []]);
});

test('an answer that has to be waited for is counted and timed', async () => {
  const { settled, results, seconds } = await figuresOf(() => Promise.resolve(REJECTED));
  expect(settled).toBe(REJECTED);
  expect(results).toEqual(['staff rejected']);
  expect(seconds).toHaveLength(1);
  expect(seconds[0]).toBeGreaterThanOrEqual(0);
});

test('a failure is left to the chain', async () => {
  const { settled, results, seconds } = await figuresOf(() => Promise.reject(new Error('away')));
  expect(settled).toEqual(new Error('away'));
  expect([results.length, seconds.length]).toEqual([0, 1]);
});

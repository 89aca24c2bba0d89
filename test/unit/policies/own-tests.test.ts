/** The policies' own tests through the gateway's host: what `opa test` finds true is true in the module that decides. */
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { runOpaTests } from '../../../src/policy/compiler.ts';
import { runHostTests } from '../../../src/policy/host-tests.ts';
import { POLICIES } from '../../helpers/gateway.ts';
import { NO_COMPILER } from '../../helpers/policy-dir.ts';
import { ROOT } from '../../helpers/processes.ts';

test.skipIf(NO_COMPILER !== null).each([
  ['the shipped policies', POLICIES, 140],
  ['the example policy', join(ROOT, 'examples/policies/gateway'), 8],
])('%s: every test of theirs holds in our host', { timeout: 60_000 }, async (_name, dir, least) => {
  const found = await runOpaTests(dir);
  expect(found.tests.length).toBeGreaterThanOrEqual(least);
  const hosted = await runHostTests(dir, found);
  expect(hosted).toEqual(found);
  expect(hosted).toMatchObject({ failed: 0, error: null });
});

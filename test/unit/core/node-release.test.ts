import { expect, test } from 'vitest';
import { fixedNodeRelease } from '../../../src/core/node-release.ts';

test.each([
  ['v24.22.1', null],
  ['v24.22.2', null],
  ['v24.23.0', null],
  ['v24.22.0', '24.22.1'],
  ['v24.21.0', '24.22.1'],
  ['v24.9.12', '24.22.1'],
  ['v22.23.4', null],
  ['v22.23.3', '22.23.4'],
  ['v26.12.1', null],
  ['v26.12.1-nightly', null],
  ['v26.10.0', '26.12.1'],
  ['v23.11.0', '24.22.1'],
  ['v25.8.2', '26.12.1'],
  ['v20.20.2', '22.23.4'],
  ['v27.0.0', null],
  ['v100.1.2', null],
  ['unreadable', '22.23.4'],
])('from Node %s the release with the fixes of October 2026 is %s', (version, fixed) => {
  expect(fixedNodeRelease(version)).toBe(fixed);
});

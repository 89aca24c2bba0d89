import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { CATALOGUE, GatewayError, isErrorCode, toGatewayError } from '../src/core/errors.ts';
import { errorsDocument } from '../tools/errors-doc.ts';
import { verifies } from './helpers/verifies.ts';

const documented = readFileSync(join(import.meta.dirname, '../docs/errors.md'), 'utf8');

test('docs/errors.md lists exactly the catalogue', () => {
  verifies('V-36');
  expect(documented).toBe(errorsDocument());
});

test('every flag is two letters and used once', () => {
  const flags = Object.values(CATALOGUE).map(({ flag }) => flag);
  expect(new Set(flags).size).toBe(flags.length);
  for (const flag of flags) expect(flag).toMatch(/^[A-Z]{2}$/);
});

test('titles tell callers what happened without rules, packages or stacks', () => {
  for (const { title } of Object.values(CATALOGUE)) expect(title).not.toMatch(/rego|wasm|stack|package|undefined/i);
});

test('an unknown throw becomes INTERNAL_ERROR and keeps its cause to itself', () => {
  const error = toGatewayError(new Error('database password is hunter2'));
  expect(error.code).toBe('INTERNAL_ERROR');
  expect(error.message).toBe('Internal error');
  expect(JSON.stringify(error.extras)).not.toContain('hunter2');
});

test('only catalogue names are codes', () => {
  expect(isErrorCode('POLICY_DENIED')).toBe(true);
  for (const name of ['toString', '__proto__', 'constructor', 'policy_denied', ''])
    expect(isErrorCode(name)).toBe(false);
  expect(new GatewayError('POLICY_DENIED').status).toBe(403);
});

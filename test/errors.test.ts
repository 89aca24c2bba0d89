import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { CATALOGUE, FAMILIES, GatewayError, isErrorCode, OTHER_NAMES, toGatewayError } from '../src/core/errors.ts';
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

test('every number is of a family, used once, and means what it always meant', () => {
  verifies('SW-05');
  const numbers = Object.values(CATALOGUE).map(({ number }) => number);
  expect(new Set(numbers).size).toBe(numbers.length);
  for (const number of numbers) {
    expect(number).toMatch(/^[A-Z]{2}-\d{3}$/);
    expect(FAMILIES).toHaveProperty(number.slice(0, 2));
  }
  // The list as it was published: what is in it stays; new codes are added there.
  const published = JSON.parse(readFileSync(join(import.meta.dirname, 'corpus/errors/numbers.json'), 'utf8')) as Record<
    string,
    string
  >;
  expect(Object.fromEntries(Object.entries(CATALOGUE).map(([code, { number }]) => [code, number]))).toEqual(published);
});

test('every code that other gateways of this kind have is here, or its name is explained', () => {
  verifies('SW-05');
  const theirs = {
    ...{ GATEWAY_NOT_ENABLED: 503, A2A_NOT_ENABLED: 503, INVALID_REQUEST: 400, UNAUTHORIZED: 401, FORBIDDEN: 403 },
    ...{ SERVER_NOT_FOUND: 404, TOOL_NOT_FOUND: 404, POLICY_EVALUATION_ERROR: 500, GATEWAY_TIMEOUT: 504 },
    ...{ RATE_LIMIT_EXCEEDED: 429, INVALID_TOKEN: 401, TOKEN_EXPIRED: 401 },
  };
  for (const [name, status] of Object.entries(theirs)) {
    const meant = isErrorCode(name) ? [name] : OTHER_NAMES[name as keyof typeof OTHER_NAMES];
    for (const code of meant) expect(CATALOGUE[code].status).toBe(status);
    expect(documented).toContain(`\`${name}\``);
  }
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

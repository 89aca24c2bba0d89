import { describe, expect, test } from 'vitest';
import { GatewayError } from '../../../src/core/errors.ts';
import { readCredentials } from '../../../src/identity/credentials.ts';
import { verifies } from '../../helpers/verifies.ts';

function read(headers: Record<string, string>) {
  const found = readCredentials(headers);
  return found instanceof GatewayError ? found.code : found.map((one) => [one.kind, one.source, one.value.reveal()]);
}

describe('credentials are read from headers', () => {
  test('none gives none', () => {
    expect(read({})).toEqual([]);
    expect(read({ cookie: 'session=x', 'x-auth-user': 'root' })).toEqual([]);
  });

  test.each(['Bearer abc', 'bearer abc', 'BEARER abc', '  Bearer abc  ', 'Bearer   abc'])(
    '%j is a bearer token',
    (authorization) => {
      verifies('D-03', 'DF-20');
      expect(read({ authorization })).toEqual([['bearer', 'authorization', 'abc']]);
    },
  );

  test('ApiKey and Basic are schemes of their own', () => {
    expect(read({ authorization: 'ApiKey pc_x' })).toEqual([['api-key', 'authorization', 'pc_x']]);
    expect(read({ authorization: 'Basic YTpi' })).toEqual([['basic', 'authorization', 'YTpi']]);
  });

  test('X-API-Key is an API key', () => {
    verifies('V-17');
    expect(read({ 'x-api-key': ' pc_x ' })).toEqual([['api-key', 'x-api-key', 'pc_x']]);
  });

  test('both headers give both credentials, and the same text twice gives one', () => {
    verifies('V-17');
    expect(read({ authorization: 'Bearer a', 'x-api-key': 'b' })).toHaveLength(2);
    expect(read({ authorization: 'Bearer a', 'x-api-key': 'a' })).toEqual([['bearer', 'authorization', 'a']]);
  });

  test.each([
    '',
    ' ',
    'Bearer',
    'Bearer ',
    'abc',
    'Bearer a b',
    'Bearer a, Bearer b',
    'Bearer a,b',
    'Bearer é',
    'Bearer a\u0000',
    'Bearer "a"',
    'Digest username="x"',
    'Negotiate abc',
    'BearerX abc',
    'X Bearer abc',
    'Bearer\tabc',
    'Bearer =',
    'Bearer a=b',
    '__proto__ abc',
    'constructor abc',
    'toString abc',
  ])('%j is refused and not taken for a request without credentials', (authorization) => {
    verifies('D-03', 'D-05', 'DF-20');
    expect(read({ authorization })).toBe('INVALID_CREDENTIALS');
    expect(read({ authorization, 'x-api-key': 'good' })).toBe('INVALID_CREDENTIALS');
  });

  test.each(['', ' ', 'a b', 'é', 'a,b', 'a\n'.concat('b')])('the API key %j is refused', (value) => {
    expect(read({ 'x-api-key': value })).toBe('INVALID_CREDENTIALS');
    expect(read({ authorization: 'Bearer a', 'x-api-key': value })).toBe('INVALID_CREDENTIALS');
  });

  test('printing a credential shows nothing of it', () => {
    expect(JSON.stringify(readCredentials({ authorization: 'Bearer hidden-text' }))).not.toContain('hidden');
  });
});

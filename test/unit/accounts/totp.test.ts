import { createHmac } from 'node:crypto';
import { describe, expect, test } from 'vitest';
import { base32, codeOf, fromBase32, otpauthUri, stepAt, stepOf } from '../../../src/accounts/totp.ts';
import { verifies } from '../../helpers/verifies.ts';

const KEY = Buffer.from('12345678901234567890');

describe('one-time codes', () => {
  test.each([
    [59, '94287082'],
    [1_111_111_109, '07081804'],
    [1_111_111_111, '14050471'],
    [1_234_567_890, '89005924'],
    [2_000_000_000, '69279037'],
    [20_000_000_000, '65353130'],
  ])('are those of RFC 6238, appendix B, at second %i', (second, code) => {
    verifies('VW-06');
    expect(codeOf(KEY, stepAt(second * 1000), 8)).toBe(code);
  });

  test.each([
    [0, '755224'],
    [1, '287082'],
    [2, '359152'],
    [3, '969429'],
    [4, '338314'],
    [5, '254676'],
    [6, '287922'],
    [7, '162583'],
    [8, '399871'],
    [9, '520489'],
  ])('are those of RFC 4226, appendix D, for counter %i', (counter, code) => {
    expect(codeOf(KEY, counter)).toBe(code);
  });

  test('are taken one step early and one late, and no further', () => {
    const now = 1_800_000_015_000;
    const step = stepAt(now);
    const taken = [-3, -2, -1, 0, 1, 2, 3].map((off) => stepOf(KEY, codeOf(KEY, step + off), now));
    expect(taken).toEqual([null, null, step - 1, step, step + 1, null, null]);
  });

  test.each(['', '12345', '1234567', 'abcdef', '１２３４５６', '12345é', ' 12345'])('are not %j', (code) => {
    expect(stepOf(KEY, code, 0)).toBeNull();
  });
});

describe('secrets', () => {
  test.each([
    ['', ''],
    ['f', 'MY'],
    ['fo', 'MZXQ'],
    ['foo', 'MZXW6'],
    ['foob', 'MZXW6YQ'],
    ['fooba', 'MZXW6YTB'],
    ['foobar', 'MZXW6YTBOI'],
  ])('%j is %s in base32 (RFC 4648, 10)', (text, encoded) => {
    expect(base32(Buffer.from(text))).toBe(encoded);
    expect(fromBase32(encoded).toString()).toBe(text);
  });

  test('come back byte for byte whatever their length is', () => {
    for (let length = 0; length < 70; length++) {
      const bytes = createHmac('sha512', 'seed').update(String(length)).digest().subarray(0, length);
      expect(fromBase32(base32(bytes))).toEqual(bytes);
    }
  });

  test('are told to an app with who they are for', () => {
    expect(otpauthUri('Port & Co', 'maria', 'MZXW6YTB')).toBe(
      'otpauth://totp/Port%20%26%20Co:maria?secret=MZXW6YTB&issuer=Port%20%26%20Co&algorithm=SHA1&digits=6&period=30',
    );
  });
});

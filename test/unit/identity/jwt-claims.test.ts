/** Taking a token apart: each has one spelling. The judge is Node's own codec, which writes the bytes again. */
import { describe, expect, test } from 'vitest';
import { takeApart } from '../../../src/identity/jwt-claims.ts';

const ALPHABET = 'ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_';
const encoded = (value: unknown): string => Buffer.from(JSON.stringify(value)).toString('base64url');
const HEADER = encoded({ alg: 'ES256' });
const CLAIMS = encoded({ sub: 'user-1' });

/** Bytes have one unpadded base64url, and it is what is written when they are written again. */
const isOneSpelling = (text: string): boolean =>
  text !== '' && Buffer.from(text, 'base64url').toString('base64url') === text;

describe('a token taken apart', () => {
  test('is refused with any spelling of the signature that the same bytes would not have', () => {
    for (let length = 0; length < 9; length++) {
      for (const last of ALPHABET) {
        const signature = length === 0 ? '' : ALPHABET.slice(0, length - 1) + last;
        const taken = takeApart(`${HEADER}.${CLAIMS}.${signature}`);
        expect(taken !== null, `…${signature}`).toBe(isOneSpelling(signature));
      }
    }
  });

  test('is refused with any character that is not of the alphabet, in any part', () => {
    const good = `${HEADER}.${CLAIMS}.AAAA`;
    expect(takeApart(good)).not.toBeNull();
    for (const odd of ['+', '/', '=', ' ', '\n', '\0', '%', 'ł', 'Ł', 'é', '\u{1f600}', '.']) {
      for (const at of [0, 5, HEADER.length, HEADER.length + 4, good.length - 2, good.length]) {
        expect(takeApart(good.slice(0, at) + odd + good.slice(at)), JSON.stringify([odd, at])).toBeNull();
        if (good[at] !== '.') expect(takeApart(good.slice(0, at) + odd + good.slice(at + 1))).toBeNull();
      }
    }
  });

  test('shows the header of its own, whatever was read before', () => {
    const others = [{ alg: 'ES256', kid: '1' }, { alg: 'ES256', kid: '2' }, { alg: 'none' }, { alg: 'ES256' }];
    for (const header of [...others, ...others.reverse()]) {
      expect(takeApart(`${encoded(header)}.${CLAIMS}.AAAA`)?.header).toEqual(header);
    }
  });

  test('keeps no header that it refused', () => {
    const twice = Buffer.from('{"alg":"none","alg":"ES256"}').toString('base64url');
    for (let i = 0; i < 3; i++) expect(takeApart(`${twice}.${CLAIMS}.AAAA`)).toBeNull();
  });
});

import { readFileSync } from 'node:fs';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { GatewayError } from '../../../src/core/errors.ts';
import { type JsonLimits, parseStrict } from '../../../src/protocols/json.ts';
import { verifies } from '../../helpers/verifies.ts';

/** A JSON text of the corpus: as text, as hex bytes, or as pieces to repeat. */
interface Case {
  readonly name: string;
  readonly text?: string;
  readonly hex?: string;
  readonly repeat?: readonly (readonly [string, number])[];
}

const corpus = (name: string): Case[] =>
  JSON.parse(readFileSync(new URL(`../../corpus/json/${name}.json`, import.meta.url), 'utf8'));

function bytesOf(entry: Case): Buffer {
  if (entry.hex !== undefined) return Buffer.from(entry.hex, 'hex');
  if (entry.repeat !== undefined) return Buffer.from(entry.repeat.map(([text, count]) => text.repeat(count)).join(''));
  return Buffer.from(entry.text ?? '');
}

function refusal(bytes: Buffer, limits?: JsonLimits): GatewayError {
  try {
    parseStrict(bytes, limits);
  } catch (thrown) {
    if (thrown instanceof GatewayError) return thrown;
    throw thrown;
  }
  throw new Error('accepted');
}

const accept = corpus('accept');
const reject = corpus('reject');

describe('strict JSON', () => {
  verifies('X-03');

  test('the corpus is as large as promised', () => {
    expect(accept.length).toBeGreaterThanOrEqual(90);
    expect(reject.length).toBeGreaterThanOrEqual(150);
  });

  test.each(accept.map((entry) => [entry.name, entry] as const))('accepts %s', (_name, entry) => {
    const bytes = bytesOf(entry);
    expect(parseStrict(bytes)).toEqual(JSON.parse(bytes.toString('utf8')));
  });

  test.each(reject.map((entry) => [entry.name, entry] as const))('refuses %s', (_name, entry) => {
    const error = refusal(bytesOf(entry));
    expect(error.code).toBe('INVALID_REQUEST');
    expect(error.message).toMatch(/^JSON: .* at byte \d+$/);
  });

  test('names the byte position of each kind of fault', () => {
    const position = (text: string): unknown => refusal(Buffer.from(text)).extras.details?.position;
    expect(position('{"é":1,"a":2,"a":3}')).toBe(14);
    expect(position('["é", x]')).toBe(7);
    expect(position('[1, 9007199254740992]')).toBe(4);
    expect(position('["ok", "\\ud800"]')).toBe(8);
    expect(position('[1')).toBe(2);
    expect(refusal(Buffer.from('5b22c3a9ff225d', 'hex')).extras.details?.position).toBe(4);
  });

  test('keeps to the limits it is given', () => {
    expect(parseStrict(Buffer.from('[[1]]'), { maxDepth: 2 })).toEqual([[1]]);
    expect(refusal(Buffer.from('[[[1]]]'), { maxDepth: 2 }).message).toContain('deeper than 2');
    expect(refusal(Buffer.from('{"a":1,"b":{"c":2}}'), { maxKeys: 2 }).message).toContain('more than 2');
    expect(refusal(Buffer.from('["abcd"]'), { maxString: 3 }).message).toContain('string too long');
    expect(parseStrict(Buffer.from('["abc"]'), { maxString: 3 })).toEqual(['abc']);
  });

  test('never shows the contents of the body in its message', () => {
    expect(refusal(Buffer.from('{"password":"hunter2" x}')).message).not.toContain('hunter2');
    expect(refusal(Buffer.from('{"hunter2":1,"hunter2":2}')).message).not.toContain('hunter2');
  });

  test('gives what the native parser gives for every value that survives serialising', () => {
    fc.assert(
      fc.property(fc.jsonValue({ maxDepth: 5, stringUnit: 'binary' }), fc.nat(3), (value, indent) => {
        const text = JSON.stringify(value, null, indent);
        const safe = !hasUnsafeInteger(JSON.parse(text)) && !text.includes('"__proto__"');
        if (safe) expect(parseStrict(Buffer.from(text))).toEqual(JSON.parse(text));
      }),
      { numRuns: 500 },
    );
  });

  test('refuses every object in which one key was written twice', () => {
    fc.assert(
      fc.property(
        fc.dictionary(fc.string(), fc.jsonValue({ maxDepth: 2 }), { minKeys: 1, noNullPrototype: true }),
        (object) => {
          const [key, value] = Object.entries(object)[0] as [string, unknown];
          const twice = `${JSON.stringify(object).slice(0, -1)},${JSON.stringify(key)}:${JSON.stringify(value)}}`;
          expect(refusal(Buffer.from(`{"outer":[${twice}]}`)).code).toBe('INVALID_REQUEST');
        },
      ),
      { numRuns: 300 },
    );
  });

  test('accepts no byte sequence that the native parser refuses, whatever is done to the bytes', () => {
    const seed = fc.constantFrom(...accept.map(bytesOf).filter((bytes) => bytes.length > 0 && bytes.length < 200));
    fc.assert(
      fc.property(seed, fc.nat(), fc.nat(255), fc.constantFrom('flip', 'cut', 'insert'), (bytes, place, byte, how) => {
        const at = place % bytes.length;
        const head = bytes.subarray(0, at);
        const tail = bytes.subarray(how === 'insert' ? at : at + 1);
        const changed = how === 'cut' ? head : Buffer.concat([head, Buffer.of(byte), tail]);
        let strict: unknown;
        try {
          strict = parseStrict(changed);
        } catch (thrown) {
          expect(thrown).toBeInstanceOf(GatewayError);
          return;
        }
        const decoder = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true });
        expect(strict).toEqual(JSON.parse(decoder.decode(changed)));
      }),
      { numRuns: 3000 },
    );
  });
});

function hasUnsafeInteger(value: unknown): boolean {
  if (typeof value === 'number') return Number.isInteger(value) && !Number.isSafeInteger(value);
  if (typeof value !== 'object' || value === null) return false;
  return Object.values(value).some(hasUnsafeInteger);
}

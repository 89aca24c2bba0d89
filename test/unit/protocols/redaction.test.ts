import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import type { JsonValue } from '../../../src/core/json.ts';
import {
  clampMembers,
  foldNames,
  hideInMessage,
  hideMembers,
  parseExact,
  RedactingRewriter,
  withoutMembers,
} from '../../../src/protocols/redaction.ts';

const names = foldNames(['ssn', 'Straße']);

describe('members of a request', () => {
  test('are left out at any depth, whatever their case', () => {
    const value = { SSN: 1, ſſn: 2, a: [{ ssn: { deep: 1 }, b: 1 }], ssn_hash: 'x' };
    expect(withoutMembers(value, names)).toEqual({ a: [{ b: 1 }], ssn_hash: 'x' });
  });

  test('stay the same object when none has such a name', () => {
    fc.assert(
      fc.property(fc.jsonValue({ maxDepth: 4 }), (value) => {
        expect(withoutMembers(value as JsonValue, foldNames(['no such name']))).toBe(value);
      }),
    );
  });

  test('that are numbers are capped in every spelling, and set where they are absent or null', () => {
    const most = new Map([['limit', 10]]);
    const same = { limit: 3 };
    expect(clampMembers(same, most)).toBe(same);
    expect(clampMembers({ limit: 30, LIMIT: 40, other: 99 }, most)).toEqual({ limit: 10, LIMIT: 10, other: 99 });
    expect(clampMembers({}, most)).toEqual({ limit: 10 });
    expect(clampMembers({ limit: null }, most)).toEqual({ limit: 10 });
    for (const limit of ['30', true, [30], { n: 30 }]) expect(clampMembers({ limit }, most)).toBeNull();
  });
});

describe('members of an answer', () => {
  test('are hidden in values, in lists and in texts that are JSON themselves', () => {
    const inner = JSON.stringify({ ssn: '1', list: ['{"Ssn":"2"}'] });
    const shown = JSON.stringify(hideMembers({ ssn: { a: 1 }, text: inner, say: 'ssn: 1', broken: '{"ssn":' }, names));
    expect(shown).not.toMatch(/"1"|"2"|\\"1|\\"2/);
    expect(JSON.parse(shown)).toMatchObject({ ssn: '[redacted]', say: 'ssn: 1', broken: '[redacted]' });
  });

  test('cannot hide in texts inside texts', () => {
    let text = '{"ssn":"078-05-1120"}';
    for (let i = 0; i < 10; i++) text = JSON.stringify({ text });
    expect(hideInMessage(text, names, 'whole')).not.toContain('078');
  });

  test('keep every digit and every other member', () => {
    const text = '{"a":12345678901234567890,"b":1.10,"c":1e400,"d":-0,"__proto__":{"x":1},"ssn":1}';
    expect(hideInMessage(text, names, 'whole')).toBe(text.replace('"ssn":1', '"ssn":"[redacted]"'));
  });

  test('are written anew even if nothing was found, so that a doubled key has one meaning', () => {
    expect(hideInMessage('{"a":{"ssn":1},"a":{}}', names, 'whole')).toBe('{"a":{}}');
  });

  test.each([
    '{"ssn":"123-45-6789"}\n{"ssn":"987-65-4321"}',
    'Found 1 row: [{"name":"Ann", "SSN" : "123-45-6789"}]',
    '[{"ssn":"123-45-6789"},',
    'as text: "{\\"ssn\\":\\"123-45-6789\\"}"',
  ])('hide a text that cannot be taken apart and spells a name: %s', (text) => {
    expect(JSON.parse(hideInMessage(JSON.stringify({ text }), names, 'whole'))).toEqual({ text: '[redacted]' });
  });

  test('leave a text alone that only speaks of a name', () => {
    const message = JSON.stringify({ text: 'The ssn: is not "shown": here' });
    expect(hideInMessage(message, names, 'whole')).toBe(message);
  });

  test('of a JSON-RPC message leave its envelope alone', () => {
    const all = foldNames(['id', 'method', 'jsonrpc', 'code']);
    const text = '{"jsonrpc":"2.0","id":1,"error":{"code":-1,"message":"no","data":{"id":7}}}';
    expect(JSON.parse(hideInMessage(text, all, 'json-rpc'))).toEqual({
      jsonrpc: '2.0',
      id: 1,
      error: { code: '[redacted]', message: 'no', data: { id: '[redacted]' } },
    });
  });

  test.each(['', 'no json', '[1', '{"a":1} x'])('that cannot be read (%j) are not passed on', (text) => {
    expect(() => hideInMessage(text, names, 'whole')).toThrow('cannot be redacted');
  });

  test('survive any depth without taking the process down', () => {
    const deep = `${'['.repeat(100_000)}${']'.repeat(100_000)}`;
    expect(() => hideInMessage(deep, names, 'whole')).toThrow('cannot be redacted');
  });

  test('read back as they were where no name occurs', () => {
    fc.assert(
      fc.property(fc.json({ maxDepth: 4, noUnicodeString: false }), (text) => {
        const again = hideInMessage(text, foldNames(['no such name']), 'whole');
        expect(JSON.parse(again)).toEqual(parseExactPlain(text));
      }),
    );
  });
});

const parseExactPlain = (text: string): unknown => JSON.parse(JSON.stringify(parseExact(text)));

describe('the head of an answer', () => {
  const head = (status: number, headers: Record<string, string>) =>
    new RedactingRewriter(['ssn'], 'whole', null).head(status, headers);

  test.each([
    [200, { 'content-type': 'text/plain' }],
    [200, {}],
    [200, { 'content-type': 'Application/JSON' }],
    [200, { 'content-type': 'application/json', 'content-encoding': 'gzip' }],
    [202, { 'content-type': 'text/plain' }],
    [500, { 'content-type': 'text/html' }],
  ])('%i %j announces what cannot be looked into', (status, headers) => {
    expect(() => head(status, headers as Record<string, string>)).toThrow('cannot be redacted');
  });

  test.each([
    [200, { 'content-type': 'application/json; charset=utf-8' }],
    [404, { 'content-type': 'application/json' }],
    [200, { 'content-type': 'text/event-stream' }],
    [202, {}],
    [204, {}],
    [200, { 'content-type': 'text/plain', 'content-length': '0' }],
  ])('%i %j may pass', (status, headers) => {
    expect(head(status, headers as Record<string, string>)).toBe(headers);
  });
});

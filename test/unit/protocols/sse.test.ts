import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { type SseEvent, SseSplitter } from '../../../src/protocols/sse.ts';
import { verifies } from '../../helpers/verifies.ts';

interface Split {
  readonly events: SseEvent[];
  readonly rest: Buffer | null;
}

function split(chunks: readonly Buffer[]): Split {
  const splitter = new SseSplitter();
  const events = chunks.flatMap((chunk) => splitter.push(chunk));
  return { events, rest: splitter.end() };
}

/** The stream cut into pieces of `size` bytes. */
function cut(bytes: Buffer, size: number): Buffer[] {
  const pieces: Buffer[] = [];
  for (let at = 0; at < bytes.length; at += size) pieces.push(bytes.subarray(at, at + size));
  return pieces;
}

const joined = ({ events, rest }: Split): Buffer =>
  Buffer.concat([...events.map((event) => event.raw), rest ?? Buffer.alloc(0)]);

describe('the SSE splitter', () => {
  verifies('X-06');

  test('gives one event per blank line and leaves the unfinished rest', () => {
    const { events, rest } = split([Buffer.from('data: a\n\nid: 7\nevent: message\ndata: b\ndata: c\n\ndata: d')]);
    expect(events.map((event) => [event.id, event.event, event.data])).toEqual([
      [null, null, 'a'],
      ['7', 'message', 'b\nc'],
    ]);
    expect(rest?.toString()).toBe('data: d');
  });

  test.each(['\n', '\r\n', '\r'])('reads lines that end with %j, however the stream is cut', (newline) => {
    const lines = [': hello', '', 'event: x', 'data: {"a":"é😀"}', 'data:second', '', 'retry: 10', '', 'data', '', ''];
    const stream = Buffer.from(lines.join(newline));
    for (let size = 1; size <= stream.length; size++) {
      const result = split(cut(stream, size));
      expect(joined(result).equals(stream)).toBe(true);
      expect(result.events.map((event) => event.data)).toEqual([null, '{"a":"é😀"}\nsecond', null, '']);
      expect(result.rest?.toString().trim() ?? '').toBe('');
    }
  });

  test('gives an event with the chunk that completes it, also when its last line end is CR', () => {
    const splitter = new SseSplitter();
    expect(splitter.push(Buffer.from('data: a\r\r'))).toHaveLength(1);
    expect(splitter.push(Buffer.from('\ndata: b\r\n'))).toHaveLength(0);
    const [second] = splitter.push(Buffer.from('\r\n'));
    expect(second?.data).toBe('b');
  });

  test('does not copy an event that came in one chunk', () => {
    const chunk = Buffer.from('data: a\n\ndata: b\n\n');
    const events = new SseSplitter().push(chunk);
    expect(events.map((event) => event.raw.buffer === chunk.buffer)).toEqual([true, true]);
  });

  test('is byte-exact for any bytes cut anywhere, and cuts do not change the events', () => {
    const byte = fc.constantFrom(10, 13, 10, 13, 0x3a, 0x20, 0x64, 0x61, 0xef, 0xbb, 0xbf, 0x00, 0xff);
    fc.assert(
      fc.property(fc.array(byte, { maxLength: 60 }), fc.integer({ min: 1, max: 7 }), (values, size) => {
        const stream = Buffer.from(values);
        const whole = split([stream]);
        const pieces = split(cut(stream, size));
        expect(joined(whole).equals(stream)).toBe(true);
        expect(joined(pieces).equals(stream)).toBe(true);
        expect(pieces.events.map((event) => event.data)).toEqual(whole.events.map((event) => event.data));
      }),
      { numRuns: 1000 },
    );
  });

  test('replaces the data and keeps every other line', () => {
    const [event] = split([Buffer.from(': c\r\nid: 1\r\ndata: old\r\ndata: more\r\nevent: e\r\n\r\n')]).events;
    expect(event?.withData('{"new":\n1}').toString()).toBe(': c\r\nid: 1\r\ndata: {"new":\ndata: 1}\nevent: e\r\n\r\n');
  });

  test('ignores a byte order mark before the first field', () => {
    expect(split([Buffer.from('\ufeffdata: a\n\n')]).events[0]?.data).toBe('a');
  });

  test('refuses an event that grows beyond the limit, in one chunk or in many', () => {
    expect(() => new SseSplitter(10).push(Buffer.from('data: 0123456789\n\n'))).toThrow('more than 10 bytes');
    const splitter = new SseSplitter(10);
    splitter.push(Buffer.from('data: 01'));
    expect(() => splitter.push(Buffer.from('2345'))).toThrow('more than 10 bytes');
  });
});

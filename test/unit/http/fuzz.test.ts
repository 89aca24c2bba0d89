/** Mutations of the corpus: whatever arrives, the door stands and hands on only what is beyond doubt. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { canonicalTarget } from '../../../src/http/path.ts';
import { verifies } from '../../helpers/verifies.ts';
import { openDoor, RawClient } from './open-door.ts';

const corpus = (
  JSON.parse(readFileSync(join(import.meta.dirname, '../../corpus/http/requests.json'), 'utf8')) as { bytes: string }[]
)
  .map(({ bytes }) => bytes)
  .filter((bytes) => !bytes.includes('{{'));

const mutation = fc.record({
  at: fc.nat(400),
  remove: fc.nat(6),
  insert: fc.oneof(
    fc.constantFrom('\r\n', '\n', '\r', ' ', ':', ',', '\0', '0', 'chunked', 'Host: x\r\n', 'Content-Length: 1\r\n'),
    fc.constantFrom(
      'Transfer-Encoding: chunked\r\n',
      'Connection: host\r\n',
      '%2e',
      '../',
      'HTTP/1.1',
      '\r\n\r\n',
      'é',
    ),
    fc.string({ maxLength: 4, unit: 'binary-ascii' }),
  ),
});

const apply = (bytes: string, { at, remove, insert }: { at: number; remove: number; insert: string }): string => {
  const place = at % (bytes.length + 1);
  return bytes.slice(0, place) + insert + bytes.slice(place + remove);
};

test('mutated requests never crash the door and never reach a handler in a doubtful form', async () => {
  verifies('X-04');
  await using opened = await openDoor();
  const input = fc.tuple(fc.constantFrom(...corpus), fc.array(mutation, { minLength: 1, maxLength: 4 }));
  await fc.assert(
    fc.asyncProperty(input, async ([bytes, mutations]) => {
      opened.seen.length = 0;
      await using client = new RawClient(opened.port);
      client.send(mutations.reduce(apply, bytes)).socket.end();
      await client.closed();
      for (const { path, headers, incoming, method } of opened.seen) {
        expect(canonicalTarget(path)).toMatchObject({ ok: true, path, query: '' });
        expect(incoming.httpVersion).toMatch(/^1\.[01]$/);
        expect([undefined, 'chunked']).toContain(headers['transfer-encoding']?.toLowerCase());
        if (headers['transfer-encoding'] !== undefined) expect(headers['content-length']).toBeUndefined();
        if (method !== 'POST') expect([undefined, '0']).toContain(headers['content-length']);
        expect(headers.connection).toBeUndefined();
      }
    }),
    { numRuns: 1500 },
  );
  await using client = new RawClient(opened.port);
  expect((await client.send('GET /a HTTP/1.1\r\nHost: gate.example\r\n\r\n').answer())?.status).toBe(200);
});

/** Replays raw requests over real sockets against a real door. The oracle is what reached the handler: nothing else may. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { verifies } from '../../helpers/verifies.ts';
import { answerOk, openDoor, RawClient } from './open-door.ts';

interface Case {
  readonly name: string;
  readonly area: string;
  /** Latin-1; `{{text*n}}` stands for n times the text. */
  readonly bytes: string;
  /** Statuses in order; empty when the connection ends without an answer. */
  readonly status: readonly number[];
  /** `METHOD path body` of each request the handler may read to its end. */
  readonly handled: readonly string[];
}

const cases = JSON.parse(
  readFileSync(join(import.meta.dirname, '../../corpus/http/requests.json'), 'utf8'),
) as readonly Case[];

const expand = (text: string): string =>
  text.replace(/\{\{([^*]*)\*(\d+)\}\}/g, (_, part: string, times: string) => part.repeat(Number(times)));

async function replay({ bytes, status }: Case): Promise<{ statuses: number[]; handled: string[] }> {
  const handled: string[] = [];
  await using opened = await openDoor({
    onRequest: (received) => {
      const chunks: Buffer[] = [];
      received.incoming.on('data', (chunk: Buffer) => chunks.push(chunk));
      received.incoming.on('end', () =>
        handled.push(`${received.method} ${received.path} ${Buffer.concat(chunks).toString('latin1')}`),
      );
      answerOk(received);
    },
  });
  await using client = new RawClient(opened.port);
  client.send(expand(bytes));
  const statuses: number[] = [];
  while (statuses.length < status.length) {
    const answer = await client.answer(bytes.startsWith('HEAD '));
    if (answer === null) break;
    statuses.push(answer.status);
    if (answer.status >= 400) expect(answer.headers.connection).toBe('close');
    expect(answer.headers['x-request-id']).toMatch(/^req_[0-9A-Z]{26}$/);
  }
  client.socket.end();
  await client.closed();
  return { statuses, handled };
}

describe('raw requests', () => {
  verifies('X-05');

  test('the corpus holds at least 200 cases', () => {
    expect(cases.length).toBeGreaterThanOrEqual(200);
    expect(new Set(cases.map(({ name }) => name)).size).toBe(cases.length);
  });

  test.each(cases)('$area: $name', async (one) => {
    const { statuses, handled } = await replay(one);
    expect({ statuses, handled }).toEqual({ statuses: one.status, handled: one.handled });
  });
});

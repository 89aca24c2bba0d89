import { appendFileSync, mkdtempSync, renameSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { main } from '../../../src/cli/cli.ts';
import { fakeIo } from './fake-io.ts';

const directory = mkdtempSync(join(tmpdir(), 'portcullis-cli-audit-'));

function event(n: number, type = 'tool_invocation', more: object = {}): string {
  const fields = {
    event_id: `aud_${n}`,
    timestamp: '2025-01-15T10:30:00.000Z',
    event_type: type,
    outcome: 'denied',
    status: 200,
    user_id: 'alice',
    action: 'gateway:tool:invoke',
    server_name: 'orders',
    tool_name: `tool${n}`,
    tool_type: 'query',
    sensitivity_level: 'low',
    reasons: [{ code: 'X', message: 'not today' }],
    ...more,
  };
  return `${JSON.stringify(fields)}\n`;
}

const events = (count: number) => Array.from({ length: count }, (_, i) => event(i)).join('');

function write(name: string, text: string): string {
  const file = join(directory, name);
  writeFileSync(file, text);
  return file;
}

async function tail(file: string, ...argv: string[]) {
  const { io, written } = fakeIo({ cwd: directory });
  const code = await main(['audit', 'tail', '--file', file, ...argv], io);
  return { code, lines: written.out.split('\n').slice(0, -1), err: written.err };
}

describe('portcullis audit tail', () => {
  test('knows the types of events, and says so when there is none of one', async () => {
    const file = write('types.jsonl', event(1));
    const typo = await tail(file, '--type', 'tool_invocations');
    expect(typo).toMatchObject({ code: 2, lines: [] });
    expect(typo.err).toMatch(
      /^portcullis audit: --type is one of tool_invocation, .*\(did you mean "tool_invocation"\?\)\n/,
    );
    const none = await tail(file, '--type', 'login_failed');
    expect(none).toEqual({ code: 0, lines: [], err: `${file} holds no event of type login_failed\n` });
    expect(await tail(file, '--type', 'tool_invocation')).toMatchObject({ code: 0, err: '' });
    expect(await tail(file, '-n', '0')).toEqual({ code: 0, lines: [], err: '' });
  });

  test('names the model of a model call and the path of a plain HTTP call', async () => {
    const none = { server_name: null, tool_name: null };
    const chat = { ...none, action: 'llm:chat:create', path: '/v1/chat/completions', model: 'small' };
    const get = { ...none, action: 'http:get', path: '/api/tasks/7', model: null };
    const { lines } = await tail(write('g.jsonl', event(1, 'data_access', chat) + event(2, 'data_access', get)));
    expect(lines[0]).toMatch(/llm:chat:create {2}small/);
    expect(lines[1]).toMatch(/http:get {2}\/api\/tasks\/7/);
  });

  test('prints the last events, oldest first, in a line each', async () => {
    const file = write('a.jsonl', events(50));
    const { code, lines } = await tail(file, '-n', '2');
    expect(code).toBe(0);
    const common = '2025-01-15T10:30:00.000Z  tool_invocation  denied  200  alice  gateway:tool:invoke';
    expect(lines).toEqual([48, 49].map((n) => `${common}  orders/tool${n}  query/low  not today`));
    expect((await tail(file)).lines).toHaveLength(20);
    expect((await tail(file, '-n', '100')).lines).toHaveLength(50);
  });

  test('--json prints the lines as they are, --type chooses', async () => {
    const file = write('b.jsonl', event(1) + event(2, 'policy_violation') + event(3));
    const { lines } = await tail(file, '--json', '--type', 'policy_violation');
    expect(lines).toEqual([event(2, 'policy_violation').trimEnd()]);
  });

  test('finds a rare type far before the end of a large file, and long lines over block borders', async () => {
    const long = event(1, 'admin_action', { pad: 'ü'.repeat(100_000) });
    const { lines } = await tail(write('c.jsonl', long + events(5000)), '--json', '--type', 'admin_action');
    expect(`${lines[0]}\n`).toBe(long);
  });

  test('leaves out lines that are no events', async () => {
    expect((await tail(write('d.jsonl', `${event(1)}{"torn\n${event(2)}`))).lines).toHaveLength(2);
    expect((await tail(write('e.jsonl', ''))).lines).toEqual([]);
  });

  test('control characters of callers do not reach the terminal', async () => {
    const { lines } = await tail(write('f.jsonl', event(1, 'tool_invocation', { user_id: '\u001b[2Jroot\u202e' })));
    expect(lines.join('')).toContain('root');
    expect(lines.join('')).not.toContain('\u001b');
    expect(lines.join('')).not.toContain('\u202e');
  });

  test('-f goes on with what is appended, also after a rotation, until the signal', async () => {
    const file = write('g.jsonl', event(1));
    const stop = new AbortController();
    let wake: () => void = () => {};
    const { io, written } = fakeIo({ cwd: directory, signal: stop.signal, onOut: () => wake() });
    const seen = async (name: string) => {
      while (!written.out.includes(name)) {
        await new Promise<void>((done) => {
          wake = done;
        });
      }
    };
    const done = main(['audit', 'tail', '-f', '--file', file], io);
    await seen('tool1');
    const second = event(2);
    appendFileSync(file, second.slice(0, 30));
    appendFileSync(file, second.slice(30));
    await seen('tool2');
    renameSync(file, `${file}.1`);
    writeFileSync(file, event(3));
    await seen('tool3');
    stop.abort();
    expect(await done).toBe(0);
    expect(written.out.trimEnd().split('\n')).toHaveLength(3);
  });
});

import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Readable } from 'node:stream';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { classifyCommand } from '../../../src/cli/classify.ts';
import { UnreachableError, UsageError } from '../../../src/cli/io.ts';
import { verifies } from '../../helpers/verifies.ts';

let directory = '';
beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'classify-'));
});
afterEach(() => rmSync(directory, { recursive: true, force: true }));

async function run(argv: readonly string[], input = '') {
  let out = '';
  let err = '';
  const code = await classifyCommand(argv, {
    stdin: Readable.from([input]),
    out: (text) => {
      out += text;
    },
    err: (text) => {
      err += text;
    },
    env: {},
    cwd: directory,
    signal: new AbortController().signal,
  });
  return { code, err, lines: out.split('\n').filter((text) => text !== '') };
}

describe('portcullis classify', () => {
  test('says type, level, reasons and resources of one call', async () => {
    verifies('S-14', 'S-23');
    const { code, lines } = await run(['--server-type', 'sql', '--param', 'query=DROP TABLE users']);
    expect([code, lines]).toEqual([0, ['admin critical', '  reason    sql:drop', '  resource  users']]);
    const json = await run([
      '--server-type',
      'sql',
      '--dialect',
      'MSSQL',
      '--param',
      'query=SELECT TOP 1 * FROM a',
      '--json',
    ]);
    expect(json.lines).toEqual([
      '{"tool_type":"query","sensitivity_level":"low","reasons":["sql:select"],"resources":["a"]}',
    ]);
  });

  test('answers each line of a file in order, tells a bad one by its number, goes on and exits with 1', async () => {
    const good = { server_type: 'sql', tool_name: 'q', parameters: { query: 'SELECT 1' }, dialect: 'sqlite' };
    writeFileSync(
      join(directory, 'calls.jsonl'),
      [
        JSON.stringify(good),
        'not json',
        '{"server_type":"sql","server_type":"file","parameters":{}}',
        JSON.stringify({ ...good, server: { environment: 'production', sensitivity_floor: 'high' } }),
        JSON.stringify({ ...good, server: 'nowhere' }),
        JSON.stringify({ ...good, surprise: 1 }),
        JSON.stringify({ server_type: 'file', tool_name: 'read_file', parameters: { path: '/etc/shadow' } }),
        JSON.stringify({ server_type: 'sql', tool_name: 'reset_database', parameters: null }),
      ].join('\n'),
    );
    const { code, lines } = await run(['--jsonl', 'calls.jsonl']);
    const answers = lines.map((text) => JSON.parse(text) as Record<string, unknown>);
    expect(code).toBe(1);
    expect(answers.map((one) => one.sensitivity_level ?? one.line)).toEqual([
      'low',
      2,
      3,
      'critical',
      5,
      6,
      'high',
      'critical',
    ]);
    expect(answers[1]).toEqual({ line: 2, error: { code: 'INVALID_REQUEST', message: expect.any(String) as string } });
  });

  test('reads standard input as "-" and exits with 0 when every line was good', async () => {
    const { code, lines } = await run(['--jsonl', '-'], '{"server_type":"mystery","tool_name":"x","parameters":{}}\n');
    expect([code, lines.length]).toEqual([0, 1]);
  });

  test('takes --server-type for lines that name none, and for no other', async () => {
    const call = { tool_name: 'read_file', parameters: { path: 'a' } };
    const lines = [call, { ...call, server_type: 'mystery' }].map((one) => JSON.stringify(one)).join('\n');
    const found = await run(['--jsonl', '-', '--server-type', 'file'], lines);
    expect(found.code).toBe(0);
    expect(found.lines.map((text) => (JSON.parse(text) as { tool_type: string }).tool_type)).toEqual([
      'query',
      'custom',
    ]);
    expect((await run(['--jsonl', '-'], lines)).code).toBe(1);
  });

  test('a configured server gives type, dialect, environment, floors, rules and sensitive names', async () => {
    writeFileSync(
      join(directory, 'portcullis.yaml'),
      [
        'version: 1',
        'servers:',
        '  orders: { type: sql, dialect: sqlite, url: "http://127.0.0.1:7001/mcp", environment: production }',
        'classification: { sensitive_resources: [invoices] }',
      ].join('\n'),
    );
    const one = await run(['--server', 'orders', '--param', 'query=PRAGMA table_info(x)', '--json']);
    expect(JSON.parse(one.lines[0] ?? '')).toMatchObject({ tool_type: 'query', sensitivity_level: 'low' });
    const two = await run(['--server', 'orders', '--param', 'query=SELECT * FROM invoices', '--json']);
    expect(JSON.parse(two.lines[0] ?? '')).toMatchObject({ sensitivity_level: 'critical' });
  });

  test('wrong usage and an absent file are told apart', async () => {
    await expect(run([])).rejects.toThrow(UsageError);
    await expect(run(['--server-type', 'sql', '--param', 'x'])).rejects.toThrow(UsageError);
    await expect(run(['--server-type', 'sql', '--dialect', 'klingon'])).rejects.toThrow(UsageError);
    await expect(run(['--jsonl', 'absent'])).rejects.toThrow(UnreachableError);
    expect((await run(['--help'])).code).toBe(0);
  });
});

import { appendFileSync, mkdtempSync, readFileSync, renameSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import type { AuditDraft } from '../../../src/audit/event.ts';
import { type AuditRecorderOptions, createAuditRecorder } from '../../../src/audit/recorder.ts';
import { silentLogger } from '../../../src/observability/logger.ts';
import { verifies } from '../../helpers/verifies.ts';

const newFile = () => join(mkdtempSync(join(tmpdir(), 'portcullis-audit-')), 'inner', 'audit.jsonl');

function open(file: string, more: Partial<AuditRecorderOptions> = {}) {
  return createAuditRecorder({
    file,
    redact: [],
    maxValueBytes: 256,
    clock: { now: () => Date.UTC(2025, 0, 15, 10, 30, 1, 7) },
    logger: silentLogger,
    ...more,
  });
}

const event = (details: Record<string, unknown> = {}): AuditDraft => ({
  event_type: 'admin_action',
  request_id: 'req_1',
  tenant_id: 'default',
  user_id: 'u',
  principal_type: 'user',
  auth_provider: 'keys',
  key_id: null,
  source_ip: '127.0.0.1',
  user_agent: null,
  session_id: null,
  operation: 'policy.reload',
  outcome: 'allowed',
  details,
});

const invocation = (parameters: unknown): AuditDraft => ({
  ...event(),
  event_type: 'tool_invocation',
  route: '/mcp/orders',
  method: 'POST',
  path: '/mcp/orders',
  action: 'gateway:tool:invoke',
  server_name: 'orders',
  tool_name: 'execute_query',
  outcome: 'allowed',
  status: 200,
  code: null,
  flag: 'OK',
  duration_ms: 1,
  decision_id: 'dec_1',
  policy_revision: 'r',
  decision_cached: false,
  reasons: [],
  parameters,
  parameters_sha256: null,
});

const linesOf = (file: string) =>
  readFileSync(file, 'utf8')
    .split('\n')
    .filter((text) => text !== '')
    .map((text) => JSON.parse(text) as Record<string, unknown>);

describe('the audit file', () => {
  test('gets one JSON object per line, with a unique id that sorts by time and a UTC time', async () => {
    verifies('S-91');
    const file = newFile();
    let now = Date.UTC(2025, 0, 15, 10, 30, 1, 7);
    await using recorder = open(file, { clock: { now: () => now++ } });
    for (let i = 0; i < 1000; i++) recorder.record(event({ i }));
    await recorder.flush();
    const lines = linesOf(file);
    expect(lines).toHaveLength(1000);
    expect(lines[0]).toMatchObject({
      timestamp: '2025-01-15T10:30:01.007Z',
      event_type: 'admin_action',
      details: { i: 0 },
    });
    const ids = lines.map(({ event_id }) => String(event_id));
    expect(new Set(ids).size).toBe(1000);
    expect(ids).toEqual(ids.toSorted());
    expect(ids[0]).toMatch(/^aud_[0-9A-HJKMNP-TV-Z]{26}$/);
  });

  test('is private, appended to, and made with its directory', async () => {
    const file = newFile();
    for (let i = 0; i < 2; i++) {
      const recorder = open(file);
      recorder.record(event());
      await recorder[Symbol.asyncDispose]();
    }
    expect(statSync(file).mode & 0o777).toBe(0o600);
    expect(linesOf(file)).toHaveLength(2);
  });

  test('redacts parameters, and gives a digest where it changed them', async () => {
    verifies('SF-66', 'S-92');
    const file = newFile();
    await using recorder = open(file, {
      sensitiveParams: (server, tool) => (server === 'orders' && tool === 'execute_query' ? ['iban'] : []),
    });
    recorder.record(invocation({ query: 'SELECT 1' }));
    recorder.record(invocation({ password: 'hunter2', iban: 'DE00', note: 'y'.repeat(1000) }));
    await recorder.flush();
    const [first, second] = linesOf(file);
    expect(first).toMatchObject({ parameters: { query: 'SELECT 1' }, parameters_sha256: null });
    expect(second?.parameters).toMatchObject({ password: '[redacted]', iban: '[redacted]' });
    expect(second?.parameters_sha256).toMatch(/^sha256:[0-9a-f]{64}$/);
    expect(readFileSync(file, 'utf8')).not.toContain('hunter2');
  });

  test('a caller’s text cannot add a line or a field', async () => {
    const file = newFile();
    await using recorder = open(file);
    recorder.record({ ...event(), user_agent: 'x"}\n{"event_type":"forged"}\u2028' });
    await recorder.flush();
    expect(linesOf(file)).toHaveLength(1);
  });

  test('ends a line that a crash tore, so that the next event is readable', async () => {
    const file = newFile();
    await open(file)[Symbol.asyncDispose]();
    appendFileSync(file, '{"event_id":"aud_torn');
    await using recorder = open(file);
    recorder.record(event());
    await recorder.flush();
    const lines = readFileSync(file, 'utf8').trimEnd().split('\n');
    expect(lines[0]).toBe('{"event_id":"aud_torn');
    expect(JSON.parse(lines[1] ?? '')).toMatchObject({ event_type: 'admin_action' });
  });

  test('goes on in a new file after a rotation', async () => {
    const file = newFile();
    await using recorder = open(file);
    recorder.record(event({ n: 1 }));
    await recorder.flush();
    renameSync(file, `${file}.1`);
    recorder.reopen();
    recorder.record(event({ n: 2 }));
    await recorder.flush();
    expect(linesOf(`${file}.1`)).toHaveLength(1);
    expect(linesOf(file)).toMatchObject([{ details: { n: 2 } }]);
  });

  test('closing writes everything, and later events are counted as lost', async () => {
    const file = newFile();
    const recorder = open(file);
    for (let i = 0; i < 500; i++) recorder.record(event({ i }));
    await recorder[Symbol.asyncDispose]();
    recorder.record(event());
    expect(linesOf(file)).toHaveLength(500);
    expect(recorder.status().dropped).toBe(1);
  });

  test('memory is bounded: what does not fit is counted, reported once, and shown', async () => {
    const file = newFile();
    let lost = 0;
    const logged: string[] = [];
    await using recorder = open(file, {
      maxBuffered: 10_000,
      onDrop: (count) => {
        lost += count;
      },
      logger: { ...silentLogger, error: (_fields, message) => logged.push(message) },
    });
    for (let i = 0; i < 1000; i++) recorder.record(event({ i }));
    expect(lost).toBeGreaterThan(0);
    expect(recorder.status()).toMatchObject({ healthy: false, dropped: lost });
    expect(logged).toEqual(['audit events are being dropped']);
    await recorder.flush();
    expect(linesOf(file).length + lost).toBe(1000);
    expect(recorder.status().healthy).toBe(true);
  });

  test('never throws, also for a value that is no JSON', async () => {
    const file = newFile();
    await using recorder = open(file);
    const circle: Record<string, unknown> = {};
    circle.self = circle;
    recorder.record(event({ circle, big: 10n }));
    recorder.record({ ...event(), user_id: 10n as unknown as string });
    recorder.record(event());
    await recorder.flush();
    expect(recorder.status().dropped).toBe(1);
    expect(linesOf(file)).toHaveLength(2);
  });

  test('a disk that refuses writes is shown, and nothing is lost when it takes them again', async () => {
    let failures = 0;
    // The kernel's own full disk.
    const recorder = open('/dev/full', {
      onWriteFailure: () => {
        failures++;
      },
    });
    recorder.record(event());
    await recorder.flush();
    expect(failures).toBe(1);
    expect(recorder.status()).toMatchObject({ healthy: false });
    expect(recorder.status().buffered).toBeGreaterThan(0);
    await recorder[Symbol.asyncDispose]();
  });

  test('a file that cannot be opened is refused at start', () => {
    const file = newFile();
    const blocker = join(file, '..', '..', 'blocked');
    writeFileSync(blocker, '');
    expect(() => open(join(blocker, 'audit.jsonl'))).toThrow();
  });
});

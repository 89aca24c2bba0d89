/** The decision log at a service: what arrives, what waits, what is lost, and that nobody waits for it. */
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { buffer } from 'node:stream/consumers';
import { gunzipSync } from 'node:zlib';
import { afterEach, describe, expect, test } from 'vitest';
import type { Decision } from '../../../src/core/decision.ts';
import type { Logger } from '../../../src/core/module.ts';
import { Secret } from '../../../src/core/secret.ts';
import { type DecisionLogOptions, type DropReason, openDecisionLog } from '../../../src/policy/decision-log.ts';
import { buildInput } from '../../../src/policy/input.ts';
import type { LoggedDecision } from '../../../src/policy/log-event.ts';
import { verifies } from '../../helpers/verifies.ts';
import { makeRequest, NOW } from './requests.ts';

const QUIET: Logger = { debug() {}, info() {}, warn() {}, error() {} };

interface LogEvent {
  readonly decision_id: string;
  readonly nd_builtin_cache?: unknown;
  readonly erased?: readonly string[];
  readonly input?: { readonly parameters?: Record<string, unknown> };
}

interface LogService {
  readonly url: string;
  readonly server: Server;
  readonly events: LogEvent[];
  readonly bodies: { readonly path: string; readonly bytes: number; readonly headers: IncomingMessage['headers'] }[];
  /** What it answers; 204 unless a test says otherwise. */
  status: number;
}

const open: Server[] = [];
afterEach(() => {
  for (const server of open.splice(0)) {
    server.closeAllConnections();
    server.close();
  }
});

async function startLogService(port = 0): Promise<LogService> {
  const answer = async (request: IncomingMessage, response: ServerResponse) => {
    const body = await buffer(request);
    if (service.status < 300) {
      service.bodies.push({ path: request.url ?? '', bytes: body.length, headers: request.headers });
      service.events.push(...(JSON.parse(gunzipSync(body).toString()) as LogEvent[]));
    }
    response.writeHead(service.status).end();
  };
  const server = createServer((request, response) => void answer(request, response));
  server.listen(port, '127.0.0.1');
  await once(server, 'listening');
  open.push(server);
  const service: LogService = {
    ...{ server, url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`, status: 204 },
    ...{ events: [], bodies: [] },
  };
  return service;
}

function decisionNamed(id: string): Decision {
  return {
    ...{ decision_id: id, allow: true, deny: [], obligations: [], revision: 'sha256:1' },
    ...{ cached: false, eval_us: 5, failure: null },
  };
}

function logged(id: string, parameters: Record<string, string> = { query: 'SELECT 1' }): LoggedDecision {
  const request = makeRequest({ call: { parameters }, facts: { now: NOW } });
  return {
    decision: decisionNamed(id),
    request,
    entrypoint: 'portcullis/main/decision',
    input: buildInput(request, null),
  };
}

function logTo(url: string, options: Partial<DecisionLogOptions> = {}, upload: Record<string, unknown> = {}) {
  const lost: Partial<Record<DropReason, number>> = {};
  const log = openDecisionLog(
    {
      service: { url, minSeconds: 3600, maxSeconds: 3600, maxBytes: 32_768, ...upload },
      dropped(reason, count) {
        lost[reason] = (lost[reason] ?? 0) + count;
      },
      ...options,
    },
    QUIET,
  );
  return { log, lost };
}

/** Text that does not compress. */
const noise = (bytes: number): string => randomBytes(bytes).toString('base64').slice(0, bytes);

describe('the decision log at a service', () => {
  test('is a gzipped JSON array of events at /logs/PARTITION, in order, with the credential', async () => {
    verifies('SF-66');
    const service = await startLogService();
    const { log } = logTo(`${service.url}/opa/`, {}, { partition: 'eu', credential: new Secret('log-secret') });
    for (let i = 0; i < 20; i++) log.record(logged(`dec_${i}`));
    await log.close();
    expect(service.events.map(({ decision_id }) => decision_id)).toEqual(
      Array.from({ length: 20 }, (_, i) => `dec_${i}`),
    );
    const [first] = service.bodies;
    expect(first?.path).toBe('/opa/logs/eu');
    expect(first?.headers).toMatchObject({
      ...{ 'content-type': 'application/json', 'content-encoding': 'gzip', authorization: 'Bearer log-secret' },
    });
    expect(log.figures()).toMatchObject({ waiting: 0, uploaded: 20, withheld: 0, last_upload_error: null });
  });

  test('has the members that OPA documents, enough for a replay', async () => {
    const service = await startLogService();
    const { log } = logTo(service.url);
    log.record({ ...logged('dec_1'), batchId: 'dec_b' });
    await log.close();
    expect(service.events[0]).toMatchObject({
      labels: { id: expect.any(String), version: expect.any(String) },
      ...{ decision_id: 'dec_1', batch_decision_id: 'dec_b', path: 'portcullis/main/decision' },
      bundles: { portcullis: { revision: 'sha256:1' } },
      input: { user: { id: 'alice' }, parameters: { query: 'SELECT 1' } },
      result: { allow: true, deny: [], obligations: [] },
      ...{ requested_by: '203.0.113.7', timestamp: '2025-01-15T10:30:00.123Z', req_id: 'req_1' },
      metrics: { timer_rego_query_eval_ns: 5000 },
      nd_builtin_cache: { 'time.now_ns': { '[]': NOW * 1e6 } },
    });
  });

  test('comes in pieces that stay below the limit after compression, and fill it', async () => {
    const service = await startLogService();
    const { log } = logTo(service.url, {}, { maxBytes: 8192 });
    for (let i = 0; i < 2000; i++) log.record(logged(`dec_${i}`, { query: noise(i % 300) }));
    await log.close();
    expect(service.events).toHaveLength(2000);
    expect(service.bodies.every(({ bytes }) => bytes <= 8192)).toBe(true);
    const full = service.bodies.slice(0, -1);
    const mean = full.reduce((sum, { bytes }) => sum + bytes, 0) / full.length;
    expect(mean).toBeGreaterThan(8192 * 0.6);
  });

  test('leaves out what builtins answered, and then the event, when one alone is too large', async () => {
    const service = await startLogService();
    const { log, lost } = logTo(service.url, {}, { maxBytes: 2000 });
    log.record(logged('dec_small'));
    log.record(logged('dec_big', { query: noise(4000), more: noise(4000) }));
    log.record(logged('dec_after'));
    await log.close();
    expect(service.events.map(({ decision_id }) => decision_id)).toEqual(['dec_small', 'dec_after']);
    expect(lost).toEqual({ too_large: 1 });
  });

  test('loses nothing when the service comes back, and sends each event once', async () => {
    const service = await startLogService();
    service.status = 503;
    const { log, lost } = logTo(service.url, { maxWaiting: 500 });
    for (let i = 0; i < 300; i++) log.record(logged(`dec_${i}`));
    await log.flush();
    expect(log.figures()).toMatchObject({ waiting: 300, last_upload_error: 'answered with status 503' });
    service.status = 200;
    await log.flush();
    expect(service.events.map(({ decision_id }) => decision_id)).toEqual(
      Array.from({ length: 300 }, (_, i) => `dec_${i}`),
    );
    expect(lost).toEqual({});
    await log.close();
  });

  test('tries again by itself after an outage', async () => {
    const service = await startLogService();
    service.status = 500;
    const done = Promise.withResolvers<void>();
    const { log } = logTo(service.url, {
      uploaded(ok) {
        if (ok) done.resolve();
        else service.status = 200;
      },
    });
    log.record(logged('dec_1'));
    await log.flush();
    await done.promise;
    expect(service.events).toHaveLength(1);
    await log.close();
  });

  test('is bounded while nobody listens, and costs the caller nothing', async () => {
    const service = await startLogService();
    const { url } = service;
    open.splice(0);
    service.server.close();
    const { log, lost } = logTo(url, { maxWaiting: 1000 }, { closeMs: 50 });
    const event = logged('dec_1');
    const started = performance.now();
    for (let i = 0; i < 100_000; i++) log.record(event);
    const each = ((performance.now() - started) * 1000) / 100_000;
    expect(each).toBeLessThan(20);
    expect(log.figures().waiting).toBe(1000);
    await log.flush();
    expect(log.figures().waiting).toBe(1000);
    expect(lost).toEqual({ waiting: 99_000 });
    await log.close();
    expect(lost).toEqual({ waiting: 99_000, closed: 1000 });
    expect(log.figures().waiting).toBe(0);
  });

  test('drops what is over the rate, by the clock of the requests', async () => {
    const service = await startLogService();
    const { log, lost } = logTo(service.url, { dropOver: 3 });
    for (let i = 0; i < 10; i++) log.record(logged(`dec_${i}`));
    await log.close();
    expect(service.events).toHaveLength(3);
    expect(lost).toEqual({ rate: 7 });
  });

  test('removes the places that the configuration names', async () => {
    const service = await startLogService();
    const { log } = logTo(service.url, { mask: ['/input/user/email', '/input/parameters/query', '/result/nothing'] });
    log.record(logged('dec_1'));
    await log.close();
    expect(service.events[0]?.input?.parameters).toEqual({});
    expect(service.events[0]?.erased).toEqual(expect.arrayContaining(['/input/parameters/query']));
    expect(service.events[0]?.erased).not.toContain('/result/nothing');
  });

  test('keeps neither the depth nor the length of a hostile document', async () => {
    const service = await startLogService();
    const { log } = logTo(service.url);
    const wide = Object.fromEntries(Array.from({ length: 100_000 }, (_, i) => [`k${i}`, 'v']));
    log.record(logged('dec_1', wide));
    await log.close();
    expect(JSON.stringify(service.events[0]).length).toBeLessThan(2_000_000);
  });
});

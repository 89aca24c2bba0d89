/** The decision log at a service, seen from the front door: requests do not wait, and nothing is lost over an outage. */
import type { IncomingMessage, ServerResponse } from 'node:http';
import { buffer } from 'node:stream/consumers';
import { gunzipSync } from 'node:zlib';
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { ADMIN_TOKEN, type PartialConfig, POLICIES, startGateway, type TestGateway } from '../helpers/gateway.ts';
import { type Service, startService } from '../helpers/upstreams.ts';

interface Event {
  readonly decision_id: string;
  readonly input: { readonly action: string };
}

let upstream: Service;
let sink: Service;
let status = 204;
let events: Event[] = [];
let refused = 0;

async function take(request: IncomingMessage, response: ServerResponse): Promise<void> {
  const body = await buffer(request);
  if (status < 300) events.push(...(JSON.parse(gunzipSync(body).toString()) as Event[]));
  else refused++;
  response.writeHead(request.headers.authorization === 'Bearer sink-token-1' ? status : 401).end();
}

beforeAll(async () => {
  upstream = await startService((_request, response) => response.end('{"ok":true}'));
  sink = await startService((request, response) => void take(request, response));
});
beforeEach(() => {
  [status, events, refused] = [204, [], 0];
});
afterAll(async () => {
  await upstream[Symbol.asyncDispose]();
  await sink[Symbol.asyncDispose]();
});

const config = (): PartialConfig => ({
  routes: [{ match: '/api', protocol: 'http', url: upstream.url, identity: ['keys'] }],
  policy: {
    ...{ bundle: POLICIES, watch: false },
    decision_log: {
      service: { url: sink.url, credential: 'sink-token-1', partition: 'p1' },
      // Sent as soon as there is anything: a test cannot wait.
      upload: { min_seconds: 0, max_seconds: 0.05 },
    },
  },
});

async function send(gateway: TestGateway, count: number): Promise<(string | null)[]> {
  const authorization = `Bearer ${await gateway.key('admin')}`;
  const ids: (string | null)[] = [];
  for (let i = 0; i < count; i++) {
    const response = await fetch(`${gateway.url}/api/${i}`, { headers: { authorization } });
    expect(response.status).toBe(200);
    await response.arrayBuffer();
    ids.push(response.headers.get('x-decision-id'));
  }
  return ids;
}

describe('the decision log at a service', () => {
  test('has every decision by the time the gateway has stopped', async () => {
    await using gateway = await startGateway(config());
    const ids = await send(gateway, 40);
    await gateway.stop();
    expect(events.map(({ decision_id }) => decision_id)).toEqual(ids);
    expect(events[0]?.input.action).toBe('http:get');
  });

  test('loses nothing over an outage, and requests do not notice one', async () => {
    status = 503;
    await using gateway = await startGateway(config());
    const ids = await send(gateway, 40);
    await gateway.logged(/takes nothing; events wait/);
    expect(refused).toBeGreaterThan(0);
    const response = await fetch(`${gateway.admin}/policy/status`, {
      headers: { authorization: `Bearer ${ADMIN_TOKEN}` },
    });
    expect(await response.json()).toMatchObject({
      decision_log: { waiting: 40, last_upload_error: 'answered with status 503' },
      latency: { 'portcullis/main/decision': { p99_us: expect.any(Number) } },
      ...{ age_seconds: expect.any(Number), host: { instances: expect.any(Number), recycled: 0 } },
    });
    status = 200;
    await gateway.logged(/the decision log service is back/);
    await gateway.stop();
    expect(events.map(({ decision_id }) => decision_id)).toEqual(ids);
  });

  test('is counted in the metrics', async () => {
    await using gateway = await startGateway(config());
    await send(gateway, 3);
    const headers = { authorization: `Bearer ${ADMIN_TOKEN}` };
    const metrics = async () => (await fetch(`${gateway.admin}/metrics`, { headers })).text();
    while (!/portcullis_decision_log_uploaded_total 3/.test(await metrics()));
    expect(await metrics()).toMatch(/portcullis_decision_log_waiting 0/);
    expect(await metrics()).toMatch(
      /portcullis_policy_p99_seconds\{entrypoint="portcullis\/main\/decision"\} [\d.e-]+/,
    );
    expect(await metrics()).toMatch(/portcullis_policy_host\{what="timeouts"\} 0/);
  });

  test('is refused in the clear to another machine, and when it goes nowhere', async () => {
    const to = (decision_log: object) => startGateway({ policy: { bundle: POLICIES, decision_log } } as PartialConfig);
    await expect(to({ service: { url: 'http://192.0.2.1/' } })).rejects.toThrow(/https/);
    await expect(to({})).rejects.toThrow(/neither a file nor a service/);
    await expect(to({ file: 'x', mask: ['/labels/id'] })).rejects.toThrow(/a place such as/);
  });
});

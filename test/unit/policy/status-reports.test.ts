/** A management service is told how the policy does: when something changed, once, and again after an outage. */
import { text } from 'node:stream/consumers';
import { afterAll, beforeAll, beforeEach, describe, expect, test, vi } from 'vitest';
import { Secret } from '../../../src/core/secret.ts';
import type { PolicyStatus } from '../../../src/policy/engine.ts';
import type { SourceStatus } from '../../../src/policy/sources.ts';
import { startStatusReports } from '../../../src/policy/status-reports.ts';
import { POLICIES, startGateway } from '../../helpers/gateway.ts';
import { type Service, startService } from '../../helpers/upstreams.ts';

interface Report {
  readonly labels: object;
  readonly bundles: { readonly portcullis: Readonly<Record<string, unknown>> };
  readonly plugins: object;
}

let service: Service;
let answer = 200;
let asked: { path: string | undefined; authorization: string | undefined }[] = [];
let reports: Report[] = [];

beforeAll(async () => {
  service = await startService(async (request, response) => {
    const body = await text(request);
    asked.push({ path: request.url, authorization: request.headers.authorization });
    if (answer === 200) reports.push(JSON.parse(body) as Report);
    response.writeHead(answer).end();
  });
});
beforeEach(() => {
  [answer, asked, reports] = [200, [], []];
});
afterAll(() => service[Symbol.asyncDispose]());

const source = (more: Partial<SourceStatus> = {}): SourceStatus => ({
  ...{ kind: 'service', name: 'https://bundles.example/p', active_revision: 'sha256:a', code: null, message: null },
  ...{ last_request: 1_000, last_successful_request: 1_000, last_successful_download: 500 },
  ...{ last_successful_activation: 600, http_code: 200, errors: 0, size: 1234, type: 'snapshot' as const },
  ...more,
});
const statusOf = (more: Partial<PolicyStatus> = {}): PolicyStatus => ({
  ...{ revision: 'sha256:a', bundle_revision: 'r1', activated_at: 600, last_error: null, entrypoints: [] },
  ...{ source: source(), ...more },
});

function start(read: () => PolicyStatus) {
  const said: string[] = [];
  const log = (_fields: unknown, message?: string) => void said.push(message ?? '');
  const logger = { debug: log, info: log, warn: log, error: log };
  const credential = new Secret('status-token-1');
  const running = startStatusReports({
    ...{ url: `${service.url}/`, credential, partition: 'gw', everyMs: 2, read, logger: logger as never },
  });
  return { running, said };
}

const told = (count: number) => vi.waitFor(() => expect(reports.length).toBeGreaterThanOrEqual(count), { interval: 2 });

describe('reports on the policy', () => {
  test('say what is in force in the words of OPA, with the credential, at the partition', async () => {
    const { running } = start(() => statusOf());
    await told(1);
    await running.close();
    expect(asked[0]).toEqual({ path: '/status/gw', authorization: 'Bearer status-token-1' });
    expect(reports[0]).toEqual({
      labels: { id: expect.any(String), version: expect.any(String), app: 'portcullis' },
      bundles: {
        portcullis: {
          ...{ name: 'portcullis', active_revision: 'r1', http_code: '200', size: 1234, type: 'snapshot' },
          last_request: '1970-01-01T00:00:01.000Z',
          last_successful_request: '1970-01-01T00:00:01.000Z',
          last_successful_download: '1970-01-01T00:00:00.500Z',
          last_successful_activation: '1970-01-01T00:00:00.600Z',
        },
      },
      plugins: { bundle: { state: 'OK' } },
    });
  });

  test('come when something changed, and not for each request of a bundle that is not new', async () => {
    let looks = 0;
    let status = statusOf();
    const { running } = start(() => {
      looks++;
      return { ...status, source: { ...source(), ...status.source, last_request: looks } as SourceStatus };
    });
    await told(1);
    const before = looks;
    await vi.waitFor(() => expect(looks).toBeGreaterThan(before + 5), { interval: 2 });
    expect(reports).toHaveLength(1);
    status = statusOf({ last_error: 'the bundle has no signature', source: source({ errors: 1 }) });
    await told(2);
    status = statusOf({ revision: null, bundle_revision: null, last_error: 'no policy' });
    await told(3);
    await running.close();
    expect(reports[1]).toMatchObject({
      bundles: { portcullis: { active_revision: 'r1', code: 'bundle_error', message: 'the bundle has no signature' } },
      plugins: { bundle: { state: 'WARN' } },
    });
    expect(reports[2]?.bundles.portcullis).not.toHaveProperty('active_revision');
    expect(reports[2]).toMatchObject({ plugins: { bundle: { state: 'NOT_READY' } } });
  });

  test('of what is so now reach a service that was away, and the log names the outage once', async () => {
    answer = 503;
    let status = statusOf();
    const { running, said } = start(() => status);
    await vi.waitFor(() => expect(asked.length).toBeGreaterThan(2), { interval: 2 });
    status = statusOf({ bundle_revision: 'r2' });
    answer = 200;
    await told(1);
    await running.close();
    expect(reports.map(({ bundles }) => bundles.portcullis.active_revision)).toEqual(['r2']);
    expect(said).toEqual(['the status service takes nothing; it is told again later', 'the status service is back']);
  });

  test('are made by a gateway that names a service, and not sent in the clear to another machine', async () => {
    const status_reports = { url: service.url, credential: 'status-token-1', every_seconds: 0.01 };
    await using gateway = await startGateway({ policy: { bundle: POLICIES, watch: false, status_reports } } as never);
    await told(1);
    expect(reports[0]?.bundles.portcullis.active_revision).toMatch(/./);
    expect(reports[0]?.plugins).toEqual({ bundle: { state: 'OK' } });
    const far = { bundle: POLICIES, status_reports: { url: 'http://192.0.2.1/' } };
    await expect(startGateway({ policy: far } as never)).rejects.toThrow(/https/);
    await gateway.stop();
  });
});

/** Routes that only report: the policy's no is recorded and let through; what is no question of policy still binds. */
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import {
  ADMIN_TOKEN,
  leading,
  type PartialConfig,
  POLICIES,
  scenarioConfig,
  startGateway,
} from '../helpers/gateway.ts';
import { type Service, startService } from '../helpers/upstreams.ts';
import { verifies } from '../helpers/verifies.ts';

const seen: string[] = [];
let upstream: Service;
beforeAll(async () => {
  upstream = await startService((request, response) => {
    seen.push(`${request.method} ${request.url}`);
    response.end('{"ok":true}');
  });
});
afterAll(() => upstream[Symbol.asyncDispose]());

const permissions = { GET: ['tasks:read'], DELETE: ['tasks:delete'] };

function config(mode: 'enforce' | 'report', extra: PartialConfig = {}): PartialConfig {
  return {
    routes: [{ match: '/api', protocol: 'http', url: upstream.url, identity: ['keys'], permissions, mode }],
    ...extra,
  };
}

describe('a route with mode: report', () => {
  test('lets through what the policy refuses, and records what would have happened', async () => {
    verifies('X-10', 'V-38', 'H-20', 'SW-08');
    seen.length = 0;
    await using gateway = await startGateway(config('report'));
    const authorization = `Bearer ${await gateway.key('viewer')}`;
    const response = await fetch(`${gateway.url}/api/1`, { method: 'DELETE', headers: { authorization } });
    expect(response.status).toBe(200);
    expect(seen).toEqual(['DELETE /api/1']);
    expect([...response.headers.keys()].filter((name) => /deny|portcullis/i.test(name))).toEqual([]);
    const metrics = await (
      await fetch(`${gateway.admin}/metrics`, { headers: { authorization: `Bearer ${ADMIN_TOKEN}` } })
    ).text();
    expect(metrics).toMatch(/portcullis_would_deny_total\{route="\/api",code="\w+"\} 1/);
    const status = await fetch(`${gateway.admin}/policy/status`, {
      headers: { authorization: `Bearer ${ADMIN_TOKEN}` },
    });
    expect(await status.json()).toMatchObject({ report_only: ['/api'] });
    await gateway.stop();
    const events = await gateway.audit();
    const [end] = leading(events).filter(({ event_type }) => event_type === 'data_access');
    expect(end).toMatchObject({ outcome: 'allowed', status: 200, code: null, reasons: [] });
    expect(end).toMatchObject({ would_deny: { code: expect.any(String), reasons: [{ code: expect.any(String) }] } });
    expect(events.filter(({ event_type }) => event_type === 'policy_violation')).toEqual(
      expect.arrayContaining([expect.objectContaining({ enforced: false })]),
    );
    const [decision] = (await gateway.decisions()).trim().split('\n');
    expect(JSON.parse(decision ?? '')).toMatchObject({
      ...{ result: { allow: false }, custom: { mode: 'report', would_deny: true } },
    });
  });

  test('is the same route with its policy in force once the line is gone', async () => {
    seen.length = 0;
    await using gateway = await startGateway(config('report'));
    const authorization = `Bearer ${await gateway.key('viewer')}`;
    const send = async () =>
      (await fetch(`${gateway.url}/api/1`, { method: 'DELETE', headers: { authorization } })).status;
    expect(await send()).toBe(200);
    await gateway.reload(config('enforce'));
    expect(await send()).toBe(403);
    expect(seen).toEqual(['DELETE /api/1']);
  });

  test('refuses as ever who brings no credential, or a bad one', async () => {
    seen.length = 0;
    await using gateway = await startGateway(config('report'));
    expect((await fetch(`${gateway.url}/api/1`)).status).toBe(401);
    const headers = { authorization: 'Bearer pcl_dev_nothing' };
    expect((await fetch(`${gateway.url}/api/1`, { headers })).status).toBe(401);
    expect(seen).toEqual([]);
  });

  test('records a permission as one', async () => {
    await using gateway = await startGateway(config('report'));
    const authorization = `Bearer ${await gateway.key('admin', { permissions: ['tasks:read'] })}`;
    expect((await fetch(`${gateway.url}/api/1`, { headers: { authorization } })).status).toBe(200);
    await gateway.stop();
    for (const event of await gateway.audit()) expect(event).not.toHaveProperty('would_deny');
  });

  test('lets everyone with a credential through when there is no policy at all', async () => {
    await using gateway = await startGateway(config('report', { policy: { bundle: './nowhere', watch: false } }));
    const authorization = `Bearer ${await gateway.key('viewer')}`;
    expect((await fetch(`${gateway.url}/api/1`, { headers: { authorization } })).status).toBe(200);
    const [end] = leading(await gateway.audited((events) => events.length > 0));
    expect(end).toMatchObject({ would_deny: { code: 'POLICY_UNAVAILABLE' } });
  });

  test('needs a line of its own in production', () => {
    const tls = { data: '127.0.0.1:0', admin: { address: '127.0.0.1:0', token: ADMIN_TOKEN } };
    const production = (policy: PartialConfig['policy']): PartialConfig => ({
      ...config('report'),
      ...{ mode: 'production', environment: 'production', listen: tls, policy },
    });
    expect(() => scenarioConfig(production({ bundle: POLICIES }), '/tmp')).toThrow(/production enforces policy/);
    expect(() =>
      scenarioConfig(production({ bundle: POLICIES, report_only_in_production: true }), '/tmp'),
    ).not.toThrow();
  });

  test('is not for what the gateway answers itself', () => {
    const routes = [{ match: '/approvals', protocol: 'api', identity: ['keys'], mode: 'report' }];
    expect(() => scenarioConfig({ routes } as unknown as PartialConfig, '/tmp')).toThrow(/mode/);
  });
});

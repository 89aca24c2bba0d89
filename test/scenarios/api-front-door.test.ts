/** What the gateway answers itself, through the real listeners. */
import { describe, expect, test } from 'vitest';
import { ADMIN_TOKEN, leading, startGateway } from '../helpers/gateway.ts';
import { call } from '../helpers/gateway-calls.ts';

describe('endpoints of the gateway on the data listener', () => {
  test('one credential opens what asks for no permission, and the request is audited under the built-in route', async () => {
    await using gateway = await startGateway();
    const key = await gateway.key('viewer');
    const answer = await call(`${gateway.url}/api/v1/version`, { key });
    expect(answer.status).toBe(200);
    expect(answer.body).toMatchObject({
      name: 'portcullis',
      api_version: '1',
      features: { gateway: true, a2a: true, audit: true },
    });
    expect(answer.headers.get('content-type')).toBe('application/json');
    expect(answer.headers.get('cache-control')).toBe('no-store');
    expect(answer.headers.get('x-decision-id')).toMatch(/^dec_/);
    const [event] = leading(await gateway.audited((events) => events.length > 0));
    expect(event).toMatchObject({
      event_type: 'data_access',
      request_id: answer.requestId,
      route: '/api/v1',
      action: 'http:get',
      path: '/api/v1/version',
      user_id: 'user-viewer',
      outcome: 'allowed',
    });
    const metrics = await (
      await call(`${gateway.admin}/metrics`, { headers: { authorization: `Bearer ${ADMIN_TOKEN}` } })
    ).text;
    expect(metrics).toMatch(/route="\/api\/v1"/);
  });

  test('without a credential, or with a bad one, it stays closed', async () => {
    await using gateway = await startGateway();
    const none = await call(`${gateway.url}/api/v1/version`);
    expect(none.status).toBe(401);
    expect(none.body).toMatchObject({ error: { code: 'MISSING_CREDENTIALS' } });
    expect(none.headers.get('www-authenticate')).toContain('Bearer');
    const bad = await call(`${gateway.url}/api/v1/version`, { key: 'pc_dev_nothing' });
    expect(bad.status).toBe(401);
    expect(bad.body).toMatchObject({ error: { code: 'INVALID_CREDENTIALS' } });
  });

  test('a wrong method is told which ones there are; HEAD and OPTIONS are answered', async () => {
    await using gateway = await startGateway();
    const key = await gateway.key('viewer');
    const url = `${gateway.url}/api/v1/version`;
    const wrong = await call(url, { key, method: 'DELETE' });
    expect(wrong.status).toBe(405);
    expect(wrong.headers.get('allow')).toBe('GET, HEAD, OPTIONS');
    const head = await call(url, { key, method: 'HEAD' });
    expect(head.status).toBe(200);
    expect(head.text).toBe('');
    expect(Number(head.headers.get('content-length'))).toBeGreaterThan(20);
    const options = await call(url, { method: 'OPTIONS' });
    expect(options.status).toBe(204);
    expect(options.headers.get('allow')).toBe('GET, HEAD, OPTIONS');
  });

  test('unknown paths below the built-in routes are nobody’s', async () => {
    await using gateway = await startGateway();
    const key = await gateway.key('viewer');
    for (const path of ['/api/v1', '/api/v1/nothing', '/auth/nothing', '/.well-known/nothing', '/access/v1/x']) {
      const answer = await call(`${gateway.url}${path}`, { key });
      expect(answer.status, path).toBe(404);
      expect(answer.body, path).toMatchObject({ error: { code: 'ROUTE_NOT_FOUND' } });
    }
  });

  test('a backend behind a wider route keeps its own paths beside the gateway’s', async () => {
    await using gateway = await startGateway({
      routes: [{ match: '/api', protocol: 'http', url: 'http://127.0.0.1:9', identity: ['keys'] }],
    });
    const key = await gateway.key('viewer');
    // Port 9 answers nobody: that the gateway tried is what is to be seen.
    expect((await call(`${gateway.url}/api/v1/orders`, { key })).status).toBe(502);
    expect((await call(`${gateway.url}/api/v1/version`, { key })).status).toBe(200);
  });

  test('the configuration may serve such a path itself, with fewer providers and no anonymous caller', async () => {
    await using gateway = await startGateway({
      routes: [{ match: '/api/v1', protocol: 'api', identity: ['keys'] }],
    });
    const key = await gateway.key('viewer');
    expect((await call(`${gateway.url}/api/v1/version`, { key })).status).toBe(200);
    expect((await call(`${gateway.url}/api/v1/version`, { method: 'OPTIONS' })).status).toBe(401);
  });
});

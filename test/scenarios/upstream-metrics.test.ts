import { expect, test } from 'vitest';
import { ADMIN_TOKEN, startGateway } from '../helpers/gateway.ts';
import { call } from '../helpers/gateway-calls.ts';
import { startService } from '../helpers/upstreams.ts';

test('answers of upstreams and their pooled connections are counted by upstream and status class', async () => {
  await using good = await startService((request, response) => {
    request.resume();
    response.writeHead(204).end();
  });
  const gone = await startService((request) => request.socket.destroy());
  await gone[Symbol.asyncDispose]();
  await using gateway = await startGateway({
    routes: [
      { match: '/good', protocol: 'http', url: good.url, identity: ['keys'] },
      { match: '/gone', protocol: 'http', url: gone.url, identity: ['keys'] },
    ],
  });
  const key = await gateway.key('developer');
  for (const path of ['/good', '/good', '/gone']) await call(`${gateway.url}${path}`, { key });
  const { text } = await call(`${gateway.admin}/metrics`, { headers: { authorization: `Bearer ${ADMIN_TOKEN}` } });
  expect(text).toContain('portcullis_upstream_requests_total{upstream="/good",status_class="2xx"} 2');
  expect(text).toContain('portcullis_upstream_requests_total{upstream="/gone",status_class="none"} 1');
  expect(text).toMatch(/portcullis_upstream_connections\{upstream="http:\/good",state="(idle|active)"\} 1/);
});

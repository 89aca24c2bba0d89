/** The way from an API that everybody may call to one that knows its callers, as docs/identity.md tells it. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { parse } from 'yaml';
import { ADMIN_TOKEN, leading, type PartialConfig, startGateway } from '../helpers/gateway.ts';
import { call } from '../helpers/gateway-calls.ts';
import { ROOT } from '../helpers/processes.ts';
import { startService } from '../helpers/upstreams.ts';
import { verifies } from '../helpers/verifies.ts';

/** The first step, as it is shown. */
function shown(): PartialConfig {
  const text = readFileSync(join(ROOT, 'docs/identity.md'), 'utf8');
  const [, section = ''] = text.split('## From no authentication');
  const [, block = ''] = /```yaml\n(.*?)```/s.exec(section) ?? [];
  return parse(block) as PartialConfig;
}

test('each step is one line less, and nobody who did as told is refused on the way', async () => {
  verifies('DW-19', 'X-10');
  await using api = await startService((_request, response) => response.end('[]'));
  const first = shown();
  const [route] = first.routes ?? [];
  if (route === undefined) throw new Error('the first step has no route');
  const step = ({ anonymous, mode }: { anonymous: boolean; mode: 'report' | 'enforce' }): PartialConfig => ({
    ...first,
    routes: [{ ...route, url: api.url, anonymous, mode } as NonNullable<PartialConfig['routes']>[number]],
  });
  expect(route).toMatchObject({ anonymous: true, mode: 'report' });
  await using gateway = await startGateway(step({ anonymous: true, mode: 'report' }));
  const reader = await gateway.key('reader', { permissions: ['api.read'] });
  const nobody = await gateway.key('nobody', { roles: [] });
  const statuses = async () => {
    const get = async (key?: string, init: RequestInit = {}) =>
      (await call(`${gateway.url}/api/1`, { ...(key === undefined ? {} : { key }), ...init })).status;
    const bad = reader.replace(/.$/, reader.endsWith('A') ? 'B' : 'A');
    return [await get(), await get(nobody), await get(reader), await get(bad)];
  };
  // 1 and 2: everybody gets through, but for who presents something bad.
  expect(await statuses()).toEqual([200, 200, 200, 401]);
  const events = await gateway.audited((all) => leading(all).length >= 4);
  expect(leading(events)[0]).toMatchObject({ principal_type: 'anonymous', would_deny: { code: expect.any(String) } });
  expect(leading(events)[2]).not.toHaveProperty('would_deny');
  // 3: who presents nothing is asked to.
  await gateway.reload(step({ anonymous: false, mode: 'report' }));
  expect(await statuses()).toEqual([401, 200, 200, 401]);
  const headers = { authorization: `Bearer ${ADMIN_TOKEN}` };
  expect((await call(`${gateway.admin}/metrics`, { headers })).text).toMatch(
    /portcullis_would_deny_total\{route="\/api"/,
  );
  // 4: the policy decides.
  await gateway.reload(step({ anonymous: false, mode: 'enforce' }));
  expect(await statuses()).toEqual([401, 403, 200, 401]);
  // And back.
  await gateway.reload(step({ anonymous: true, mode: 'report' }));
  expect(await statuses()).toEqual([200, 200, 200, 401]);
});

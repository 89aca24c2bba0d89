/** What an upstream is told of the caller is the gateway's word, whatever a policy adds. */
import { expect, test } from 'vitest';
import type { Permitted } from '../../../src/core/exchange.ts';
import { makePrincipal } from '../../../src/core/principal.ts';
import { type Forwarding, forward } from '../../../src/pipeline/stages/forward.ts';

test('a header that a policy sets stands in the place of none that says who calls', async () => {
  let sent: Readonly<Record<string, string>> = {};
  const forwarding: Partial<Forwarding> = {
    credential: () => null,
    tunnel: (_permitted, _path, headers) => {
      sent = headers;
      return Promise.resolve(101);
    },
  };
  const set = (name: string) => ({ type: 'set_header', name, value: 'root' });
  const permitted = {
    received: { id: 'req_1', headers: {} },
    route: { tenant_header: true, user_header: true },
    principal: makePrincipal({ id: 'alice', tenant_id: 'acme' }, 'keys', 'api-key'),
    message: { plan: { kind: 'upstream', path: '/', headers: { accept: 'x/y' } } },
    decisions: [{ obligations: [set('X-User-Id'), set('X-Data-Class')] }],
  } as unknown as Permitted;
  await forward(forwarding as Forwarding, permitted);
  expect(sent).toEqual({
    ...{ accept: 'x/y', 'x-request-id': 'req_1', 'x-auth-user': 'alice', 'x-tenant-id': 'acme' },
    ...{ 'x-user-id': 'alice', 'x-data-class': 'root' },
  });
});

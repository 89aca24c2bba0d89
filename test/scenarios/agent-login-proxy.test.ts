/** Behind a proxy that ends TLS and takes a prefix off: everything is called what clients call it. */
import { expect, test } from 'vitest';
import { ACCOUNTS, authClient, PASSWORD } from '../helpers/accounts.ts';
import { authorization, hidden, locationOf, type RegisteredClient, registerClient } from '../helpers/agent-login.ts';
import { startGateway } from '../helpers/gateway.ts';

const PUBLIC = 'https://gateway.example.com/agents';

test('addresses, cookies and tokens name the public address', async () => {
  await using gateway = await startGateway({
    public_url: PUBLIC,
    identity: { accounts: { kind: 'local' } },
    accounts: { ...ACCOUNTS, authorization_server: { enabled: true } },
  });
  const { url: base } = gateway;
  for (const path of [
    '/.well-known/oauth-authorization-server',
    '/.well-known/oauth-authorization-server/agents',
    '/.well-known/openid-configuration',
  ])
    expect(await (await fetch(`${base}${path}`)).json()).toMatchObject({
      issuer: PUBLIC,
      authorization_endpoint: `${PUBLIC}/oauth/authorize`,
      token_endpoint: `${PUBLIC}/oauth/token`,
      jwks_uri: `${PUBLIC}/.well-known/jwks.json`,
    });
  const account = { username: 'dana', email: 'dana@example.com', password: PASSWORD };
  await authClient(base)('POST', '/auth/register', account);
  const client = (await (await registerClient(base)).json()) as RegisteredClient;
  const { query } = authorization(base, client.client_id, PUBLIC);
  const first = await fetch(`${base}/oauth/authorize?${new URLSearchParams(query)}`, { redirect: 'manual' });
  const login = new URL(locationOf(first), PUBLIC);
  expect(login.href).toContain(`${PUBLIC}/oauth/login/`);
  const lines = first.headers.getSetCookie();
  expect(lines.length).toBeGreaterThan(0);
  for (const line of lines) {
    expect(line).toMatch(/; path=\/agents\/oauth\//);
    expect(line).toMatch(/; secure/);
    expect(line).toMatch(/; httponly/);
    expect(line).toMatch(/; samesite=lax/);
  }
  // What the proxy would pass on.
  const cookie = lines.map((line) => line.slice(0, line.indexOf(';'))).join('; ');
  const inside = `${base}${login.pathname.slice('/agents'.length)}`;
  const page = await (await fetch(inside, { headers: { cookie } })).text();
  const form = { csrf: hidden(page, 'csrf'), action: 'login', username: 'dana', password: PASSWORD };
  const send = (origin: string) =>
    fetch(inside, { method: 'POST', redirect: 'manual', headers: { cookie, origin }, body: new URLSearchParams(form) });
  expect((await send(base)).status).toBe(403);
  const sent = await send('https://gateway.example.com');
  expect(sent.status).toBe(303);
  expect(locationOf(sent)).toContain(`${PUBLIC}/oauth/authorize/`);
});

/** The command line logs in at issuers of several kinds: the gateway's own accounts, and servers that know no OpenID. */
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { Readable } from 'node:stream';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { main } from '../../src/cli/cli.ts';
import { LoginFault, openIssuer, registerClient } from '../../src/identity/oauth/native-client.ts';
import { discoverResource } from '../../src/identity/oauth/resource-discovery.ts';
import { ACCOUNTS, authClient, PASSWORD } from '../helpers/accounts.ts';
import { PlainBrowser, toCallback } from '../helpers/agent-login.ts';
import { startGateway, type TestGateway } from '../helpers/gateway.ts';
import { waitingCommand } from '../helpers/login-command.ts';
import { freePorts, temporaryDirectory } from '../helpers/processes.ts';
import { verifies } from '../helpers/verifies.ts';

const clock = { now: () => Date.now() };

describe('the gateway itself as the issuer', () => {
  const home = temporaryDirectory('portcullis-own-login-');
  let gateway: TestGateway;
  let base: string;

  beforeAll(async () => {
    const [port = 0] = await freePorts(1);
    base = `http://127.0.0.1:${port}`;
    gateway = await startGateway({
      public_url: base,
      listen: { data: `127.0.0.1:${port}`, admin: { address: '127.0.0.1:0' } },
      identity: { accounts: { kind: 'local' } },
      accounts: {
        ...{ ...ACCOUNTS, default_role: 'developer', authorization_server: { enabled: true } },
        roles: { developer: { permissions: ['tasks.read'] } },
      },
      routes: [
        {
          ...{ match: '/api', protocol: 'http', url: 'http://127.0.0.1:9', identity: ['accounts'] },
          permissions: { GET: ['tasks.read'], POST: ['tasks.write'] },
        },
      ],
    });
    const account = { username: 'dana', email: 'dana@example.com', password: PASSWORD };
    await authClient(base)('POST', '/auth/register', account);
  });
  afterAll(async () => {
    await gateway?.[Symbol.asyncDispose]();
    home[Symbol.dispose]();
  });

  const command = (...argv: readonly string[]) => waitingCommand(argv, home.path);

  test('needs nothing but the address of a route: registers, logs in, works, logs out', async () => {
    verifies('SF-50');
    const route = `${base}/api`;
    const login = command('auth', 'login', '--no-browser', '--url', route);
    const landed = await toCallback(new PlainBrowser(base), await login.shown, 'dana', PASSWORD);
    expect((await fetch(landed)).status).toBe(200);
    expect(await login.code).toBe(0);
    const token = command('auth', 'token', '--url', route);
    expect(await token.code).toBe(0);
    const authorization = `Bearer ${token.written.out.trim()}`;
    // Let in, and told that nobody is behind; with too few rights it is refused before.
    expect((await fetch(`${route}/tasks`, { headers: { authorization } })).status).toBe(502);
    expect((await fetch(`${route}/tasks`, { method: 'POST', headers: { authorization } })).status).toBe(403);
    // The login is of the route: nothing is sent to the gateway as a whole.
    const other = command('approvals', 'list', '--url', base);
    expect([await other.code, other.written.err]).toEqual([1, expect.stringContaining('who asks?')]);
    expect(await command('auth', 'logout', '--url', route).code).toBe(0);
    expect(await command('auth', 'token', '--url', route).code).toBe(1);
  });
});

describe('what a server says of itself', () => {
  const answers = new Map<string, { status: number; body: object }>();
  const server = createServer((request, response) => {
    const { status, body } = answers.get(request.url ?? '') ?? { status: 404, body: {} };
    response.writeHead(status, { 'content-type': 'application/json' }).end(JSON.stringify(body));
  });
  let base: string;
  beforeAll(async () => {
    await new Promise<void>((done) => server.listen(0, '127.0.0.1', done));
    base = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  });
  afterAll(() => void server.close());

  const metadata = (issuer: string) => ({
    ...{ issuer, authorization_endpoint: `${base}/a`, token_endpoint: `${base}/t` },
    ...{ registration_endpoint: `${base}/r`, code_challenge_methods_supported: ['S256'] },
  });

  test('is found where servers without OpenID say it, and must be its own', async () => {
    answers.set('/.well-known/oauth-authorization-server/tenant', { status: 200, body: metadata(`${base}/tenant`) });
    answers.set('/.well-known/oauth-authorization-server/other', { status: 200, body: metadata(`${base}/tenant`) });
    const found = await openIssuer(`${base}/tenant`, 'app', clock);
    expect(found.serverMetadata()).toMatchObject({ token_endpoint: `${base}/t` });
    await expect(openIssuer(`${base}/other`, 'app', clock)).rejects.toThrow(LoginFault);
    const bad = { ...metadata(`${base}/bad`), revocation_endpoint: 'http://elsewhere.example/revoke' };
    answers.set('/.well-known/oauth-authorization-server/bad', { status: 200, body: bad });
    await expect(openIssuer(`${base}/bad`, 'app', clock)).rejects.toThrow(LoginFault);
  });

  test.each([
    ['an id', 201, { client_id: 'made' }, 'made'],
    ['no id', 201, {}, null],
    ['an id that is none', 201, { client_id: 7 }, null],
    ['an empty id', 201, { client_id: '' }, null],
    ['a refusal', 403, { error: 'access_denied', client_id: 'x' }, null],
    ['another success', 200, { client_id: 'x' }, null],
  ] as const)('registration with %s', async (_name, status, body, id) => {
    answers.set('/.well-known/oauth-authorization-server/tenant', { status: 200, body: metadata(`${base}/tenant`) });
    answers.set('/r', { status, body });
    const made = registerClient(`${base}/tenant`, 'http://127.0.0.1:9/callback', clock);
    if (id === null) await expect(made).rejects.toThrow('name a client with --client-id');
    else expect(await made).toBe(id);
  });

  test('several issuers are for the person to choose from', async () => {
    const issuers = ['https://one.example', 'https://two.example'];
    const body = { resource: base, authorization_servers: issuers };
    answers.set('/.well-known/oauth-protected-resource', { status: 200, body });
    let err = '';
    const code = await main(['auth', 'login', '--no-browser', '--url', base], {
      ...{ stdin: Readable.from([]), out: () => {}, env: {}, cwd: '/', signal: new AbortController().signal },
      err: (text) => {
        err += text;
      },
    });
    expect([code, err]).toEqual([1, expect.stringContaining('one of https://one.example, https://two.example')]);
  });

  test.each([
    ['another resource', { resource: 'https://evil.example', authorization_servers: ['https://i.example'] }],
    ['no issuer', { resource: '{base}', authorization_servers: [] }],
    ['an issuer over plain http', { resource: '{base}', authorization_servers: ['http://i.example'] }],
    ['an issuer that is no text', { resource: '{base}', authorization_servers: [7] }],
    [
      'scopes that are no list',
      { resource: '{base}', authorization_servers: ['https://i.example'], scopes_supported: 'x' },
    ],
    ['nothing', {}],
  ])('as a resource is not believed with %s', async (_name, document) => {
    const body = JSON.parse(JSON.stringify(document).replace('{base}', base)) as object;
    answers.set('/.well-known/oauth-protected-resource', { status: 200, body });
    await expect(discoverResource(base)).rejects.toThrow(LoginFault);
  });
});

/** nginx asks the gateway who calls a service beside it (`auth_request`), and ends mutual TLS in front of the gateway. */
import { once } from 'node:events';
import { writeFileSync } from 'node:fs';
import type { IncomingHttpHeaders } from 'node:http';
import { type RequestOptions, request } from 'node:https';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { ACCOUNTS, type Auth, authClient, bearer, IDENTITY, PASSWORD } from '../helpers/accounts.ts';
import { type Authority, createAuthority, SERVER_AUTH } from '../helpers/certificates.ts';
import { startGateway, type TestGateway } from '../helpers/gateway.ts';
import { freePorts, type RunningProcess, temporaryDirectory } from '../helpers/processes.ts';
import { NGINX, startNginx } from '../helpers/processes-nginx.ts';
import { type Service, startService } from '../helpers/upstreams.ts';
import { verifies } from '../helpers/verifies.ts';

const missing = NGINX === null && process.env.CI !== 'true';

/** Answers with the headers it was sent. */
const startMirror = (): Promise<Service> =>
  startService((asked, response) => {
    asked.resume();
    response.writeHead(200, { 'content-type': 'application/json' }).end(JSON.stringify(asked.headers));
  });

describe.skipIf(missing)('nginx in front of a service of its own', () => {
  const home = temporaryDirectory('portcullis-nginx-');
  let gateway: TestGateway;
  let service: Service;
  let nginx: RunningProcess;
  let auth: Auth;
  let call: Auth;
  let front: string;

  beforeAll(async () => {
    service = await startMirror();
    gateway = await startGateway({
      listen: { data: '127.0.0.1:0', auth: '127.0.0.1:0', admin: { address: '127.0.0.1:0' } },
      ...{ accounts: ACCOUNTS, identity: IDENTITY },
    });
    const authUrl = gateway.gateway.urls.auth ?? '';
    const [plain = 0, port = 0] = await freePorts(2);
    front = `http://127.0.0.1:${port}`;
    const ask = (permission: string) => `
      location = /_may/${permission} {
        internal;
        proxy_pass ${authUrl}/auth/verify?permission=${permission};
        proxy_pass_request_body off;
        proxy_set_header Content-Length "";
      }`;
    const guarded = (path: string, permission: string) => `
      location ${path} {
        auth_request /_may/${permission};
        auth_request_set $caller $upstream_http_x_auth_user;
        auth_request_set $caller_roles $upstream_http_x_auth_roles;
        proxy_set_header X-Auth-User $caller;
        proxy_set_header X-Auth-Roles $caller_roles;
        proxy_set_header Authorization "";
        proxy_set_header X-API-Key "";
        proxy_pass ${service.url};
      }`;
    nginx = await startNginx(
      home.path,
      plain,
      `server {
        listen 127.0.0.1:${port};
        ${ask('tasks.read')} ${ask('users.create')}
        ${guarded('/tasks', 'tasks.read')} ${guarded('/users', 'users.create')}
      }`,
    );
    auth = authClient(authUrl);
    call = authClient(front);
  }, 30_000);
  afterAll(async () => {
    await nginx?.[Symbol.asyncDispose]();
    await gateway?.[Symbol.asyncDispose]();
    await service?.[Symbol.asyncDispose]();
    home[Symbol.dispose]();
  });

  /** nginx answers refusals with a page of its own. */
  const status = async (path: string, headers: Readonly<Record<string, string>> = {}) => {
    const response = await fetch(`${front}${path}`, { headers });
    await response.body?.cancel();
    return response;
  };

  test('lets in who may, tells the service who it is, and takes the credential away', async () => {
    verifies('VF-08', 'VF-21');
    await auth('POST', '/auth/register', { username: 'maria', email: 'maria@example.com', password: PASSWORD });
    const pair = (await auth('POST', '/auth/login', { username: 'maria', password: PASSWORD })).body;
    const headers = bearer(pair.access_token);
    const { body: seen } = await call('GET', '/tasks', undefined, {
      ...headers,
      'x-auth-user': 'root',
      'x-auth-roles': 'admin',
    });
    expect(seen).toMatchObject({ 'x-auth-user': pair.user_id, 'x-auth-roles': 'user' });
    expect(seen).not.toHaveProperty('authorization');
    expect((await call('POST', '/tasks', { title: 'a body' }, headers)).body['content-length']).toBe('18');
    const none = await status('/tasks');
    expect([none.status, none.headers.get('www-authenticate')]).toEqual([401, expect.stringMatching(/^Bearer/)]);
    expect((await status('/tasks', bearer('a.bad.token'))).status).toBe(401);
    expect((await status('/users', headers)).status).toBe(403);
    const made = await auth('POST', '/auth/api-keys', { name: 'k', permissions: ['tasks.read'] }, headers);
    const key = { 'x-api-key': made.body.api_key };
    expect((await call('GET', '/tasks', undefined, key)).body).not.toHaveProperty('x-api-key');
    expect((await auth('POST', '/auth/logout', undefined, headers)).status).toBe(204);
    expect((await status('/tasks', headers)).status).toBe(401);
    expect((await status('/_may/tasks.read', key)).status).toBe(404);
  });

  test('is closed while the gateway is away', async () => {
    await gateway.stop();
    expect((await status('/tasks', bearer('whatever'))).status).toBe(500);
  });
});

describe.skipIf(missing)('nginx that ends mutual TLS in front of the gateway', () => {
  const home = temporaryDirectory('portcullis-nginx-tls-');
  const at = (name: string) => join(home.path, name);
  let authority: Authority;
  let gateway: TestGateway;
  let service: Service;
  let nginx: RunningProcess;
  let listed: number;
  let unlisted: number;

  beforeAll(async () => {
    service = await startMirror();
    authority = await createAuthority('CN=Clients');
    const server = await authority.issue({ subject: 'CN=localhost', ip: ['127.0.0.1'], usages: [SERVER_AUTH] });
    writeFileSync(at('ca.pem'), authority.cert);
    writeFileSync(at('server.pem'), server.cert);
    writeFileSync(at('server.key'), server.key, { mode: 0o600 });
    gateway = await startGateway({
      trusted_proxies: ['127.0.0.1'],
      identity: {
        services: {
          ...{ kind: 'mtls', ca: at('ca.pem'), proxies: ['127.0.0.1'], header: 'x-ssl-client-cert', id: ['cn'] },
          unit_roles: { Ops: 'admin' },
        },
      },
      routes: [
        { match: '/gate', protocol: 'http', url: service.url, identity: ['services'], permissions: { '*': [] } },
      ],
    });
    const [plain = 0, one = 0, two = 0] = await freePorts(3);
    [listed, unlisted] = [one, two];
    const front = (port: number, from: string) => `server {
        listen 127.0.0.1:${port} ssl;
        ssl_certificate ${at('server.pem')};
        ssl_certificate_key ${at('server.key')};
        ssl_client_certificate ${at('ca.pem')};
        ssl_verify_client optional;
        location / {
          proxy_bind ${from};
          proxy_set_header X-SSL-Client-Cert $ssl_client_escaped_cert;
          proxy_pass ${gateway.url};
        }
      }`;
    nginx = await startNginx(home.path, plain, `${front(listed, '127.0.0.1')} ${front(unlisted, '127.0.0.2')}`);
  }, 30_000);
  afterAll(async () => {
    await nginx?.[Symbol.asyncDispose]();
    await gateway?.[Symbol.asyncDispose]();
    await service?.[Symbol.asyncDispose]();
    home[Symbol.dispose]();
  });

  /** One request over TLS, with the certificate of `who` unless there is nobody. */
  async function ask(port: number, who: { cert: string; key: string } | null, headers: IncomingHttpHeaders = {}) {
    const options: RequestOptions = {
      ...{ host: '127.0.0.1', port, path: '/gate/x', ca: authority.cert, agent: false, headers },
      ...(who === null ? {} : { cert: who.cert, key: who.key }),
    };
    const sent = request(options).end();
    const [response] = (await once(sent, 'response')) as [import('node:http').IncomingMessage];
    return { status: response.statusCode, body: JSON.parse(await text(response)) };
  }

  test('vouches for certificates when it is listed, whatever clients write into the header', async () => {
    verifies('S-72', 'VF-20');
    const client = await authority.issue({ subject: 'CN=billing,OU=Ops' });
    const other = await authority.issue({ subject: 'CN=root,OU=Ops' });
    const forged = { 'x-ssl-client-cert': encodeURIComponent(other.cert) };
    const seen = await ask(listed, client, forged);
    expect([seen.status, seen.body['x-auth-user']]).toEqual([200, 'billing']);
    expect(seen.body).not.toHaveProperty('x-ssl-client-cert');
    expect((await ask(listed, null)).status).toBe(401);
    expect((await ask(listed, null, forged)).status).toBe(401);
  });

  test('vouches for nobody when it is not listed, nor does a client itself', async () => {
    verifies('VF-20');
    const client = await authority.issue({ subject: 'CN=billing,OU=Ops' });
    expect((await ask(unlisted, client)).status).toBe(401);
    const direct = await fetch(`${gateway.url}/gate/x`, { headers: { 'x-auth-user': 'root' } });
    expect(direct.status).toBe(401);
  });
});

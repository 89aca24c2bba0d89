/**
 * Credentials of every kind, good and damaged, in every dialect, in requests that are answered, refused and broken. Afterwards
 * every byte that left for an upstream, every record and every answer is searched for them.
 */
import { generateKeyPairSync } from 'node:crypto';
import { readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { request } from 'node:http';
import { connect } from 'node:net';
import { join } from 'node:path';
import { SignJWT } from 'jose';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { createAuthority } from '../helpers/certificates.ts';
import { ADMIN_TOKEN, startGateway, type TestGateway } from '../helpers/gateway.ts';
import { call } from '../helpers/gateway-calls.ts';
import { goodKey, startKeyService } from '../helpers/key-service.ts';
import { startExample, temporaryDirectory } from '../helpers/processes.ts';
import { GATEWAY_DN, GATEWAY_PASSWORD, LDAP_BASE, NO_SLAPD, startSlapd } from '../helpers/processes-slapd.ts';
import { type Recorder, record, startTasks } from '../helpers/upstreams.ts';
import { verifies } from '../helpers/verifies.ts';

const MODEL_KEY = 'model-credential-Xp4Lw8Qz2Nb7RtYv';
const REMOTE_KEY = 'hok_dev_stays5Jd8Kq2Wn7Zx4Ct';
const PASSWORD = 'can-we-fix-it';
const COOKIE = 'stays-3Hf7Gk2Mp9Rt';
const ISSUER = 'https://idp.example.com';

/** One way to say who one is. */
interface Kind {
  readonly name: string;
  readonly headers: Readonly<Record<string, string>>;
  /** What must not be found anywhere. */
  readonly secrets: readonly string[];
  readonly isGood: boolean;
}

const folder = temporaryDirectory();
const at = (name: string) => join(folder.path, name);
let gateway: TestGateway;
let recorders: Recorder[];
let kinds: Kind[];
const answers: string[] = [];
const statuses = new Map<string, Set<number>>();
const closing: AsyncDisposable[] = [];
let sent: string;
let places: Map<string, string>;

async function madeKinds(): Promise<Kind[]> {
  const { privateKey, publicKey } = generateKeyPairSync('ed25519');
  writeFileSync(at('idp.pem'), publicKey.export({ format: 'pem', type: 'spki' }));
  const claims = { sub: 'jwt-user', roles: ['developer'], aud: 'portcullis', iss: ISSUER };
  const jwt = await new SignJWT(claims)
    .setProtectedHeader({ alg: 'EdDSA', typ: 'at+jwt' })
    .setIssuedAt()
    .setExpirationTime('5 minutes')
    .sign(privateKey);
  const authority = await createAuthority('CN=Clients');
  writeFileSync(at('ca.pem'), authority.cert);
  const { cert } = await authority.issue({ subject: 'CN=stays-client,O=Acme', dns: ['client.example'] });
  const pem = { 'x-ssl-client-cert': encodeURIComponent(cert) };
  const [, line = ''] = cert.split('\n').slice(2);
  const jwtParts = jwt.split('.').slice(1);
  const basic = Buffer.from(`bob:${PASSWORD}`).toString('base64');
  const bearer = (text: string) => ({ authorization: `Bearer ${text}` });
  const kind = (name: string, headers: Kind['headers'], secrets: readonly string[], isGood = true): Kind => ({
    ...{ name, headers, secrets, isGood },
  });
  return [
    kind('a JWT', bearer(jwt), [jwt, ...jwtParts]),
    kind('a key of an external service', { 'x-api-key': REMOTE_KEY }, [REMOTE_KEY.slice(8)]),
    kind('that key as a bearer token', bearer(REMOTE_KEY), [REMOTE_KEY.slice(8)]),
    kind('a name and a password', { authorization: `Basic ${basic}` }, [PASSWORD, basic], NO_SLAPD === null),
    kind('a certificate in a header', pem, [line, encodeURIComponent(line)]),
    kind('a cookie', { cookie: `portcullis_session=${COOKIE}; other=${COOKIE}` }, [COOKIE], false),
  ];
}

const withKey = (name: string, headers: Kind['headers'], key: string): Kind => ({
  ...{ name, headers, isGood: true, secrets: [key.slice(key.lastIndexOf('_') + 1)] },
});

/** The same with the last character of its value changed. */
function damaged(kind: Kind): Kind {
  const headers = Object.entries(kind.headers).map(([name, value]) => {
    // A certificate ends with the encoded mark of its end; within it is its body.
    const cut = name === 'x-ssl-client-cert' ? value.length - 60 : value.length - 6;
    const other = value[cut] === 'A' ? 'B' : 'A';
    return [name, value.slice(0, cut) + other + value.slice(cut + 1)] as const;
  });
  const secrets = kind.secrets.map((secret) => secret.slice(0, Math.max(10, secret.length - 12)));
  return { name: `${kind.name}, damaged`, headers: Object.fromEntries(headers), secrets, isGood: false };
}

async function say(path: string, init: Parameters<typeof call>[1]): Promise<void> {
  const answer = await call(`${gateway.url}${path}`, init);
  statuses.set(path, (statuses.get(path) ?? new Set()).add(answer.status));
  answers.push(JSON.stringify([...answer.headers]), answer.text);
}

/** Headers and a target that fetch would mend. */
function raw(options: { method?: string; path: string; headers: readonly string[] }): Promise<void> {
  const { hostname, port } = new URL(gateway.url);
  const { promise, resolve } = Promise.withResolvers<void>();
  const outgoing = request({ hostname, port, agent: false, ...options, headers: options.headers }, (answer) => {
    let text = JSON.stringify(answer.headers);
    answer.on('data', (chunk) => (text += String(chunk)));
    answer.on('end', () => resolve(void answers.push(text)));
  });
  outgoing.on('upgrade', (answer, socket) => {
    answers.push(JSON.stringify(answer.headers));
    socket.destroy();
    resolve();
  });
  outgoing.on('error', () => resolve());
  outgoing.end();
  return promise;
}

/** Bytes that are no request. */
function bytes(text: string): Promise<void> {
  const { hostname, port } = new URL(gateway.url);
  const { promise, resolve } = Promise.withResolvers<void>();
  const socket = connect(Number(port), hostname, () => socket.write(text));
  socket.on('data', (chunk) => void answers.push(String(chunk)));
  socket.on('error', () => undefined);
  socket.on('close', () => resolve());
  return promise;
}

const MODERN = { accept: 'application/json, text/event-stream' };
const META = {
  'io.modelcontextprotocol/protocolVersion': '2026-07-28',
  'io.modelcontextprotocol/clientInfo': { name: 'raw', version: '1' },
  'io.modelcontextprotocol/clientCapabilities': {},
};

async function everyDialect({ headers, isGood }: Kind): Promise<void> {
  const rpc = (method: string, params: object) => ({
    headers: { ...headers, ...MODERN, 'mcp-protocol-version': '2026-07-28', 'mcp-method': method },
    json: { jsonrpc: '2.0', id: 1, method, params: { ...params, _meta: META } },
  });
  const tool = (query: string) => ({ server_name: 'orders', tool_name: 'execute_query', parameters: { query } });
  const chat = { model: 'small', messages: [{ role: 'user', content: 'good evening' }] };
  await say('/mcp/orders', rpc('tools/list', {}));
  await say('/v1/chat/completions', { headers, json: chat });
  await say('/tools/invoke', { headers, json: tool('SELECT id FROM orders LIMIT 1') });
  await say('/api/tasks', { headers });
  for (const path of ['/down', '/nowhere', '/auth/me', '/approvals']) await say(path, { headers });
  for (const name of ['authorization', 'x-api-key', 'x-delegation-token']) {
    const value = headers[name]?.replace(/^\w+ /, '');
    if (value === undefined) continue;
    await say(`/api/tasks?${new URLSearchParams({ api_key: value, page: '1' })}`, { headers });
    // What is written into a path stays there; of what does not look like a secret nobody can know that it is one.
    if (!headers[name]?.startsWith('Basic ')) await say(`/api/tasks/${value}`, { headers });
  }
  // Nobody else gets further than these.
  if (!isGood) return;
  await say('/mcp/orders', rpc('tools/call', { name: 'execute_query', arguments: { query: 'DROP TABLE orders' } }));
  await say('/mcp/orders', { headers: { ...headers, ...MODERN }, json: [] });
  await say('/v1/chat/completions', { headers, json: { ...chat, model: 'unheard-of' } });
  await say('/v1/chat/completions', { headers, method: 'POST', body: '{"a":1,"a":2}' });
  await say('/tools/invoke', { headers, json: tool('DROP TABLE orders') });
  await say('/tools/invoke', { headers, json: { server_name: 'unheard-of' } });
  await say('/api/tasks/99', { headers, method: 'DELETE' });
  await say('/auth/verify', { headers });
  await say('/api/v1/token/exchange', { headers, method: 'POST', body: 'grant_type=x&subject_token=y' });
}

/** Requests that are not even well-formed. */
async function everyBreakage({ headers }: Kind): Promise<void> {
  const [[name = '', value = ''] = []] = Object.entries(headers);
  const host = ['Host', new URL(gateway.url).host];
  const shown = [...host, name, value];
  const upgrade = ['Connection', 'Upgrade', 'Upgrade', 'websocket', 'Sec-WebSocket-Version', '13'];
  const nonce = ['Sec-WebSocket-Key', 'dGhlIHNhbXBsZSBub25jZQ=='];
  await raw({ path: '/api/tasks/live', headers: [...shown, ...upgrade, ...nonce] });
  await raw({ path: '/mcp/orders', headers: [...shown, ...upgrade, ...nonce] });
  await raw({ path: '/api//tasks/%2e%2e/x', headers: shown });
  await raw({ path: '/api/tasks', headers: [...shown, name, value] });
  await raw({ path: '/api/tasks', headers: [...shown, 'Connection', name] });
  await raw({ path: '/api/tasks', method: 'TRACE', headers: shown });
  await raw({ path: '/api/tasks', headers: [...shown, 'X-Large', 'x'.repeat(20_000)] });
  const head = `GET /api/tasks HTTP/1.1\r\n${host.join(': ')}\r\n${name}: ${value}\r\n`;
  await bytes(`${head}no header at all\r\n\r\n`);
  await bytes(`${head}Content-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n`);
}

async function directory(): Promise<Record<string, unknown> | null> {
  if (NO_SLAPD !== null) return null;
  const slapd = await startSlapd({ ca: await createAuthority('CN=Directory') });
  closing.push(slapd);
  const account = { bind_dn: GATEWAY_DN, bind_password: GATEWAY_PASSWORD };
  return { kind: 'ldap', url: slapd.url, base_dn: LDAP_BASE, refusal_ms: 0, lockout: undefined, ...account };
}

beforeAll(async () => {
  kinds = await madeKinds();
  const [orders, model, people] = await Promise.all([
    startExample('orders-server'),
    startExample('model-server', { MODEL_KEY }),
    directory(),
  ]);
  const tasks = await startTasks();
  const service = await startKeyService();
  service.keys.set(REMOTE_KEY, goodKey('remote'));
  const [toOrders, toModel, toTasks] = [await record(orders.url), await record(model.url), await record(tasks.url)];
  recorders = [toOrders, toModel, toTasks];
  closing.push(orders, model, tasks, service, ...recorders);
  const identity = ['keys', 'staff', 'remote', 'services', ...(people === null ? [] : ['people'])];
  gateway = await startGateway({
    public_url: 'https://gate.example.com',
    allowed_hosts: ['127.0.0.1'],
    trusted_proxies: ['127.0.0.1'],
    logging: { level: 'debug' },
    identity: {
      keys: { kind: 'api-key' },
      staff: { kind: 'jwt', issuer: ISSUER, audience: 'portcullis', public_key: at('idp.pem'), algorithms: ['EdDSA'] },
      remote: { kind: 'remote-key', url: service.url, service_id: 'ml-platform', prefixes: ['hok'], retries: 0 },
      services: { kind: 'mtls', ca: at('ca.pem'), proxies: ['127.0.0.1'], header: 'x-ssl-client-cert', id: ['cn'] },
      ...(people === null ? {} : { people: people as never }),
    },
    servers: { orders: { type: 'sql', dialect: 'sqlite', url: toOrders.url, identity_token: {} } },
    models: { small: { url: toModel.url, credential: MODEL_KEY } },
    routes: [
      { match: '/mcp/orders', protocol: 'mcp', server: 'orders', identity },
      { match: '/v1', protocol: 'llm', model: 'small', identity },
      { match: '/api/tasks', protocol: 'http', url: toTasks.url, rewrite: '/tasks', identity, identity_token: {} },
      { match: '/down', protocol: 'http', url: 'http://127.0.0.1:9', identity },
      { match: '/tools', protocol: 'tools', identity },
    ],
  });
  const key = await gateway.key('developer');
  const boss = await gateway.key('admin', { tenure_months: 24 });
  kinds.push(
    withKey('an API key', { 'x-api-key': key }, key),
    withKey('an API key as a bearer token', { authorization: `Bearer ${key}` }, key),
    withKey('an API key with a scheme of its own', { authorization: `ApiKey ${key}` }, key),
  );
  const grant = { grant_type: 'urn:ietf:params:oauth:grant-type:token-exchange', requested_actor: 'user-developer' };
  const headers = { 'content-type': 'application/x-www-form-urlencoded' };
  const body = new URLSearchParams(grant).toString();
  const lent = await call(`${gateway.url}/api/v1/token/exchange`, { method: 'POST', key: boss, headers, body });
  const { access_token = 'none' } = lent.body as { access_token?: string };
  kinds.push(
    {
      ...withKey('a delegation token', { 'x-delegation-token': access_token, 'x-api-key': key }, key),
      secrets: [access_token, ...access_token.split('.').slice(1)],
    },
    {
      ...withKey('an approval token', { 'x-approval-token': `apt_${COOKIE}`, 'x-api-key': key }, key),
      ...{ secrets: [COOKIE], isGood: false },
    },
  );
  for (const kind of kinds) await everyBreakage(kind);
  for (const kind of [...kinds]) kinds.push(damaged(kind));
  for (const kind of kinds) await everyDialect(kind);
  const metrics = (await call(`${gateway.admin}/metrics`)).text;
  const admin = { headers: { authorization: `Bearer ${ADMIN_TOKEN}` } };
  const config = (await call(`${gateway.admin}/config`, admin)).text;
  await gateway.stop();
  sent = recorders.map((recorder) => recorder.sent()).join('\n');
  places = new Map([
    ['upstreams', sent],
    ['the log', gateway.logs.join('\n')],
    ['metrics', metrics],
    ['the configuration', config],
    ['answers', answers.join('\n')],
    ...readdirSync(gateway.home)
      .filter((name) => statSync(join(gateway.home, name)).isFile())
      .map((name): [string, string] => [name, readFileSync(join(gateway.home, name), 'latin1')]),
  ]);
}, 60_000);

afterAll(async () => {
  await gateway?.[Symbol.asyncDispose]();
  for (const one of closing.toReversed()) await one[Symbol.asyncDispose]();
  folder[Symbol.dispose]();
});

/** The spellings in which a text may have been written down. */
const spellings = (text: string): string[] => [
  text,
  encodeURIComponent(text),
  Buffer.from(text).toString('base64').replace(/=+$/, ''),
  Buffer.from(text).toString('base64url'),
  Buffer.from(text).toString('hex'),
];

describe('after every kind of credential in every dialect', () => {
  test('each good one was let in and each bad one refused', () => {
    verifies('HW-10');
    expect(kinds.length).toBeGreaterThanOrEqual(20);
    console.info(`${kinds.length} credentials, ${answers.length} answers, ${sent.length} bytes to upstreams`);
    const upstreamUsers = new Set(recorders.flatMap((recorder) => recorder.header('x-auth-user')));
    const users = ['jwt-user', 'user-remote', 'stays-client', 'user-developer', 'user-admin'];
    expect([...upstreamUsers].sort()).toEqual([...users, ...(NO_SLAPD === null ? ['bob'] : [])].sort());
    for (const path of ['/mcp/orders', '/v1/chat/completions', '/tools/invoke', '/api/tasks']) {
      expect([...(statuses.get(path) ?? [])], path).toEqual(expect.arrayContaining([200, 401]));
    }
    expect([...(statuses.get('/down') ?? [])]).toEqual(expect.arrayContaining([502]));
  });

  test('nothing of one is in what left, what was written down and what was answered', () => {
    verifies('HW-10', 'X-07');
    expect([...places.keys()]).toEqual(expect.arrayContaining(['audit.jsonl', 'decisions.jsonl', 'portcullis.db']));
    const found: string[] = [];
    for (const [place, text] of places) {
      for (const { name, secrets } of kinds) {
        const hits = secrets.flatMap(spellings).filter((each) => text.includes(each));
        if (hits.length > 0) found.push(`${name} in ${place}`);
      }
    }
    expect(found).toEqual([]);
  });

  test('upstreams got no header that carries a credential but the gateway’s own', () => {
    verifies('VF-21');
    const carrying = /^(cookie|x-api-key|proxy-authorization|x-ssl-client-cert|x-(delegation|approval)-token):/gim;
    expect(sent.match(carrying)).toBeNull();
    expect(new Set(recorders.flatMap((recorder) => recorder.header('authorization')))).toEqual(
      new Set([`Bearer ${MODEL_KEY}`]),
    );
    expect(recorders[0]?.header('x-portcullis-identity').length).toBeGreaterThan(5);
  });

  test('no signed identity of a caller was written down either', () => {
    const signatures = new Set(
      recorders
        .flatMap((recorder) => recorder.header('x-portcullis-identity'))
        .map((token) => token.split('.')[2] ?? ''),
    );
    expect(signatures.size).toBeGreaterThan(3);
    for (const [place, text] of places) {
      if (place === 'upstreams') continue;
      for (const signature of signatures) expect(text.includes(signature), place).toBe(false);
    }
  });
});

/** Attempts to make a critical call without the yes of another person, replayed against a running gateway. */
import { createHmac } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { TestGateway } from '../helpers/gateway.ts';
import { ADMIN_TOKEN, dataWithoutLimits, POLICIES, startGateway } from '../helpers/gateway.ts';
import type { Answer } from '../helpers/gateway-calls.ts';
import { call } from '../helpers/gateway-calls.ts';
import { KEYS_AND_PEOPLE, personToken } from '../helpers/people.ts';
import type { Example } from '../helpers/processes.ts';
import { ROOT, startExample, temporaryDirectory } from '../helpers/processes.ts';
import type { Recorder } from '../helpers/upstreams.ts';
import { record } from '../helpers/upstreams.ts';
import { verifies } from '../helpers/verifies.ts';

interface Use {
  readonly name: string;
  readonly as?: string;
  readonly server?: string;
  readonly tool?: string;
  readonly query?: string;
  readonly extra?: Readonly<Record<string, unknown>>;
  readonly params?: Readonly<Record<string, unknown>>;
  readonly token?: string;
  readonly place?: string;
  readonly via?: 'mcp' | 'list' | 'ping' | 'alternate';
  readonly uses?: number;
  readonly parallel?: number;
  readonly decide?: 'approve' | 'reject' | 'none';
  readonly advance_seconds?: number;
  readonly list_before_use?: boolean;
  readonly expect: {
    readonly status?: number;
    readonly code?: string;
    readonly why?: string;
    readonly reached?: number;
  };
}

interface Deciding {
  readonly name: string;
  readonly as: string;
  readonly action?: 'approve' | 'reject';
  readonly id?: string;
  readonly body?: object;
  readonly before?: readonly ('approve' | 'reject' | 'use')[];
  readonly advance_seconds?: number;
  readonly expect: { readonly status: number; readonly code?: string };
}

const corpus = <T>(name: string): readonly T[] =>
  JSON.parse(readFileSync(join(ROOT, 'test/corpus/approvals', name), 'utf8')) as T[];
const USES = corpus<Use>('uses.json');
const DECISIONS = corpus<Deciding>('decisions.json');

const data = temporaryDirectory();
let orders: Example;
let upstream: Recorder;
let gateway: TestGateway;
let time = Date.parse('2026-03-02T10:00:00Z');
const keys: Record<string, string> = {};
let tables = 0;
let unapproved = 0;

beforeAll(async () => {
  orders = await startExample('orders-server');
  upstream = await record(orders.url);
  const dataFile = join(data.path, 'data.json');
  await writeFile(dataFile, await dataWithoutLimits());
  const server = { type: 'sql', dialect: 'sqlite', environment: 'staging', url: upstream.url } as const;
  gateway = await startGateway(
    {
      servers: { orders: server, twin: server, listed: server },
      identity: KEYS_AND_PEOPLE,
      routes: [{ match: '/mcp/orders', protocol: 'mcp', server: 'orders', identity: ['keys'] }],
      policy: { bundle: POLICIES, data: dataFile, watch: false },
      approvals: { max_pending: 10_000 },
    },
    { clock: { now: () => time } },
  );
  const person = { type: 'user', mfa_verified: true } as const;
  const asker = { roles: ['admin'], username: 'alice', email: 'alice@example.com' };
  const made: Record<string, Parameters<TestGateway['key']>> = {
    admin: ['admin', { ...person, ...asker, permissions: ['approvals:decide'] }],
    'admin-second-key': ['admin', { ...person, permissions: ['approvals:decide'] }],
    'other-admin': ['admin', { ...person, owner_id: 'user-other' }],
    'same-id-service': ['admin', { type: 'service' }],
    'foreign-admin': ['admin', { ...person, tenant_id: 'rival' }],
    'approver-admin': ['admin', { ...person, owner_id: 'user-approver' }],
    nobody: ['nobody', { roles: [] }],
    developer: ['developer', person],
    'key-of-a-person': ['approver', { ...person, roles: [], permissions: ['approvals:decide'] }],
    'key-of-a-service': ['bot', { type: 'service', mfa_verified: true, roles: [], permissions: ['approvals:decide'] }],
  };
  for (const [name, facts] of Object.entries(made)) keys[name] = await gateway.key(...facts);
  const permissions = ['approvals:decide'];
  const decider = { sub: 'user-approver', permissions };
  const people: Record<string, Readonly<Record<string, unknown>>> = {
    'same-username': { sub: 'ldap:alice', username: 'Alice', permissions },
    'same-email': { sub: 'idp|1', email: 'ALICE@example.com', permissions },
    'address-as-username': { sub: 'idp|2', username: ' alice@Example.com', permissions },
    'name-as-id': { sub: 'ALICE', permissions },
    'linked-account': { sub: 'subject-of-alice', permissions },
    approver: decider,
    'star-approver': { sub: 'user-star', permissions: ['approvals:*'] },
    'prefix-only': { sub: 'user-prefix', permissions: ['approvals', 'approvals:decide2'] },
    'no-mfa': { sub: 'user-no-mfa', permissions, amr: ['pwd'] },
    'agent-approver': { sub: 'agent-7', permissions, principal_type: 'agent' },
    'service-approver': { sub: 'bot-7', permissions, roles: ['service'] },
    'on-behalf': { ...decider, act: { sub: 'agent-7' } },
    'foreign-approver': { ...decider, tenant_id: 'rival' },
    'switched-off': { sub: 'user-off', permissions },
  };
  for (const [name, claims] of Object.entries(people)) keys[name] = personToken(claims, time);
  // Who asks has an account here, and logs in at another provider as somebody of another name.
  const database = new DatabaseSync(join(gateway.home, 'portcullis.db'));
  const link = 'INSERT INTO account_identities (issuer, subject, account_id, created_at) VALUES (?, ?, ?, 0)';
  database.prepare(link).run('https://people.example.com', 'subject-of-alice', 'user-admin');
  database.close();
  await switchOff('user-off');
});

/** Switches somebody off. */
async function switchOff(name: string): Promise<void> {
  const headers = { authorization: `Bearer ${ADMIN_TOKEN}`, 'content-type': 'application/json' };
  const body = JSON.stringify({ kind: 'principal', name });
  const answer = await fetch(`${gateway.admin}/switches`, { method: 'POST', headers, body });
  expect(answer.status, await answer.text()).toBe(201);
}

afterAll(async () => {
  await gateway?.[Symbol.asyncDispose]();
  await upstream?.[Symbol.asyncDispose]();
  await orders?.crash();
  data[Symbol.dispose]();
});

const keyOf = (name: string): string => keys[name] ?? '';
const post = (key: string | undefined, path: string, json: unknown) =>
  call(gateway.url + path, { json, ...(key === undefined ? {} : { key }) });
const fault = (answer: Answer) =>
  (answer.body as { error?: { code?: string; details?: Record<string, unknown> } }).error;

/** Asks for an approval of a call on a table of its own. */
async function ask(server = 'orders'): Promise<{ readonly id: string; readonly table: string }> {
  const table = `corpus_table_${++tables}`;
  const json = { server_name: server, tool_name: 'execute_query', parameters: { query: `DROP TABLE ${table}` } };
  const answer = await post(keyOf('admin'), '/tools/invoke', json);
  expect(fault(answer)?.code).toBe('APPROVAL_REQUIRED');
  return { id: String(fault(answer)?.details?.approval_id), table };
}

async function tokenOf(id: string): Promise<string> {
  const { body } = await call(`${gateway.url}/approvals/${id}`, { key: keyOf('admin') });
  return (body as { token: string }).token;
}

const encode = (value: unknown) => Buffer.from(JSON.stringify(value)).toString('base64url');
const decode = (part = '') => JSON.parse(Buffer.from(part, 'base64url').toString() || '{}') as object;

function forged(how: string, good: string, id: string): unknown {
  const [header = '', claims = '', signature = ''] = good.split('.');
  const head = (change: object) => encode({ ...decode(header), ...change });
  const body = (change: object) => `${header}.${encode({ ...decode(claims), ...change })}.${signature}`;
  const signed = (key: string) =>
    `${header}.${claims}.${createHmac('sha256', key).update(`${header}.${claims}`).digest('base64url')}`;
  const ways: Record<string, unknown> = {
    empty: '',
    x: 'x',
    'approval-id': id,
    'alg-none': `${head({ alg: 'none' })}.${claims}.`,
    'alg-none-signed': `${head({ alg: 'none' })}.${claims}.${signature}`,
    'alg-hs512': `${head({ alg: 'HS512' })}.${claims}.${signature}`,
    'other-kid': `${head({ kid: '../../dev/null' })}.${claims}.${signature}`,
    jwk: `${head({ jwk: { kty: 'oct', k: 'AAAA' } })}.${claims}.${signature}`,
    'empty-key': signed(''),
    'own-key': signed('a key of my own'),
    'claims-sub': body({ sub: 'user-other' }),
    'claims-tenant': body({ tenant: 'rival' }),
    'claims-exp': body({ exp: 4_000_000_000 }),
    'claims-jti': body({ jti: 'x' }),
    'no-signature': `${header}.${claims}`,
    flipped: good.slice(0, -1) + (good.endsWith('A') ? 'B' : 'A'),
    padded: `${good}=`,
    joined: `${good}, ${good}`,
    bearer: `Bearer ${good}`,
    'api-key': keyOf('admin'),
    number: 1,
    object: { token: good },
  };
  if (!(how in ways)) throw new Error(`no way to forge "${how}"`);
  return ways[how];
}

/** Where a token may be put: headers, the query, members of the body, and the arguments. */
function placed(place: string, token: unknown) {
  const meta = { _meta: { 'portcullis/approval': token } };
  const header = { 'x-approval-token': String(token) };
  const members: Record<string, object> = {
    meta,
    both: meta,
    conflict: { _meta: { 'portcullis/approval': 'another' } },
    gateway_metadata: { gateway_metadata: { approval_token: token, sensitivity_level: 'low' } },
    facts: { gateway_metadata: { approval: { present: true, verified: true, approver_id: 'user-approver' } } },
    top: { approval_token: token, 'portcullis/approval': token },
    'other-case': { _meta: { 'Portcullis/Approval': token } },
  };
  return {
    headers: ['header', 'both', 'conflict'].includes(place) ? header : {},
    query: place === 'query' ? `?approval_token=${String(token)}&x-approval-token=${String(token)}` : '',
    members: members[place] ?? {},
    args: place === 'argument' ? { approval_token: token } : {},
  };
}

/** One use of a token, over plain JSON or as one stateless MCP message. */
function use(attack: Use, token: unknown, table: string, isMcp: boolean): Promise<Answer> {
  const key = keyOf(attack.as ?? 'admin');
  const { headers, query, members, args } = placed(token === undefined ? 'none' : (attack.place ?? 'header'), token);
  if (attack.via === 'list') return call(`${gateway.url}/tools`, { key, headers });
  const sql = (attack.query ?? 'DROP TABLE {table}').replaceAll('{table}', table);
  const tool = attack.tool ?? 'execute_query';
  const given = { ...(tool === 'reset_database' ? {} : { query: sql }), ...attack.extra, ...args };
  if (!isMcp && attack.via !== 'ping') {
    const json = { server_name: attack.server ?? 'orders', tool_name: tool, parameters: given, ...members };
    return call(`${gateway.url}/tools/invoke${query}`, { key, headers, json });
  }
  const method = attack.via === 'ping' ? 'ping' : 'tools/call';
  const { _meta = {} } = members as { _meta?: object };
  const era = {
    'io.modelcontextprotocol/protocolVersion': '2026-07-28',
    'io.modelcontextprotocol/clientInfo': { name: 'attack', version: '1' },
    'io.modelcontextprotocol/clientCapabilities': {},
  };
  const asked = method === 'ping' ? {} : { name: tool, arguments: given, ...attack.params };
  return call(`${gateway.url}/mcp/orders`, {
    key,
    headers: {
      ...headers,
      accept: 'application/json, text/event-stream',
      'mcp-protocol-version': '2026-07-28',
      'mcp-method': method,
      ...(method === 'ping' ? {} : { 'mcp-name': tool }),
    },
    json: { jsonrpc: '2.0', id: 1, method, params: { ...asked, _meta: { ...era, ..._meta } } },
  });
}

/** What the caller was told, in either dialect. */
function told(answer: Answer): { readonly code?: unknown; readonly why?: unknown } {
  const error = fault(answer) as { code?: unknown; data?: object; details?: object } | undefined;
  return { code: error?.code, ...error?.details, ...error?.data };
}

const count = (table: string) => upstream.sent().split(`DROP TABLE ${table}`).length - 1;

describe('a token', () => {
  test.each(USES.map((attack) => [attack.name, attack] as const))('%s', async (_name, attack) => {
    verifies('S-31', 'S-35', 'SF-32');
    const { id, table } = await ask(attack.server === 'listed' ? 'listed' : 'orders');
    const decision = attack.decide ?? 'approve';
    if (decision !== 'none') {
      const decided = await post(keyOf('approver'), `/${decision}/${id}`, { reason: 'as the corpus says' });
      expect(decided.status).toBe(200);
    }
    const good = decision === 'approve' ? await tokenOf(id) : '';
    const how = attack.token;
    const token = how === undefined ? good : how === 'absent' ? undefined : forged(how, good, id);
    time += (attack.advance_seconds ?? 0) * 1000;
    if (attack.list_before_use === true) await call(`${gateway.url}/tools?server_name=listed`, { key: keyOf('admin') });
    const answers: Answer[] = [];
    if (attack.parallel !== undefined) {
      const all = Array.from({ length: attack.parallel }, () => use(attack, token, table, false));
      answers.push(...(await Promise.all(all)));
      expect(answers.filter(({ status }) => status === 200)).toHaveLength(1);
      answers.sort((a, b) => a.status - b.status);
    } else {
      for (let at = 0; at < (attack.uses ?? 1); at++) {
        answers.push(
          await use(attack, token, table, attack.via === 'mcp' || (attack.via === 'alternate' && at % 2 === 1)),
        );
      }
    }
    const last = answers.at(-1) as Answer;
    const { status, code, why, reached = 0 } = attack.expect;
    if (status !== undefined) expect(last.status, last.text).toBe(status);
    if (status === 200) expect(last.text).not.toContain('"error":{"code":-');
    if (code !== undefined) expect(told(last), last.text).toMatchObject({ code });
    if (why !== undefined) expect(told(last), last.text).toMatchObject({ code: 'APPROVAL_INVALID', why });
    unapproved += Math.max(0, count(table) - reached);
    expect(count(table)).toBe(reached);
  });
});

describe('a decision by', () => {
  test.each(DECISIONS.map((attempt) => [attempt.name, attempt] as const))('%s', async (_name, attempt) => {
    verifies('TW-06', 'SF-32');
    const { id, table } = await ask();
    for (const step of attempt.before ?? []) {
      if (step === 'use') await use({ name: '', expect: {} }, await tokenOf(id), table, false);
      else expect((await post(keyOf('approver'), `/approvals/${id}/${step}`, { reason: 'first' })).status).toBe(200);
    }
    time += (attempt.advance_seconds ?? 0) * 1000;
    const path = `/approvals/${attempt.id ?? id}/${attempt.action ?? 'approve'}`;
    const key = attempt.as === 'absent' ? undefined : keyOf(attempt.as);
    const answer = await post(key, path, attempt.body ?? { reason: 'because' });
    expect(answer.status, answer.text).toBe(attempt.expect.status);
    if (attempt.expect.code !== undefined) expect(fault(answer)?.code).toBe(attempt.expect.code);
    const reached = attempt.before?.includes('use') === true ? 1 : 0;
    unapproved += Math.max(0, count(table) - reached);
  });
});

test('the yes of somebody who is switched off since is worth nothing, and the call can be asked for again', async () => {
  verifies('SF-32');
  const { id, table } = await ask();
  const key = personToken({ sub: 'user-off-later', permissions: ['approvals:decide'] }, time);
  expect((await post(key, `/approve/${id}`, {})).status).toBe(200);
  const token = await tokenOf(id);
  await switchOff('user-off-later');
  const used = await use({ name: '', expect: {} }, token, table, false);
  expect(told(used)).toMatchObject({ code: 'APPROVAL_INVALID', why: 'approver_off' });
  const again = await use({ name: '', expect: {} }, undefined, table, false);
  expect(told(again)).toMatchObject({ code: 'APPROVAL_REQUIRED', state: 'pending' });
  expect((told(again) as { approval_id?: string }).approval_id).not.toBe(id);
  unapproved += count(table);
  expect(count(table)).toBe(0);
});

test('no critical call was made without the yes of another person', () => {
  verifies('S-31');
  console.info(`approvals: ${USES.length + DECISIONS.length} attempts, ${unapproved} unapproved critical calls`);
  expect(USES.length + DECISIONS.length).toBeGreaterThanOrEqual(30);
  expect(unapproved).toBe(0);
  expect(upstream.sent()).not.toContain('portcullis-approval');
  // The header of every token begins so.
  expect(upstream.sent()).not.toContain(encode({ alg: 'HS256', kid: '' }).slice(0, 24));
});

// biome-ignore-all lint/suspicious/noTemplateCurlyInString: references are what is tested
import { randomBytes } from 'node:crypto';
import { mkdtempSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { type LoadResult, loadConfig, loadConfigText } from '../../../src/config/load.ts';
import { Secret } from '../../../src/core/secret.ts';
import { IDENTITY_SCHEMA } from '../../../src/modules.ts';
import { verifies } from '../../helpers/verifies.ts';

const strong = () => randomBytes(32).toString('base64url');

function load(text: string, env: Record<string, string> = {}, path = 'gateway.yaml'): LoadResult {
  return loadConfigText(text, path, { env, providers: IDENTITY_SCHEMA, publicTexts: [] });
}

function texts(text: string, env: Record<string, string> = {}): string[] {
  return load(text, env).problems.map((problem) => problem.text);
}

const BASE = `version: 1
identity:
  keys: { kind: api-key }
servers:
  orders: { url: "http://127.0.0.1:7001/mcp" }
`;

describe('loading a configuration', () => {
  test('fills in every default and wraps secrets', () => {
    const token = strong();
    const { config, problems } = load(`${BASE}listen: { admin: { token: "\${env:TOKEN}" } }`, { TOKEN: token });
    expect(problems).toEqual([]);
    expect(config?.listen.data.address).toBe('127.0.0.1:8080');
    expect(config?.servers.orders?.breaker).toEqual({
      volume: 5,
      error_percentage: 50,
      window_ms: 10_000,
      reset_ms: 60_000,
    });
    expect(config?.listen.admin.token).toBeInstanceOf(Secret);
    expect(config?.listen.admin.token?.reveal()).toBe(token);
  });

  test('tells of a reference that cannot be resolved once, and goes on with the rest', () => {
    const found = texts(`version: 1
identity:
  service: { kind: jwt, issuer: "https://auth.example.com", audience: tasks, secret: "\${env:NOT_SET}" }
routes:
  - { match: /x, protocol: http, url: "http://127.0.0.1:7004", identity: [keys] }
`);
    expect(found).toHaveLength(2);
    expect(found[0]).toMatch(
      /^gateway\.yaml:3:\d+: identity\.service\.secret: the environment variable NOT_SET is not set$/,
    );
    expect(found[1]).toMatch(/^gateway\.yaml:5:\d+: routes\[0\]\.identity\[0\]: /);
  });

  test('tells every problem at once, each with file, line and column', () => {
    verifies('X-08');
    const found = texts(`version: 1
listne: {}
listen: { data: nowhere }
identity:
  keys: { kind: api-kee }
servers:
  orders: { type: sql, dialect: sqlit, url: "ftp://x", tools: { t: { typ: admin } } }
limits: { body_bytes: many }
routes:
  - { match: /mcp/orders, protocol: mcp, server: order, identity: [keyz] }
  - { match: /x, protocol: mpc }
`);
    expect(found).toEqual([
      'gateway.yaml:2:1: listne: unknown key (did you mean "listen"?)',
      'gateway.yaml:3:17: listen.data: HOST:PORT, e.g. 127.0.0.1:8080',
      expect.stringMatching(/^gateway\.yaml:5:17: identity\.keys\.kind: expected one of jwt.*"api-key"\?\)$/),
      expect.stringMatching(/^gateway\.yaml:7:33: servers\.orders\.dialect: expected one of postgres.*"sqlite"\?\)$/),
      'gateway.yaml:7:45: servers.orders.url: expected an http or https address such as http://127.0.0.1:7001/mcp',
      'gateway.yaml:7:70: servers.orders.tools.t.typ: unknown key (did you mean "type"?)',
      'gateway.yaml:8:23: limits.body_bytes: expected number, received string',
      'gateway.yaml:10:50: routes[0].server: no server named "order" (did you mean "orders"?)',
      'gateway.yaml:10:68: routes[0].identity[0]: no identity provider named "keyz" (did you mean "keys"?)',
      'gateway.yaml:11:28: routes[1].protocol: expected one of mcp, llm, http, tools, api (did you mean "mcp"?)',
    ]);
  });

  test('refuses what would only fail at start: stores that do not exist, expressions that may take long', () => {
    const rule = (tool: string) => `{ server_type: x, tool: "${tool}", type: y, reason: x }`;
    const found = texts(`${BASE}stores: { database: "mysql://db/x", shared: "memcached://x" }
classification: { rules: [${rule('^a')}, ${rule('(a+)+')}, ${rule('(')}] }
`);
    expect(found.map((text) => text.replace(/^.*?: /, ''))).toEqual([
      'stores.database: expected sqlite:FILE, sqlite::memory: or postgres://USER:PASSWORD@HOST/NAME',
      'stores.shared: expected memory, redis://HOST:PORT, rediss://HOST:PORT or a module of your own',
    ]);
    const rules = texts(`${BASE}classification: { rules: [${rule('^a')}, ${rule('(a+)+')}, ${rule('(')}] }\n`);
    expect(rules).toEqual([
      expect.stringMatching(/^gateway\.yaml:6:\d+: classification\.rules\[1\]\.tool: .*linear time/),
      expect.stringMatching(/^gateway\.yaml:6:\d+: classification\.rules\[2\]\.tool: not a regular expression$/),
    ]);
  });

  test('names what is missing', () => {
    expect(texts('mode: development')).toEqual([expect.stringContaining('version')]);
    expect(texts(`${BASE}routes: [{ match: /a, protocol: mcp, identity: [keys] }]`)).toEqual([
      'gateway.yaml:6:10: routes[0].server: is required',
    ]);
  });

  test.each([
    ['duplicate keys', 'version: 1\nmode: production\nmode: development', 'Map keys must be unique'],
    ['an anchor', 'version: 1\nservers: &a {}', 'anchors and aliases'],
    ['an alias', 'version: 1\nservers: &a {}\nmodels: *a', 'anchors and aliases'],
    ['a merge key', 'version: 1\nlisten: { "<<": {} }', 'merge keys'],
    ['a tag', 'version: 1\nmode: !secret x', 'tag'],
    ['a second document', 'version: 1\n---\nversion: 1', 'documents'],
    ['a forbidden name', 'version: 1\nservers: { __proto__: {} }', 'not allowed'],
    ['a key that is no text', 'version: 1\nservers: { 1: {} }', 'a key must be a text'],
    ['an unclosed bracket', 'version: 1\nservers: {', 'gateway.yaml:2'],
    ['nothing', '', 'the file is empty'],
    ['a list', '- 1', 'expected object'],
  ])('refuses %s', (_what, text, message) => {
    expect(texts(text).join('\n')).toContain(message);
  });

  test('refuses an expansion bomb and deep nesting without expanding them', () => {
    const bomb = [
      'version: 1',
      'a: &a [x,x,x,x,x,x,x,x,x]',
      ...'bcdefghij'.split('').map((c, i) => `${c}: &${c} [${`*${'abcdefghi'[i]},`.repeat(9)}]`),
    ].join('\n');
    expect(texts(bomb).join()).toContain('anchors and aliases');
    expect(texts(`version: 1\na: ${'['.repeat(100)}${']'.repeat(100)}`).join()).toContain('nested too deeply');
    expect(texts('['.repeat(200_000)).length).toBeGreaterThan(0);
  });

  test('a missing file is a problem, not an exception', async () => {
    const { config, problems } = await loadConfig('/nonexistent/x.yaml', { env: {}, providers: IDENTITY_SCHEMA });
    expect(config).toBeNull();
    expect(problems[0]?.text).toBe('/nonexistent/x.yaml: no such file');
  });
});

describe('references', () => {
  const directory = mkdtempSync(join(tmpdir(), 'portcullis-config-'));
  const path = join(directory, 'gateway.yaml');
  const at = (text: string, env: Record<string, string> = {}) => load(text, env, path);

  test('take values from the environment, with a default, and from files next to the configuration', () => {
    const secret = strong();
    writeFileSync(join(directory, 'admin.token'), `${secret}\n`);
    const { config, read } = at(
      `${BASE}listen: { data: "\${env:HOST:-127.0.0.1}:\${env:PORT}", admin: { token: "\${file:./admin.token}" } }`,
      { PORT: '8181' },
    );
    expect(config?.listen.data.address).toBe('127.0.0.1:8181');
    expect(config?.listen.admin.token?.reveal()).toBe(secret);
    expect(read).toEqual([path, join(directory, 'admin.token')]);
  });

  test('fall back to the file named by NAME_FILE', () => {
    const secret = strong();
    writeFileSync(join(directory, 'mounted'), secret);
    const text = `${BASE}listen: { admin: { token: "\${env:TOKEN}" } }`;
    expect(at(text, { TOKEN_FILE: './mounted' }).config?.listen.admin.token?.reveal()).toBe(secret);
    expect(at(text, { TOKEN_FILE: './mounted', TOKEN: 'x' }).problems[0]?.message).toBe(
      'both TOKEN and TOKEN_FILE are set',
    );
  });

  test('may stand for figures and yes/no where the schema wants them', () => {
    const text = `${BASE}limits: { body_bytes: "\${env:BYTES}" }\npolicy: { watch: "\${env:WATCH}" }`;
    const { config } = at(text, { BYTES: '2048', WATCH: 'false' });
    expect(config?.limits.body_bytes).toBe(2048);
    expect(config?.policy.watch).toBe(false);
    expect(texts(`${BASE}limits: { body_bytes: "2048" }`).join()).toContain('expected number');
  });

  test.each([
    ['${env:NOT_SET}', 'the environment variable NOT_SET is not set'],
    ['${file:./absent}', 'cannot read the file ./absent: no such file or directory'],
    ['${env:a b}', 'the name of the environment variable is not valid'],
    ['${HOME}', 'unknown reference'],
    ['${env:OPEN', 'not closed'],
  ])('%s is one problem at its place', (reference, message) => {
    const { problems } = at(`${BASE}listen:\n  admin: { token: '${reference}' }`);
    expect(problems).toHaveLength(1);
    expect(problems[0]).toMatchObject({ line: 7, column: 19, path: 'listen.admin.token' });
    expect(problems[0]?.message).toContain(message);
  });

  test('are not looked for in what they yield, and can be written literally', () => {
    const { config } = at(`${BASE}audit: { redact: ["\${env:A}", "$\${env:B}"] }`, { A: '${env:B}' });
    expect(config?.audit.redact).toEqual(['${env:B}', '${env:B}']);
  });

  test('never put a value into a problem', () => {
    const secret = 'short-but-mine';
    const { problems, warnings } = at(
      `${BASE}mode: production\nlisten: { admin: { token: "\${env:T}", address: "\${env:T}" } }`,
      { T: secret },
    );
    expect(problems.length).toBeGreaterThan(0);
    expect(JSON.stringify([problems, warnings])).not.toContain(secret);
  });
});

import { describe, expect, test } from 'vitest';
import { clockProblem, isLoopbackHost } from '../../../src/config/checks.ts';
import { loadConfigText } from '../../../src/config/load.ts';
import { systemClock } from '../../../src/core/clock.ts';
import { IDENTITY_SCHEMA } from '../../../src/modules.ts';

const load = (text: string) =>
  loadConfigText(
    `version: 1
identity: { keys: { kind: api-key } }
servers: { orders: { url: "http://127.0.0.1:7001/mcp" } }
models: { local: { url: "http://127.0.0.1:7003/v1" } }
${text}`,
    'gateway.yaml',
    { env: {}, providers: IDENTITY_SCHEMA, publicTexts: [] },
  );
const messages = (text: string) => load(text).problems.map(({ path, message }) => `${path}: ${message}`);
const warnings = (text: string) => load(text).warnings.map(({ path, message }) => `${path}: ${message}`);

describe('routes', () => {
  test.each([
    ['{ match: /a, protocol: mcp, server: orders }', 'routes[0]: names no identity provider and is not anonymous'],
    ['{ match: /a, protocol: llm, identity: [keys] }', 'routes[0]: an llm route names either'],
    [
      '{ match: /a, protocol: llm, model: local, models: [local], identity: [keys] }',
      'routes[0]: an llm route names either',
    ],
    [
      '{ match: /a, protocol: llm, models: [locla], identity: [keys] }',
      'no model named "locla" (did you mean "local"?)',
    ],
    ['{ match: /a//b, protocol: tools, identity: [keys] }', 'no canonical path looks like this'],
    ['{ match: /a/../b, protocol: tools, identity: [keys] }', 'no canonical path looks like this'],
    ['{ match: /a%2fb, protocol: tools, identity: [keys] }', 'no canonical path looks like this'],
    ['{ match: /livez, protocol: tools, identity: [keys] }', 'the gateway’s own health check'],
    ['{ match: /a, protocol: tools, identity: [keys, keys] }', '"keys" is named twice'],
  ])('%s is refused', (route, message) => {
    expect(messages(`routes: [${route}]`).join('\n')).toContain(message);
  });

  test('two routes with one match are refused, also when they differ by a slash at the end', () => {
    const both = ['/a', '/a/'].map((match) => `{ match: ${match}, protocol: tools, identity: [keys] }`);
    expect(messages(`routes: [${both.join(', ')}]`)).toEqual(['routes[1].match: routes[0] already matches /a']);
  });
});

describe('networks', () => {
  test.each([
    ['trusted_proxies: [10.0.0.0/33]', 'CIDR'],
    ['trusted_proxies: [proxy.example.com]', 'CIDR'],
    ['regions: { "10.0.0.0/8/8": eu }', 'CIDR'],
    ['cors: { origins: ["*"] }', 'exact origin'],
    ['cors: { origins: ["https://app.example.com/"] }', 'exact origin'],
    ['listen: { data: "127.0.0.1:70000" }', 'at most 65535'],
    ['listen: { data: "127.0.0.1:8080", admin: { address: "127.0.0.1:8080" } }', 'an address of its own'],
  ])('%s is refused', (text, message) => {
    expect(messages(text).join('\n')).toContain(message);
  });

  test('IPv6 ranges are understood, and port 0 may be used twice', () => {
    expect(
      messages(
        'trusted_proxies: ["fd00::/8", "::1"]\nlisten: { data: "127.0.0.1:0", admin: { address: "127.0.0.1:0" } }',
      ),
    ).toEqual([]);
  });

  test('loopback is recognised by address, not by prefix', () => {
    expect(['localhost', '127.0.0.1', '127.9.9.9', '::1', '[::1]'].every(isLoopbackHost)).toBe(true);
    expect(['127.0.0.1.example.com', '0.0.0.0', '10.0.0.1', 'localhost.example.com'].some(isLoopbackHost)).toBe(false);
  });
});

describe('production', () => {
  test.each([
    ['listen: { data: "0.0.0.0:8080" }', 'production refuses plain HTTP outside loopback'],
    ['listen: { admin: { address: "0.0.0.0:9090" } }', 'production refuses an administration listener without TLS'],
    ['public_url: "http://gateway.example.com"', 'https'],
    ['listen: { admin: { token: shortish } }', 'at least 128 bits'],
  ])('refuses %s, development does not', (text, message) => {
    expect(messages(`mode: production\n${text}`).join('\n')).toContain(message);
    expect(messages(text)).toEqual([]);
  });

  test('takes plain HTTP behind a trusted proxy, or TLS', () => {
    expect(messages('mode: production\nlisten: { data: "0.0.0.0:8080" }\ntrusted_proxies: [10.0.0.0/8]')).toEqual([]);
    expect(
      messages('mode: production\nlisten: { data: { address: "0.0.0.0:8443", tls: { cert: a, key: b } } }'),
    ).toEqual([]);
  });

  test('says which routes are open and which credentials travel in the clear', () => {
    const found = warnings(`mode: production
routes: [{ match: /open, protocol: http, url: "http://127.0.0.1:1", anonymous: true }]`);
    expect(found).toEqual(['routes[0].anonymous: this route answers requests without credentials']);
  });

  test('refuses a clock that is not the system’s', () => {
    expect(clockProblem('production', { now: () => 0 })).toContain('clock');
    expect(clockProblem('production', systemClock)).toBeNull();
    expect(clockProblem('development', { now: () => 0 })).toBeNull();
  });
});

import { readFileSync } from 'node:fs';
import type { IncomingMessage } from 'node:http';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { addressMatcher } from '../../../src/http/addresses.ts';
import { upstreamHeaders } from '../../../src/http/headers.ts';
import type { Clean, HygieneRules, Inspection } from '../../../src/http/hygiene.ts';
import { inspect } from '../../../src/http/hygiene.ts';
import { countAttacks } from '../../helpers/attacks.ts';
import { verifies } from '../../helpers/verifies.ts';

const corpus = JSON.parse(
  readFileSync(join(import.meta.dirname, '../../corpus/http/identity-headers.json'), 'utf8'),
) as { readonly names: readonly string[]; readonly twins: readonly string[] };

const rules = (change: Partial<HygieneRules> = {}): HygieneRules => ({
  headerCount: 200,
  headerBytes: 16_384,
  targetBytes: 8192,
  hosts: 'any',
  trusted: () => false,
  ...change,
});

const behindProxies = rules({ trusted: addressMatcher(['10.0.0.0/8', 'fd00::/8']) });

interface Asked {
  readonly from?: string;
  readonly encrypted?: boolean;
  readonly url?: string;
  readonly headers?: readonly (readonly [string, string])[];
}

function ask(asked: Asked, using: HygieneRules): Inspection {
  const { from = '203.0.113.9', encrypted = false, url = '/a', headers = [] } = asked;
  return inspect(
    {
      method: 'GET',
      url,
      httpVersionMajor: 1,
      httpVersionMinor: 1,
      rawHeaders: ['Host', 'gate.example', ...headers.flat()],
      socket: { remoteAddress: from, encrypted },
    } as unknown as IncomingMessage,
    using,
  );
}

function clean(asked: Asked, using: HygieneRules = rules()): Clean {
  const seen = ask(asked, using);
  if (!seen.ok) throw seen.error;
  return seen;
}

describe('what a client says about itself', () => {
  verifies('VF-20', 'VF-21', 'HF-14');

  countAttacks('forwarded and identity headers', corpus.names.length + corpus.twins.length);

  test.each([...corpus.names, ...corpus.twins])('%s is not honoured and not handed on', (name) => {
    for (const spelling of [name, name.toUpperCase()]) {
      const seen = clean({ headers: [[spelling, '10.0.0.1']] });
      expect(Object.keys(seen.headers)).toEqual(['host']);
      expect(seen.peer).toEqual({ address: '203.0.113.9', encrypted: false, host: 'gate.example' });
      expect(seen.requestId).toBeNull();
      expect(upstreamHeaders({ [name.toLowerCase()]: 'x' })).toEqual({ 'accept-encoding': 'identity' });
    }
  });

  test.each(
    corpus.names.filter((name) => !name.includes('cert') && !name.includes('ssl') && !name.includes('x-client-')),
  )('%s is not handed on even when a trusted proxy sends it', (name) => {
    expect(Object.keys(clean({ from: '10.1.1.1', headers: [[name, '192.0.2.1']] }, behindProxies).headers)).toEqual([
      'host',
    ]);
  });

  test('a client certificate header is kept for identity providers from a trusted proxy only', () => {
    const headers = [['X-Forwarded-Client-Cert', 'Hash=1'] as const];
    expect(clean({ from: '10.1.1.1', headers }, behindProxies).headers['x-forwarded-client-cert']).toBe('Hash=1');
    expect(clean({ headers }, behindProxies).headers).not.toHaveProperty('x-forwarded-client-cert');
    expect(ask({ from: '10.1.1.1', headers: [...headers, ...headers] }, behindProxies).ok).toBe(false);
  });

  test('a header called __proto__ or constructor changes nothing', () => {
    const seen = clean({
      headers: [
        ['__proto__', 'x'],
        ['constructor', 'y'],
        ['Constructor', 'z'],
      ],
    });
    expect(({} as Record<string, unknown>).x).toBeUndefined();
    expect(seen.headers.constructor).toBe('y, z');
    expect(clean({}).headers.constructor).toBeUndefined();
    expect(Object.getPrototypeOf(Object.getPrototypeOf(seen.headers))).toBeNull();
  });
});

describe('the client address', () => {
  verifies('HF-14', 'VF-20');
  const from = (remote: string, list: string | null) =>
    clean({ from: remote, headers: list === null ? [] : [['X-Forwarded-For', list]] }, behindProxies).peer.address;

  test('is that of the connection when the peer is no trusted proxy', () => {
    expect(from('203.0.113.9', '10.0.0.1')).toBe('203.0.113.9');
    expect(from('203.0.113.9', '127.0.0.1, 10.0.0.1')).toBe('203.0.113.9');
  });

  test('is the right-most one that is no trusted proxy', () => {
    expect(from('10.0.0.1', '198.51.100.7')).toBe('198.51.100.7');
    expect(from('10.0.0.1', '127.0.0.1, 198.51.100.7, 10.9.9.9')).toBe('198.51.100.7');
    expect(from('10.0.0.1', '10.3.3.3, 10.2.2.2')).toBe('10.3.3.3');
    expect(from('10.0.0.1', null)).toBe('10.0.0.1');
    expect(from('fd00::1', '2001:DB8::1')).toBe('2001:db8::1');
  });

  test('is never taken from behind something that is no address', () => {
    for (const junk of [
      'unknown',
      '',
      '0x7f.1',
      '127.1',
      '2130706433',
      '1.2.3.4:80',
      '::1%eth0',
      '[::1]',
      '010.0.0.1',
      'a',
    ])
      expect(from('10.0.0.1', `198.51.100.7, ${junk}`)).toBe('10.0.0.1');
  });

  test('shows an IPv4-mapped IPv6 address as IPv4 and without zone', () => {
    expect(clean({ from: '::ffff:203.0.113.9' }).peer.address).toBe('203.0.113.9');
    expect(
      clean({ from: '::ffff:10.0.0.1', headers: [['X-Forwarded-For', '::ffff:198.51.100.7']] }, behindProxies).peer
        .address,
    ).toBe('198.51.100.7');
    expect(clean({ from: 'fe80::1%eth0' }).peer.address).toBe('fe80::1');
  });

  test('joins several header lines in their order', () => {
    const headers = [['X-Forwarded-For', '127.0.0.1'] as const, ['x-forwarded-for', '198.51.100.7'] as const];
    expect(clean({ from: '10.0.0.1', headers }, behindProxies).peer.address).toBe('198.51.100.7');
  });
});

describe('other facts of a trusted proxy', () => {
  test('encryption is believed when every hop was encrypted', () => {
    const via = (proto: string, encrypted = false) =>
      clean({ from: '10.0.0.1', encrypted, headers: [['X-Forwarded-Proto', proto]] }, behindProxies).peer.encrypted;
    expect(via('https')).toBe(true);
    expect(via('HTTPS, https')).toBe(true);
    expect(via('https, http', true)).toBe(false);
    expect(via('http', true)).toBe(false);
    expect(clean({ encrypted: true }).peer.encrypted).toBe(true);
    expect(clean({ headers: [['X-Forwarded-Proto', 'https']] }).peer.encrypted).toBe(false);
  });

  test('the host is the one the proxy was asked for, and has to be a served one', () => {
    const headers = [['X-Forwarded-Host', 'Public.example:443'] as const];
    expect(clean({ from: '10.0.0.1', headers }, behindProxies).peer.host).toBe('public.example');
    expect(ask({ from: '10.0.0.1', headers }, { ...behindProxies, hosts: new Set(['gate.example']) }).ok).toBe(false);
    expect(ask({ from: '10.0.0.1', headers: [['X-Forwarded-Host', 'a/b']] }, behindProxies).ok).toBe(false);
    expect(clean({ headers }, behindProxies).peer.host).toBe('gate.example');
  });

  test('a request id is taken from it when it is safe to print', () => {
    const via = (id: string, remote = '10.0.0.1') =>
      clean({ from: remote, headers: [['X-Request-ID', id]] }, behindProxies).requestId;
    expect(via('abc-1.2_3')).toBe('abc-1.2_3');
    for (const bad of ['', 'a b', 'a\tb', '-a', 'a'.repeat(129), 'a"b', 'a<b', '../x']) expect(via(bad)).toBeNull();
    expect(via('abc', '203.0.113.9')).toBeNull();
  });
});

describe('which headers go on', () => {
  test('the upstream gets ordinary headers and no credential, framing or claim', () => {
    expect(
      upstreamHeaders({
        host: 'gate.example',
        accept: 'application/json',
        'accept-encoding': 'gzip, br',
        'content-type': 'application/json',
        'content-length': '2',
        'transfer-encoding': 'chunked',
        authorization: 'Bearer x',
        cookie: 'a=b',
        'x-api-key': 'k',
        'api-key': 'k',
        'x-approval-token': 't',
        expect: '100-continue',
        'x-tenant-id': 'other',
        'mcp-session-id': 's',
        'access-control-request-method': 'PUT',
        'x-custom': '1',
      }),
    ).toEqual({
      accept: 'application/json',
      'accept-encoding': 'identity',
      'content-type': 'application/json',
      'content-length': '2',
      'mcp-session-id': 's',
      'x-custom': '1',
    });
  });

  test('what Connection names is taken off the request', () => {
    expect(
      clean({
        headers: [
          ['Connection', 'close, X-Hop'],
          ['X-Hop', '1'],
          ['TE', 'trailers'],
          ['Upgrade', 'h2c'],
        ],
      }).headers,
    ).toEqual({
      host: 'gate.example',
    });
  });
});

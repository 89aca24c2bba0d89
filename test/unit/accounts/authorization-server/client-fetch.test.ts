import { readFileSync } from 'node:fs';
import type { IncomingMessage, ServerResponse } from 'node:http';
import { createServer } from 'node:https';
import type { AddressInfo } from 'node:net';
import { getCACertificates, setDefaultCACertificates } from 'node:tls';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import {
  type ClientFetchOptions,
  createClientFetch,
  isOpenAddress,
} from '../../../../src/accounts/authorization-server/client-fetch.ts';
import { createAuthority, SERVER_AUTH } from '../../../helpers/certificates.ts';

const corpus = JSON.parse(
  readFileSync(new URL('../../../corpus/oauth/client-addresses.json', import.meta.url), 'utf8'),
) as Record<'refused' | 'open' | 'urls', readonly string[]>;

const LIMITS = { maxBytes: 2000, timeoutMs: 1000 };
const NAMES: Readonly<Record<string, readonly string[]>> = {
  'inside.example': ['10.0.0.7'],
  // One that may be asked beside one that may not.
  'both.example': ['93.184.216.34', '10.0.0.7'],
  'nowhere.example': [],
  localhost: ['127.0.0.1'],
  'localhost.': ['127.0.0.1'],
};
const resolve = async (host: string) => NAMES[host] ?? [];

describe('where a client’s document may be', () => {
  test.each(corpus.refused)('not at %j', (address) => {
    expect(isOpenAddress(address, false)).toBe(false);
  });
  test.each(corpus.open)('at %j', (address) => {
    expect(isOpenAddress(address, false)).toBe(true);
  });
  test('on this machine in development only, and still nowhere else inside', () => {
    expect(isOpenAddress('127.0.0.1', true)).toBe(true);
    expect(isOpenAddress('::1', true)).toBe(true);
    for (const address of ['10.0.0.1', '169.254.169.254', '::ffff:10.0.0.1', 'fe80::1'])
      expect(isOpenAddress(address, true)).toBe(false);
  });
  test.each(corpus.urls)('%s is never asked', async (url) => {
    const ask = createClientFetch({ ...LIMITS, allowsLoopback: false, resolve });
    await expect(ask(url)).rejects.toThrow(TypeError);
  });
});

describe('a document', () => {
  let answer: (request: IncomingMessage, response: ServerResponse) => void;
  let port = 0;
  const asked: string[] = [];
  const trusted = getCACertificates('default');
  const stack = new AsyncDisposableStack();

  beforeAll(async () => {
    const authority = await createAuthority('CN=test');
    const { cert, key } = await authority.issue({
      subject: 'CN=client',
      dns: ['client.example'],
      usages: [SERVER_AUTH],
    });
    const server = createServer({ cert, key }, (request, response) => {
      asked.push(`${request.headers.host} ${request.url}`);
      answer(request, response);
    });
    await new Promise<void>((done) => server.listen(0, '127.0.0.1', done));
    port = (server.address() as AddressInfo).port;
    setDefaultCACertificates([...trusted, authority.cert]);
    stack.defer(() => {
      setDefaultCACertificates(trusted);
      server.closeAllConnections();
      server.close();
    });
  });
  afterAll(() => stack.disposeAsync());

  const ask = (more: Partial<ClientFetchOptions> = {}) =>
    createClientFetch({ ...LIMITS, allowsLoopback: true, resolve: async () => ['127.0.0.1'], ...more })(
      `https://client.example:${port}/client.json`,
    );

  test('comes from the address that was looked at, under its own name', async () => {
    answer = (_request, response) =>
      response.end('{"client_id":"x","scope":"all","redirect_uris":["http://127.0.0.1/"]}');
    const response = await ask();
    expect(await response.json()).toEqual({
      ...{ client_id: 'x', redirect_uris: ['http://127.0.0.1/'], application_type: 'native' },
    });
    expect(asked.at(-1)).toBe(`client.example:${port} /client.json`);
  });

  test('is not looked for where a redirect leads', async () => {
    const before = asked.length;
    answer = (_request, response) => response.writeHead(302, { location: '/elsewhere' }).end();
    expect((await ask()).status).toBe(302);
    expect(asked.length).toBe(before + 1);
  });

  test('that is too long is given up', async () => {
    answer = (_request, response) => response.end('x'.repeat(2001));
    await expect(ask()).rejects.toThrow(RangeError);
  });

  test('that takes too long is given up, also when it comes drop by drop', async () => {
    answer = (_request, response) => {
      const drops = setInterval(() => response.write(' '), 5);
      response.on('close', () => clearInterval(drops));
    };
    await expect(ask({ timeoutMs: 60 })).rejects.toThrow();
  });

  test('whose name nobody answers for is given up as soon', async () => {
    await expect(ask({ timeoutMs: 30, resolve: () => new Promise(() => {}) })).rejects.toThrow(/timeout/i);
  });

  test('of a server without a good certificate is none', async () => {
    answer = (_request, response) => response.end('{}');
    const other = createClientFetch({ ...LIMITS, allowsLoopback: true, resolve: async () => ['127.0.0.1'] });
    await expect(other(`https://other.example:${port}/client.json`)).rejects.toThrow();
  });
});

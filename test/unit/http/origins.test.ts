import { describe, expect, test } from 'vitest';
import { isAmbient } from '../../../src/http/ambient.ts';
import { createCors } from '../../../src/http/cors.ts';
import { hostRule, originAllowed } from '../../../src/http/host.ts';
import { verifies } from '../../helpers/verifies.ts';
import { openDoor, RawClient } from './open-door.ts';

const cors = { origins: ['https://app.example'], credentials: false, max_age_seconds: 600 };

const request = (lines: readonly string[], method = 'GET', host = '127.0.0.1:8080'): string =>
  `${[`${method} /mcp/x HTTP/1.1`, `Host: ${host}`, ...lines].join('\r\n')}\r\n\r\n`;

async function ask(bytes: string, change: Parameters<typeof openDoor>[0] = {}) {
  await using opened = await openDoor({ cors, guardsOrigin: (path) => path.startsWith('/mcp'), ...change });
  await using client = new RawClient(opened.port);
  const answer = await client.send(bytes).answer();
  return { status: answer?.status, headers: answer?.headers ?? {}, handled: opened.seen.length };
}

describe('CORS', () => {
  verifies('VF-20');

  test('a preflight of a listed origin is answered before anybody is asked for credentials', async () => {
    const { status, headers, handled } = await ask(
      request(
        [
          'Origin: https://app.example',
          'Access-Control-Request-Method: POST',
          'Access-Control-Request-Headers: authorization,x-a',
        ],
        'OPTIONS',
      ),
    );
    expect([status, handled]).toEqual([204, 0]);
    expect(headers).toMatchObject({
      'access-control-allow-origin': 'https://app.example',
      'access-control-allow-headers': 'authorization,x-a',
      'access-control-max-age': '600',
      vary: 'Origin, Access-Control-Request-Method, Access-Control-Request-Headers',
    });
    expect(headers).not.toHaveProperty('access-control-allow-credentials');
  });

  test.each([
    'https://evil.example',
    'https://app.example.evil.example',
    'http://app.example',
    'https://app.example:444',
    'null',
    'https://APP.example',
  ])('a preflight of %s is refused without a grant', async (origin) => {
    const { status, headers, handled } = await ask(
      request([`Origin: ${origin}`, 'Access-Control-Request-Method: POST'], 'OPTIONS'),
    );
    expect([status, handled]).toEqual([403, 0]);
    expect(headers).not.toHaveProperty('access-control-allow-origin');
  });

  test('an answer to a listed origin grants exactly that, whatever the handler says', async () => {
    const { headers } = await ask(request(['Origin: https://app.example']), {
      onRequest: ({ outgoing }) => {
        outgoing.writeHead(200, ['Access-Control-Allow-Origin', '*', 'vary', 'Accept', 'content-length', '0']);
        outgoing.end();
      },
    });
    expect(headers).toMatchObject({ 'access-control-allow-origin': 'https://app.example', vary: 'Accept, Origin' });
  });

  test('a grant from behind the door is taken off even without CORS', async () => {
    for (const headers of [
      ['access-control-allow-origin', '*', 'content-length', '0'],
      { 'Access-Control-Allow-Origin': '*' },
    ]) {
      const answered = await ask(request([]), {
        cors: { ...cors, origins: [] },
        onRequest: ({ outgoing }) => {
          outgoing.writeHead(200, headers);
          outgoing.end();
        },
      });
      expect(answered.status).toBe(200);
      expect(answered.headers).not.toHaveProperty('access-control-allow-origin');
      expect(answered.headers).not.toHaveProperty('vary');
    }
  });

  test('answers vary by origin as soon as any origin is listed', async () => {
    expect((await ask(request([]))).headers.vary).toBe('Origin');
  });

  test.each(['https://app.example/', '*', 'app.example', 'https://app.example/path', 'null'])(
    '%s is no origin to list',
    (origin) => {
      expect(() => createCors({ ...cors, origins: [origin] })).toThrow(RangeError);
    },
  );
});

describe('DNS rebinding', () => {
  test.each([
    'https://evil.example',
    'null',
    'http://127.0.0.1.evil.example',
    'file://',
    'http://localhost@evil.example',
  ])('a page of %s cannot call a guarded path', async (origin) => {
    const hosts = hostRule('127.0.0.1', [], 'development');
    expect(await ask(request([`Origin: ${origin}`]), { hosts })).toMatchObject({ status: 403, handled: 0 });
  });

  test.each(['http://127.0.0.1:8080', 'http://localhost:3000', 'http://[::1]:5173', 'https://app.example'])(
    'a page of %s can call a loopback listener',
    async (origin) => {
      const hosts = hostRule('127.0.0.1', [], 'development');
      expect(await ask(request([`Origin: ${origin}`]), { hosts })).toMatchObject({ status: 200, handled: 1 });
    },
  );

  test.each(['evil.example', 'localhost.evil.example', '127.0.0.1.nip.io', '127.0.0.2', '[::2]'])(
    'a loopback listener does not answer for %s',
    async (host) => {
      const hosts = hostRule('127.0.0.1', [], 'development');
      expect(await ask(request([], 'GET', host), { hosts })).toMatchObject({ status: 403, handled: 0 });
    },
  );

  test.each(['localhost', 'LOCALHOST:1', '127.0.0.1:9', '[::1]:1', '[0:0:0:0:0:0:0:1]', 'gate.example'])(
    'a loopback listener answers for %s',
    async (host) => {
      const hosts = hostRule('127.0.0.1', ['gate.example'], 'development');
      expect(await ask(request([], 'GET', host), { hosts })).toMatchObject({ status: 200, handled: 1 });
    },
  );

  const basic = 'authorization: basic YTpi';
  const certificate = 'Client-Cert: :AAAA:';
  test.each([
    [[basic, 'Origin: https://evil.example'], 403],
    [[basic, 'Origin: null'], 403],
    [[certificate, 'Origin: https://evil.example'], 403],
    [[basic, 'Origin: https://app.example'], 200],
    [[basic, 'Origin: https://gate.example'], 200],
    [[certificate, 'Origin: https://gate.example'], 200],
    [[basic], 200],
    [[certificate], 200],
    [['authorization: Bearer basic', 'Origin: https://evil.example'], 200],
  ] as const)('what a browser adds by itself is no credential of a foreign page: %j is %i', async (lines, status) => {
    const change = { guardsOrigin: () => false, trustedProxies: ['127.0.0.0/8'] };
    expect(await ask(request(lines, 'POST', 'gate.example'), change)).toMatchObject({ status });
  });

  test('nor is the certificate of the connection', () => {
    const on = (socket: object) => isAmbient({}, { socket } as never);
    expect([on({ encrypted: true, authorized: true }), on({ encrypted: true, authorized: false }), on({})]).toEqual([
      ...[true, false, false],
    ]);
  });

  test('the rule follows the address, the list and the mode', () => {
    expect(hostRule('0.0.0.0', [], 'development')).toBe('any');
    expect(hostRule('127.0.0.1', [], 'production')).toBe('any');
    expect(hostRule('0.0.0.0', ['A.example:443'], 'production')).toEqual(new Set(['a.example']));
    expect(hostRule('[::1]', [], 'development')).toEqual(new Set(['localhost', '127.0.0.1', '[::1]']));
    expect(() => hostRule('127.0.0.1', ['a/b'], 'development')).toThrow(RangeError);
  });

  test('an origin on the asked host itself is no foreign one', () => {
    const rule = { origins: new Set<string>(), local: false };
    expect(originAllowed('https://gate.example:8443', 'gate.example', rule)).toBe(true);
    expect(originAllowed('https://gate.example.evil', 'gate.example', rule)).toBe(false);
    expect(originAllowed('http://localhost', 'gate.example', rule)).toBe(false);
  });
});

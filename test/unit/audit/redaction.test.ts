import { createHash } from 'node:crypto';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { createRedactor } from '../../../src/audit/redaction.ts';
import { isSensitiveName, scrubText } from '../../../src/core/redaction.ts';
import { Secret } from '../../../src/core/secret.ts';
import { verifies } from '../../helpers/verifies.ts';

const redact = createRedactor({ names: ['national-id'], maxValueBytes: 64 });
const plain = (value: unknown, extra: readonly string[] = []) =>
  JSON.parse(JSON.stringify(redact(value, extra))) as unknown;

/** Assembled here so that no scanner takes this file for a leak. */
const LOOKS = {
  bearer: `Bearer ${'abcdefgh'.repeat(3)}`,
  basic: `Basic ${'QWxhZGRpbjpvcGVu'.repeat(2)}`,
  jwt: ['eyJhbGciOiJIUzI1NiJ9', 'eyJzdWIiOiJ4In0', 'c2lnbmF0dXJl'].join('.'),
  cutJwt: 'eyJhbGciOiJIUzI1NiJ9',
  ourKey: `pc_live_${'a1B2c3D4'.repeat(4)}`,
  ownPrefix: `acme_gate_live_${'a1B2c3D4'.repeat(2)}_${'a1B2c3D4'.repeat(4)}`,
  vllm: `vllm_dev_${'a1B2c3D4'.repeat(3)}`,
  openai: `sk-proj-${'a1B2c3D4'.repeat(4)}`,
  github: `ghp_${'a1B2c3D4'.repeat(4)}`,
  slack: `xoxb-${'1234567890'.repeat(2)}`,
  aws: `AKIA${'ABCDEFGH'.repeat(2)}`,
  pem: `-----BEGIN ${'PRIVATE'} KEY-----\nMIIE\n-----END ${'PRIVATE'} KEY-----`,
  cutPem: `-----BEGIN RSA ${'PRIVATE'} KEY-----\nMIIEowIBAAKCAQEA`,
};

describe('names', () => {
  test.each([
    'password',
    'Password',
    'PASSWORD',
    'db_password',
    'userPassword',
    'passwd',
    'secret',
    'client-secret',
    'token',
    'accessToken',
    'refresh_token',
    'api_key',
    'apiKey',
    'X-API-Key',
    'Authorization',
    'proxy_authorization',
    'credential',
    'credentials',
    'private_key',
    'PRIVATE-KEY',
    'cookie',
    'Set-Cookie',
    'pwd',
    'pin',
    'cvv',
    'jwt',
  ])('%s is sensitive', (name) => {
    expect(isSensitiveName(name)).toBe(true);
  });

  test.each([
    'query',
    'max_tokens',
    'maxTokens',
    'prompt_tokens',
    'key',
    'keyboard',
    'passenger',
    'author',
    'token_id',
    'pins',
    'path',
  ])('%s is not', (name) => {
    expect(isSensitiveName(name)).toBe(false);
  });
});

describe('redaction of audited values', () => {
  test('replaces values under sensitive names at every depth, whatever their type', () => {
    verifies('SF-66');
    const value = { a: [{ Password: 'x' }, { b: { api_key: { id: 1 } } }], token: 12, secret: null, ok: 'yes' };
    expect(plain(value)).toEqual({
      a: [{ Password: '[redacted]' }, { b: { api_key: '[redacted]' } }],
      token: '[redacted]',
      secret: null,
      ok: 'yes',
    });
  });

  test('knows the deployment’s names and those the tool declares, in any spelling', () => {
    expect(plain({ nationalId: 'a', IBAN: 'b', iban_2: 'c' }, ['iban'])).toEqual({
      nationalId: '[redacted]',
      IBAN: '[redacted]',
      iban_2: 'c',
    });
  });

  test.each(Object.entries(LOOKS))('takes out what looks like a secret: %s', (_name, secret) => {
    expect(scrubText(`before ${secret} after`)).not.toContain(secret.slice(-8));
    expect(JSON.stringify(plain({ note: `x ${secret}` }))).not.toContain(secret.slice(4, 20));
  });

  test('takes the password out of a URL and leaves the rest', () => {
    expect(scrubText('postgres://app:hunter2@db:5432/x?y=1')).toBe('postgres://[redacted]@db:5432/x?y=1');
    expect(scrubText('https://example.com:8080/a@b')).toBe('https://example.com:8080/a@b');
  });

  test('leaves ordinary texts alone', () => {
    for (const text of [
      'SELECT * FROM users WHERE id = 7',
      'the bearer of good news',
      'a basic idea',
      'snake_case_name',
      'sk-ip',
      'https://example.com/a',
    ]) {
      expect(scrubText(text)).toBe(text);
    }
  });

  test('cuts long texts and keeps length and digest of the original', () => {
    const text = 'x'.repeat(1000);
    const digest = createHash('sha256').update(text).digest('hex');
    expect(plain({ text })).toEqual({ text: `${'x'.repeat(64)}…[truncated, 1000 bytes, sha256:${digest}]` });
  });

  test('a secret that a cut goes through is still taken out', () => {
    const value = { text: `${'x'.repeat(40)} ${LOOKS.jwt}${'A'.repeat(200)}` };
    expect(JSON.stringify(plain(value))).not.toContain('eyJhbGci');
  });

  test('a secret used as a name is taken out as well', () => {
    expect(JSON.stringify(plain({ [LOOKS.ourKey]: 1 }))).not.toContain('a1B2c3D4');
  });

  test('wrapped secrets never show', () => {
    expect(plain({ a: new Secret('hunter2') })).toEqual({ a: '[redacted]' });
  });

  test('returns the very same value when nothing has to change', () => {
    const value = Object.freeze({ query: 'SELECT 1', list: [1, 'a', { b: null }], deep: { er: true } });
    expect(redact(value, [])).toBe(value);
  });

  test('never changes what it was given', () => {
    const value = { password: 'x', list: ['y'.repeat(100)] };
    const before = JSON.stringify(value);
    redact(value, []);
    expect(JSON.stringify(value)).toBe(before);
  });

  test('is bounded in depth and width', () => {
    let deep: unknown = 'end';
    for (let i = 0; i < 1000; i++) deep = { a: deep };
    expect(JSON.stringify(redact(deep, [])).length).toBeLessThan(1000);
    const wide = Object.fromEntries(Array.from({ length: 5000 }, (_, i) => [`k${i}`, i]));
    expect(Object.keys(redact(wide, []) as object).length).toBeLessThanOrEqual(2001);
    expect(
      (
        redact(
          Array.from({ length: 5000 }, () => 0),
          [],
        ) as unknown[]
      ).length,
    ).toBe(2000);
  });

  test('every JSON value comes out as JSON, without any value of a sensitive name', () => {
    fc.assert(
      fc.property(fc.jsonValue(), fc.stringMatching(/^[a-z]{12,20}$/), (value, marker) => {
        const text = JSON.stringify(redact({ value, inner: [{ password: marker }] }, []));
        expect(text).not.toContain(marker);
        JSON.parse(text);
      }),
      { numRuns: 300 },
    );
  });

  test('time grows with the length of a hostile text, not with its square', () => {
    const long = createRedactor({ names: [], maxValueBytes: 1_000_000 });
    const hostile = ['eyJ', 'eyJaaaaaaaa-', '://a:', 'Bearer ', '-----BEGIN PRIVATE KEY-----', 'sk-', 'pc_live_', '_'];
    const work = (size: number) => {
      const started = process.cpuUsage();
      for (const piece of hostile) long({ text: piece.repeat(Math.ceil(size / piece.length)) }, []);
      const { user, system } = process.cpuUsage(started);
      return user + system;
    };
    work(50_000);
    // Sixteen times the length: quadratic work would be 256 times the time. Wide margins, because machines are busy.
    expect(work(800_000)).toBeLessThan(100 * Math.max(work(50_000), 2000));
  });
});

describe('queries', () => {
  test.each([
    '?api_key=hunter2',
    '?a=1&password=hunter2&b=2',
    '/x?access_token=hunter2#y',
    'GET https://h.example/?X-Amz-Signature=hunter2 failed',
    '?Key=hunter2',
    '?filter%5Btoken%5D=hunter2',
  ])('%s keeps the name of the parameter and not its value', (text) => {
    expect(scrubText(text)).toBe(text.replace('hunter2', '[redacted]'));
  });

  test.each(['?page=12345&monkey=abcdefg', 'SELECT a FROM b WHERE c = ? AND d=1', 'really?well=known'])(
    '%s holds nothing secret',
    (text) => expect(scrubText(text)).toBe(text),
  );

  test('a text made to be slow is scrubbed in linear time', () => {
    const took = (n: number) => {
      const text = `?${'token.'.repeat(n)}=`.repeat(20);
      const began = performance.now();
      scrubText(text);
      return performance.now() - began;
    };
    took(1000);
    expect(took(10_000)).toBeLessThan(200);
  });
});

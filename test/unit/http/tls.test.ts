import { execFileSync } from 'node:child_process';
import { copyFileSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { request } from 'node:https';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { TLSSocket } from 'node:tls';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { readTls, reloadTls } from '../../../src/http/tls.ts';
import { openDoor, silent } from './open-door.ts';

const dir = mkdtempSync(join(tmpdir(), 'portcullis-tls-'));
const at = (name: string): string => join(dir, name);

function openssl(...args: string[]): void {
  execFileSync('openssl', args, { cwd: dir, stdio: 'ignore' });
}

function makeCa(name: string): void {
  openssl(
    'req',
    '-x509',
    '-newkey',
    'ec',
    '-pkeyopt',
    'ec_paramgen_curve:P-256',
    '-nodes',
    '-days',
    '2',
    '-subj',
    `/CN=${name}`,
    '-keyout',
    `${name}.key`,
    '-out',
    `${name}.crt`,
  );
}

function issue(name: string, ca: string): void {
  openssl(
    'req',
    '-new',
    '-newkey',
    'ec',
    '-pkeyopt',
    'ec_paramgen_curve:P-256',
    '-nodes',
    '-subj',
    `/CN=${name}`,
    '-keyout',
    `${name}.key`,
    '-out',
    `${name}.csr`,
  );
  writeFileSync(at('ext'), 'subjectAltName=DNS:localhost,IP:127.0.0.1');
  openssl(
    'x509',
    '-req',
    '-in',
    `${name}.csr`,
    '-CA',
    `${ca}.crt`,
    '-CAkey',
    `${ca}.key`,
    '-CAcreateserial',
    '-days',
    '2',
    '-extfile',
    'ext',
    '-out',
    `${name}.crt`,
  );
}

function has(command: string): boolean {
  try {
    execFileSync(command, ['version'], { stdio: 'ignore' });
    return true;
  } catch {
    return false;
  }
}

// Debian package: openssl
const available = process.env.CI === 'true' || has('openssl');

interface Answer {
  readonly status: number;
  readonly subject: string;
}

function ask(port: number, client?: string): Promise<Answer> {
  const { promise, resolve, reject } = Promise.withResolvers<Answer>();
  const keys =
    client === undefined ? {} : { cert: readFileSync(at(`${client}.crt`)), key: readFileSync(at(`${client}.key`)) };
  const call = request(
    { host: '127.0.0.1', port, path: '/a', ca: readFileSync(at('ca.crt')), agent: false, ...keys },
    (answer) => {
      const { subject } = (answer.socket as TLSSocket).getPeerCertificate();
      answer.resume();
      answer.on('end', () => resolve({ status: answer.statusCode ?? 0, subject: String(subject.CN) }));
    },
  );
  call.on('error', reject);
  call.end();
  return promise;
}

describe.skipIf(!available)('a TLS listener (Debian package: openssl)', () => {
  beforeAll(() => {
    makeCa('ca');
    makeCa('other');
    issue('one', 'ca');
    issue('two', 'ca');
    issue('client', 'ca');
    issue('stranger', 'other');
    for (const kind of ['crt', 'key']) copyFileSync(at(`one.${kind}`), at(`live.${kind}`));
  });
  afterAll(() => rmSync(dir, { recursive: true }));

  const files = { cert: at('live.crt'), key: at('live.key') };

  test('serves, and knows that the client connection is encrypted', async () => {
    await using opened = await openDoor({ tls: files });
    expect(await ask(opened.port)).toEqual({ status: 200, subject: 'one' });
    expect(opened.seen[0]?.peer.encrypted).toBe(true);
    expect(await opened.door.drain(5000, 0)).toEqual({ drained: true });
  });

  test('takes a client without a certificate, or with one of the authority, and no other', async () => {
    await using opened = await openDoor({ tls: { ...files, client_ca: at('ca.crt') } });
    expect((await ask(opened.port)).status).toBe(200);
    expect((await ask(opened.port, 'client')).status).toBe(200);
    expect((opened.seen[1]?.incoming.socket as TLSSocket | undefined)?.authorized).toBe(true);
    await expect(ask(opened.port, 'stranger')).rejects.toThrow();
    expect(opened.seen).toHaveLength(2);
  });

  test('swaps the certificate, and keeps the old one when the new files are not usable', () => {
    const swapped: unknown[] = [];
    const server = { setSecureContext: (options: unknown) => void swapped.push(options) };
    expect(reloadTls(server, files, silent)).toBe(true);
    expect(reloadTls(server, { ...files, key: at('two.key') }, silent)).toBe(false);
    expect(reloadTls(server, { ...files, cert: at('missing.crt') }, silent)).toBe(false);
    expect(swapped).toHaveLength(1);
    expect(() => readTls({ ...files, key: at('two.key') })).toThrow();
  });

  test('serves the new certificate once the files changed', async () => {
    const { promise, resolve } = Promise.withResolvers<boolean>();
    await using opened = await openDoor({ tls: files, onTlsReload: (ok) => ok && resolve(ok) });
    expect((await ask(opened.port)).subject).toBe('one');
    for (const kind of ['crt', 'key']) copyFileSync(at(`two.${kind}`), at(`live.${kind}`));
    await promise;
    expect((await ask(opened.port)).subject).toBe('two');
  });
});

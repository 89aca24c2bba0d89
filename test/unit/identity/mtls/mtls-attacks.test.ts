/** Every certificate and header of the corpus, the certificates made here by real authorities. */
import { hash } from 'node:crypto';
import { readFileSync, writeFileSync } from 'node:fs';
import type { IncomingMessage } from 'node:http';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { certificateCredential } from '../../../../src/identity/client-certificate.ts';
import { mtlsSchema } from '../../../../src/identity/mtls-options.ts';
import type { AuthResult } from '../../../../src/identity/provider.ts';
import { mtls } from '../../../../src/identity/providers/mtls.ts';
import { countAttacks } from '../../../helpers/attacks.ts';
import {
  type Authority,
  type CertificateWish,
  createAuthority,
  extension,
  type Issued,
  selfSigned,
} from '../../../helpers/certificates.ts';
import { ROOT, temporaryDirectory } from '../../../helpers/processes.ts';
import { verifies } from '../../../helpers/verifies.ts';
import { NEVER, setting } from '../setting.ts';

interface Written extends Omit<CertificateWish, 'extensions'> {
  readonly from?: number;
  readonly to?: number;
  readonly extensions?: readonly { readonly oid: string; readonly critical: boolean; readonly hex: string }[];
}

interface Shared {
  readonly title: string;
  readonly expect: 'authenticated' | 'invalid' | 'expired' | 'forbidden' | 'not-applicable' | 'missing';
  readonly detail?: string;
  readonly principal?: Record<string, unknown>;
  readonly options?: Record<string, unknown>;
}

interface CertificateCase extends Shared {
  readonly certificate: Written;
  readonly issuer?: string;
  readonly chain?: boolean;
  readonly crl?: boolean;
}

interface HeaderCase extends Shared {
  readonly headers: Record<string, string>;
  readonly peer?: string;
  readonly encrypted?: boolean;
  readonly bundle?: 'intermediate';
}

const read = <T>(name: string) =>
  (JSON.parse(readFileSync(join(ROOT, 'test/corpus/mtls', name), 'utf8')) as { cases: T[] }).cases;
const certificates = read<CertificateCase>('certificates.json');
const headers = read<HeaderCase>('headers.json');

const DAY_MS = 86_400_000;
const files = temporaryDirectory('portcullis-mtls-');
const at = (name: string) => join(files.path, name);
const issuers = new Map<string, Authority>();

function wishOf({ from, to, extensions, ...rest }: Written): CertificateWish {
  const day = (days: number) => new Date(Date.now() + days * DAY_MS);
  return {
    ...rest,
    ...(from === undefined ? {} : { notBefore: day(from) }),
    ...(to === undefined ? {} : { notAfter: day(to) }),
    ...(extensions === undefined
      ? {}
      : {
          extensions: extensions.map(({ oid, critical, hex }) => extension(oid, critical, Buffer.from(hex, 'hex'))),
        }),
  };
}

function authority(name = 'root'): Authority {
  const found = issuers.get(name);
  if (found === undefined) throw new Error(`no authority ${name}`);
  return found;
}

interface Shown {
  readonly headers: Record<string, string>;
  readonly peer?: string | undefined;
  readonly encrypted?: boolean | undefined;
}

async function ask(options: Record<string, unknown>, shown: Shown): Promise<AuthResult | 'missing'> {
  await using around = await setting({ clock: { now: () => Date.now() } });
  const parsed = mtlsSchema.parse({
    kind: 'mtls',
    ca: at('root.pem'),
    proxies: ['127.0.0.1', '10.0.0.0/29'],
    ...options,
  });
  const provider = await mtls.create(parsed, around.env);
  const socket = { remoteAddress: shown.peer ?? '127.0.0.1', ...(shown.encrypted === true ? { encrypted: true } : {}) };
  const facts = around.facts({ now: Date.now(), incoming: { socket } as unknown as IncomingMessage });
  const credential = certificateCredential(shown.headers, facts);
  return credential === null ? 'missing' : provider.authenticate(credential, facts, NEVER);
}

function compare(result: AuthResult | 'missing', one: Shared): void {
  if (one.expect === 'missing' || result === 'missing') expect(result).toBe(one.expect);
  else if (one.expect === 'not-applicable') expect(result).toEqual({ kind: 'not-applicable' });
  else if (one.expect === 'authenticated') {
    expect(result).toMatchObject({ kind: 'authenticated', principal: one.principal ?? { id: 'alice' } });
  } else {
    expect(result).toMatchObject({ kind: 'rejected', reason: one.expect });
    expect(result).toHaveProperty('detail', expect.stringMatching(new RegExp(one.detail ?? '')));
  }
}

beforeAll(async () => {
  const root = await createAuthority('CN=Root,O=Acme');
  const stranger = await createAuthority('CN=Stranger');
  const client = await root.issue({ subject: 'CN=A client' });
  const limited = await root.authority('CN=No further', { pathLength: 0 });
  const constraint = extension('2.5.29.30', true, Buffer.from('300ea00c300a820861636d652e6f7267', 'hex'));
  const expired = { notBefore: new Date(Date.now() - 9 * DAY_MS), notAfter: new Date(Date.now() - DAY_MS) };
  for (const [name, made] of [
    ['root', root],
    ['stranger', stranger],
    ['impostor', await createAuthority('CN=Root,O=Acme')],
    ['intermediate', await root.authority('CN=Issuing')],
    ['client', await client.asIssuer()],
    ['too-deep', await limited.authority('CN=Too deep')],
    ['servers-only', await root.authority('CN=Servers', { usages: ['1.3.6.1.5.5.7.3.1'] })],
    ['constrained', await root.authority('CN=Constrained', { extensions: [constraint] })],
    ['expired', await root.authority('CN=Expired', expired)],
  ] as const) {
    issuers.set(name, made);
  }
  issuers.set('limited', limited);
  writeFileSync(at('root.pem'), root.cert);
  writeFileSync(at('intermediate.pem'), `${root.cert}${authority('intermediate').cert}`);
  writeFileSync(at('revoked.pem'), await root.crl(['0bad', '0c0c']));
});

afterAll(() => {
  files[Symbol.dispose]();
});

async function issue(one: CertificateCase): Promise<Issued> {
  const wish = wishOf(one.certificate);
  return one.issuer === 'self' ? selfSigned('CN=alice,O=Acme', wish) : authority(one.issuer).issue(wish);
}

const attacks = [...certificates, ...headers].filter((one) => one.expect !== 'authenticated').length;
countAttacks('mTLS and certificate headers', attacks);

describe('certificates', () => {
  test.each(certificates.map((one) => [one.title, one] as const))('%s', async (_title, one) => {
    verifies('S-73', 'S-74', 'SF-57', 'SF-58');
    const made = await issue(one);
    const above = one.issuer === 'too-deep' ? ['too-deep', 'limited'] : [one.issuer ?? 'root'];
    const chain = (one.chain === true ? above : [])
      .map((name) => `:${authority(name).der.toString('base64')}:`)
      .join(', ');
    const shown: Record<string, string> = { 'client-cert': `:${made.der.toString('base64')}:` };
    if (one.chain === true) shown['client-cert-chain'] = chain;
    const options = { ...one.options, ...(one.crl === true ? { crl: at('revoked.pem') } : {}) };
    compare(await ask(options, { headers: shown }), one);
  });
});

describe('headers', () => {
  test.each(headers.map((one) => [one.title, one] as const))('%s', async (_title, one) => {
    verifies('SF-57', 'HF-14');
    const issuing = authority('intermediate');
    const leaf = await issuing.issue({ subject: 'CN=alice,O=Acme' });
    const other = await issuing.issue({ subject: 'CN=mallory,O=Acme' });
    const words: Record<string, string> = {
      LEAF: leaf.der.toString('base64'),
      LEAFTAIL: Buffer.concat([leaf.der, Buffer.from([0])]).toString('base64'),
      CHAIN: issuing.der.toString('base64'),
      PEM: encodeURIComponent(leaf.cert),
      CHAINPEM: encodeURIComponent(`${leaf.cert}${issuing.cert}`),
      HASH: hash('sha256', leaf.der, 'hex'),
      OTHER: other.der.toString('base64'),
      OTHERPEM: encodeURIComponent(other.cert),
    };
    const filled = Object.entries(one.headers).map(([name, value]) => [
      name,
      value.replaceAll(/\{(\w+)\}/g, (whole, word: string) => words[word] ?? whole),
    ]);
    const options = { ...one.options, ...(one.bundle === undefined ? {} : { ca: at('intermediate.pem') }) };
    const shown = {
      headers: Object.fromEntries(filled) as Record<string, string>,
      peer: one.peer,
      encrypted: one.encrypted,
    };
    compare(await ask(options, shown), one);
  });
});

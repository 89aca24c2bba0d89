/** Certificate authorities of a test: real keys and certificates, made when they are needed and kept nowhere. */
import './reflect-metadata.ts';
import { webcrypto } from 'node:crypto';
import * as x509 from '@peculiar/x509';

x509.cryptoProvider.set(webcrypto as never);

const ALGORITHM = { name: 'ECDSA', namedCurve: 'P-256', hash: 'SHA-256' };
const DAY_MS = 86_400_000;

export const CLIENT_AUTH = '1.3.6.1.5.5.7.3.2';
export const SERVER_AUTH = '1.3.6.1.5.5.7.3.1';

/** What a certificate is to say; anything left out is as in a good one. */
export interface CertificateWish {
  /** RFC 4514, e.g. `CN=alice,O=Acme`; or the parts, when they hold what the text form cannot. */
  readonly subject?: x509.JsonName | string;
  readonly dns?: readonly string[];
  readonly email?: readonly string[];
  readonly ip?: readonly string[];
  readonly uri?: readonly string[];
  /** Extended key usages; empty: the extension is left out. */
  readonly usages?: readonly string[];
  readonly isAuthority?: boolean;
  /** Authorities that may stand below it. */
  readonly pathLength?: number;
  readonly notBefore?: Date;
  readonly notAfter?: Date;
  /** Hexadecimal. */
  readonly serial?: string;
  readonly extensions?: readonly x509.Extension[];
}

export interface Issued {
  readonly certificate: x509.X509Certificate;
  /** PEM. */
  readonly cert: string;
  /** PEM, PKCS #8. */
  readonly key: string;
  readonly der: Buffer;
  /** Lets it sign certificates, whether it may or not. */
  asIssuer(): Authority;
}

export interface Authority extends Issued {
  issue(wish?: CertificateWish): Promise<Issued>;
  /** An authority below this one. */
  authority(subject: string, wish?: CertificateWish): Promise<Authority>;
  /** PEM of a list of revoked serial numbers (hexadecimal). */
  crl(revoked: readonly string[], dates?: { readonly thisUpdate?: Date; readonly nextUpdate?: Date }): Promise<string>;
}

let serials = 1;

function names(wish: CertificateWish): x509.GeneralName[] {
  const of = (type: 'dns' | 'email' | 'ip' | 'url', values: readonly string[] = []) =>
    values.map((value) => new x509.GeneralName(type, value));
  return [...of('dns', wish.dns), ...of('email', wish.email), ...of('ip', wish.ip), ...of('url', wish.uri)];
}

function extensionsFor(wish: CertificateWish): x509.Extension[] {
  const alternatives = names(wish);
  const usages = wish.usages ?? (wish.isAuthority === true ? [] : [CLIENT_AUTH]);
  const isAuthority = wish.isAuthority === true;
  return [
    new x509.BasicConstraintsExtension(isAuthority, wish.pathLength, true),
    new x509.KeyUsagesExtension(
      isAuthority
        ? x509.KeyUsageFlags.keyCertSign | x509.KeyUsageFlags.cRLSign
        : x509.KeyUsageFlags.digitalSignature | x509.KeyUsageFlags.keyAgreement,
      true,
    ),
    ...(usages.length === 0 ? [] : [new x509.ExtendedKeyUsageExtension([...usages])]),
    ...(alternatives.length === 0 ? [] : [new x509.SubjectAlternativeNameExtension(alternatives)]),
    ...(wish.extensions ?? []),
  ];
}

async function build(
  subject: x509.JsonName | string,
  wish: CertificateWish,
  issuer: { readonly name: string; readonly key: webcrypto.CryptoKey } | null,
): Promise<{ readonly issued: Issued; readonly keys: webcrypto.CryptoKeyPair }> {
  const keys = (await webcrypto.subtle.generateKey(ALGORITHM, true, ['sign', 'verify'])) as webcrypto.CryptoKeyPair;
  const certificate = await x509.X509CertificateGenerator.create({
    serialNumber: wish.serial ?? (0x1000 + serials++).toString(16),
    subject,
    issuer: issuer?.name ?? subject,
    notBefore: wish.notBefore ?? new Date(Date.now() - DAY_MS),
    notAfter: wish.notAfter ?? new Date(Date.now() + DAY_MS),
    signingAlgorithm: ALGORITHM,
    publicKey: keys.publicKey,
    signingKey: issuer?.key ?? keys.privateKey,
    extensions: extensionsFor(wish),
  });
  const pkcs8 = Buffer.from(await webcrypto.subtle.exportKey('pkcs8', keys.privateKey)).toString('base64');
  const key = `-----BEGIN PRIVATE KEY-----\n${(pkcs8.match(/.{1,64}/g) ?? []).join('\n')}\n-----END PRIVATE KEY-----\n`;
  const issued: Issued = {
    certificate,
    cert: `${certificate.toString('pem')}\n`,
    key,
    der: Buffer.from(certificate.rawData),
    asIssuer: () => issuing(issued, keys),
  };
  return { issued, keys };
}

/** A new root, or one below `parent`. */
export async function createAuthority(
  subject = 'CN=Test Root',
  wish: CertificateWish = {},
  parent: { readonly name: string; readonly key: webcrypto.CryptoKey } | null = null,
): Promise<Authority> {
  const { issued, keys } = await build(subject, { ...wish, isAuthority: true }, parent);
  return issuing(issued, keys);
}

function issuing(issued: Issued, keys: webcrypto.CryptoKeyPair): Authority {
  const me = { name: issued.certificate.subject, key: keys.privateKey };
  return {
    ...issued,
    issue: async (leaf = {}) => (await build(leaf.subject ?? 'CN=alice,O=Acme', leaf, me)).issued,
    authority: (name, below) => createAuthority(name, below, me),
    async crl(revoked, dates = {}) {
      const crl = await x509.X509CrlGenerator.create({
        issuer: me.name,
        thisUpdate: dates.thisUpdate ?? new Date(Date.now() - DAY_MS),
        nextUpdate: dates.nextUpdate ?? new Date(Date.now() + DAY_MS),
        signingAlgorithm: ALGORITHM,
        signingKey: me.key,
        entries: revoked.map((serialNumber) => ({ serialNumber, revocationDate: new Date() })),
      });
      // The label that OpenSSL writes.
      return `${crl.toString('pem').replaceAll(' CRL-', ' X509 CRL-')}\n`;
    },
  };
}

/** A client's certificate that nobody vouches for but itself. */
export async function selfSigned(subject: string, wish: CertificateWish = {}): Promise<Issued> {
  return (await build(subject, wish, null)).issued;
}

/** An extension of these bytes. The package needs the reflection API of this file, so it is imported nowhere else. */
export function extension(oid: string, isCritical: boolean, value: Buffer): x509.Extension {
  return new x509.Extension(oid, isCritical, new Uint8Array(value));
}

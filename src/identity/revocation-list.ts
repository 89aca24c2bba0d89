/** Certificate revocation lists, checked before they are believed. Source: RFC 5280 5 and 6.3. */
import { verify, type X509Certificate } from 'node:crypto';
import {
  BIT_STRING,
  type DerElement,
  DerError,
  elementsOf,
  INTEGER,
  integerOf,
  OCTET_STRING,
  oidOf,
  readDer,
  SEQUENCE,
  timeOf,
} from './der.ts';

/** A list of one issuer. */
export interface RevocationList {
  /** DER of the issuer's name. */
  readonly issuer: Buffer;
  /** Epoch milliseconds. */
  readonly thisUpdate: number;
  /** Epoch milliseconds after which a newer one must exist. */
  readonly nextUpdate: number;
  /** Serial numbers, hexadecimal, upper case. */
  readonly revoked: ReadonlySet<string>;
  /** Whether this authority signed it. */
  isSignedBy(authority: X509Certificate): boolean;
}

/** Signature algorithms by object identifier; null: the key says which hash. */
const HASHES: ReadonlyMap<string, string | null> = new Map([
  ['1.2.840.10045.4.3.2', 'sha256'],
  ['1.2.840.10045.4.3.3', 'sha384'],
  ['1.2.840.10045.4.3.4', 'sha512'],
  ['1.2.840.113549.1.1.11', 'sha256'],
  ['1.2.840.113549.1.1.12', 'sha384'],
  ['1.2.840.113549.1.1.13', 'sha512'],
  ['1.3.101.112', null],
  ['1.3.101.113', null],
]);

/** Extensions of a list that change nothing about what it says: key identifier of the issuer, number. */
const HARMLESS = new Set(['2.5.29.35', '2.5.29.20']);

/** Reads one list in DER form. Throws DerError, also for partial and indirect lists, which do not say everything. */
export function readRevocationList(der: Buffer): RevocationList {
  const [tbs, algorithm, signature] = elementsOf(readDer(der, SEQUENCE));
  if (tbs === undefined || algorithm === undefined || signature?.tag !== BIT_STRING) throw new DerError('not a list');
  const parts = elementsOf(tbs);
  // The version is there from version 2 on, and only those have extensions.
  if (parts[0]?.tag === INTEGER) parts.shift();
  const [inner, issuer, thisUpdate, nextUpdate, ...rest] = parts;
  if (inner === undefined || issuer === undefined || thisUpdate === undefined || nextUpdate === undefined) {
    throw new DerError('not a list, or one without an end');
  }
  if (!inner.bytes.equals(algorithm.bytes)) throw new DerError('two signature algorithms');
  const id = oidOf(elementsOf(algorithm)[0] ?? algorithm);
  const hash = HASHES.get(id);
  if (hash === undefined) throw new DerError('a signature algorithm that is not taken');
  refuseUnknown(rest.find(({ tag }) => tag === 0xa0));
  const entries = rest.find(({ tag }) => tag === SEQUENCE);
  return {
    issuer: issuer.bytes,
    thisUpdate: timeOf(thisUpdate),
    nextUpdate: timeOf(nextUpdate),
    revoked: new Set(entries === undefined ? [] : elementsOf(entries).map(serialOf)),
    isSignedBy: (authority) => {
      // The first octet counts unused bits: none.
      if (signature.content[0] !== 0) return false;
      try {
        return verify(hash, tbs.bytes, authority.publicKey, signature.content.subarray(1));
      } catch {
        return false;
      }
    },
  };
}

function serialOf(entry: DerElement): string {
  const [serial, , extensions] = elementsOf(entry);
  if (serial === undefined) throw new DerError('an entry without a serial number');
  // 2.5.29.29 would say that the entry is of another issuer.
  if (extensions !== undefined) refuseCritical(extensions, new Set());
  return integerOf(serial);
}

function refuseUnknown(given: DerElement | undefined): void {
  if (given !== undefined) refuseCritical(readDer(given.content, SEQUENCE), HARMLESS);
}

function refuseCritical(extensions: DerElement, known: ReadonlySet<string>): void {
  for (const extension of elementsOf(extensions)) {
    const [id, second] = elementsOf(extension);
    if (id === undefined || second === undefined) throw new DerError('an extension that cannot be read');
    const isCritical = second.tag !== OCTET_STRING && second.content[0] === 0xff;
    if (isCritical && !known.has(oidOf(id)))
      throw new DerError('a list with a critical extension that is not understood');
  }
}

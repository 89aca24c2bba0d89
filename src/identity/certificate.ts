/** What a client certificate says, read from its bytes. Believed only after `certificate-trust.ts`. Source: RFC 5280 4. */
import { hash, X509Certificate } from 'node:crypto';
import {
  asciiOf,
  BOOLEAN,
  type DerElement,
  DerError,
  elementsOf,
  OCTET_STRING,
  oidOf,
  readDer,
  SEQUENCE,
  SET,
  textOf,
} from './der.ts';

/** The names of RFC 5280 4.2.1.6 that can name a caller. */
export interface AlternativeNames {
  readonly email: readonly string[];
  readonly dns: readonly string[];
  readonly uri: readonly string[];
  /** User principal names of Active Directory. */
  readonly upn: readonly string[];
}

export interface Extension {
  readonly isCritical: boolean;
  readonly value: Buffer;
}

/** A certificate taken apart. */
export interface Certificate {
  readonly x509: X509Certificate;
  readonly der: Buffer;
  /** base64url SHA-256 of the DER form: `x5t#S256` of RFC 8705. */
  readonly thumbprint: string;
  /** Subject attributes by dotted object identifier, in the order of the certificate. */
  readonly subject: ReadonlyMap<string, readonly string[]>;
  /** DER of the subject. */
  readonly subjectBytes: Buffer;
  readonly names: AlternativeNames;
  /** Extended key usages; null: the extension is absent. */
  readonly usages: readonly string[] | null;
  readonly extensions: ReadonlyMap<string, Extension>;
}

export const COMMON_NAME = '2.5.4.3';
export const ORGANIZATION = '2.5.4.10';
export const ORGANIZATIONAL_UNIT = '2.5.4.11';
export const EMAIL_ADDRESS = '1.2.840.113549.1.9.1';

const ALTERNATIVE_NAME = '2.5.29.17';
const EXTENDED_KEY_USAGE = '2.5.29.37';
const PRINCIPAL_NAME = '1.3.6.1.4.1.311.20.2.3';
const MAX_BYTES = 65_536;

/** Takes a certificate in DER form apart. Throws DerError for anything that is not exactly one. */
export function readCertificate(der: Buffer): Certificate {
  if (der.length > MAX_BYTES) throw new DerError('a certificate that is too large');
  let x509: X509Certificate;
  try {
    x509 = new X509Certificate(der);
  } catch {
    throw new DerError('not a certificate');
  }
  const [tbs] = elementsOf(readDer(der, SEQUENCE));
  if (tbs === undefined || tbs.tag !== SEQUENCE) throw new DerError('not a certificate');
  const parts = elementsOf(tbs);
  // [0] version, serial, algorithm, issuer, validity, subject; a version 1 certificate has no extensions and no [0].
  if (parts[0]?.tag !== 0xa0) throw new DerError('a certificate of an old version');
  const subject = parts[5];
  if (subject === undefined) throw new DerError('not a certificate');
  const extensions = readExtensions(parts.find(({ tag }) => tag === 0xa3));
  const usages = extensions.get(EXTENDED_KEY_USAGE);
  return {
    x509,
    der,
    thumbprint: hash('sha256', der, 'base64url'),
    subject: readName(subject),
    subjectBytes: subject.bytes,
    names: readNames(extensions.get(ALTERNATIVE_NAME)),
    usages: usages === undefined ? null : elementsOf(readDer(usages.value, SEQUENCE)).map(oidOf),
    extensions,
  };
}

function readExtensions(given: DerElement | undefined): Map<string, Extension> {
  const found = new Map<string, Extension>();
  if (given === undefined) return found;
  for (const extension of elementsOf(readDer(given.content, SEQUENCE))) {
    const [id, second, third] = elementsOf(extension);
    const value = second?.tag === BOOLEAN ? third : second;
    if (id === undefined || value?.tag !== OCTET_STRING) throw new DerError('an extension that cannot be read');
    const oid = oidOf(id);
    // RFC 5280 4.2: one of each. Of two, readers take either.
    if (found.has(oid)) throw new DerError('an extension that is given twice');
    found.set(oid, { isCritical: second?.tag === BOOLEAN && second.content[0] === 0xff, value: value.content });
  }
  return found;
}

/** Name ::= SEQUENCE OF SET OF { type, value }. */
function readName(name: DerElement): Map<string, string[]> {
  const found = new Map<string, string[]>();
  for (const set of elementsOf(name)) {
    if (set.tag !== SET) throw new DerError('a name that cannot be read');
    for (const pair of elementsOf(set)) {
      const [type, value] = elementsOf(pair);
      if (type === undefined || value === undefined) throw new DerError('a name that cannot be read');
      const oid = oidOf(type);
      found.set(oid, [...(found.get(oid) ?? []), textOf(value)]);
    }
  }
  return found;
}

function readNames(extension: Extension | undefined): AlternativeNames {
  const names = { email: [] as string[], dns: [] as string[], uri: [] as string[], upn: [] as string[] };
  if (extension === undefined) return names;
  for (const name of elementsOf(readDer(extension.value, SEQUENCE))) {
    if (name.tag === 0x81) names.email.push(ia5(name));
    else if (name.tag === 0x82) names.dns.push(ia5(name));
    else if (name.tag === 0x86) names.uri.push(ia5(name));
    else if (name.tag === 0xa0) {
      const [type, value] = elementsOf(name);
      if (type === undefined || value === undefined) throw new DerError('a name that cannot be read');
      if (oidOf(type) === PRINCIPAL_NAME) names.upn.push(textOf(readDer(value.content)));
    }
  }
  return names;
}

const IA5_STRING = 0x16;

function ia5({ content, bytes }: DerElement): string {
  asciiOf(content);
  return textOf({ tag: IA5_STRING, content, bytes });
}

const MAX_WORDS = 100;

/**
 * The words of an extension of one's own: one UTF8String, a SEQUENCE of them, or a UTF8String with a JSON list of texts.
 * Throws DerError for anything else.
 */
export function wordsOf({ value }: Extension): string[] {
  const element = readDer(value);
  const words = element.tag === SEQUENCE ? elementsOf(element).map(textOf) : oneOrList(textOf(element));
  if (words.length > MAX_WORDS || words.some((word) => word.trim() === '' || word.length > 256)) {
    throw new DerError('words that are empty, too long or too many');
  }
  return words;
}

function oneOrList(text: string): string[] {
  if (!text.startsWith('[') && !text.startsWith('{') && !text.startsWith('"')) return [text];
  let list: unknown;
  try {
    list = JSON.parse(text);
  } catch {
    throw new DerError('words that are not JSON');
  }
  if (!Array.isArray(list) || !list.every((word) => typeof word === 'string'))
    throw new DerError('not a list of texts');
  return list;
}

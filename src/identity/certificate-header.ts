/**
 * Client certificates that a proxy in front puts into a header. A proxy that does not set the header itself would let
 * clients write it, so who is believed is configured, and each form is read strictly. Source: RFC 9440, RFC 8941 3.3.5,
 * Envoy's `x-forwarded-client-cert`.
 */
import { hash } from 'node:crypto';
import { readPem } from './certificate-trust.ts';
import { DerError } from './der.ts';

export const HEADER_FORMS = ['client-cert', 'x-forwarded-client-cert', 'x-ssl-client-cert'] as const;
/** The name of the header says its form. */
export type HeaderForm = (typeof HEADER_FORMS)[number];

const MAX_CHAIN = 8;

/** DER of the client's certificate and of what came along, leaf first; null when the header is absent. Throws DerError. */
export function readHeader(headers: Readonly<Record<string, string>>, form: HeaderForm): readonly Buffer[] | null {
  const value = headers[form];
  if (value === undefined) return null;
  const chain =
    form === 'client-cert'
      ? [byteSequence(value), ...list(headers['client-cert-chain'])]
      : form === 'x-ssl-client-cert'
        ? [single(urlDecoded(value))]
        : forwarded(value);
  if (chain.length > MAX_CHAIN) throw new DerError('a chain that is too long');
  return chain;
}

function list(value: string | undefined): Buffer[] {
  return value === undefined ? [] : value.split(',').map((item) => byteSequence(item));
}

/** `:BASE64:` without parameters. */
function byteSequence(item: string): Buffer {
  const text = /^[ \t]*:([A-Za-z0-9+/]+={0,2}):[ \t]*$/.exec(item)?.[1];
  const bytes = Buffer.from(text ?? '', 'base64');
  if (text === undefined || bytes.toString('base64') !== text) throw new DerError('not a byte sequence');
  return bytes;
}

/** Only canonical escapes of PEM: a certificate has one spelling. */
function urlDecoded(value: string): string {
  try {
    return decodeURIComponent(value);
  } catch {
    throw new DerError('escapes that cannot be read');
  }
}

function single(pem: string): Buffer {
  const [one, more] = readPem(pem, 'CERTIFICATE');
  const rest = pem.replace(/-----BEGIN CERTIFICATE-----[^-]*-----END CERTIFICATE-----/, '');
  if (one === undefined || more !== undefined || rest.trim() !== '') throw new DerError('not one certificate');
  return one;
}

/**
 * The last element: what stands before it came from whoever called the proxy. `Cert` is needed, for the other members
 * only tell what the proxy made of it; `Hash` must fit when it is there.
 */
function forwarded(value: string): Buffer[] {
  const element = lastElement(value);
  const cert = element.get('cert');
  if (cert === undefined) throw new DerError('an element without the certificate');
  const leaf = single(urlDecoded(cert));
  const digest = element.get('hash');
  if (digest !== undefined && digest.toLowerCase() !== hash('sha256', leaf, 'hex')) {
    throw new DerError('a hash of another certificate');
  }
  const chain = element.get('chain');
  const others = chain === undefined ? [] : readPem(urlDecoded(chain), 'CERTIFICATE');
  return [leaf, ...others.filter((der) => !der.equals(leaf))];
}

/** `key=value` pairs between `;`, elements between `,`; values may be quoted, with `\"` for a quotation mark. */
function lastElement(value: string): Map<string, string> {
  let pairs = new Map<string, string>();
  let at = 0;
  for (;;) {
    const pair = /\s*([A-Za-z]+)=(?:"((?:[^"\\]|\\["\\])*)"|([^",;\\\s]*))\s*([;,]|$)/y;
    pair.lastIndex = at;
    const match = pair.exec(value);
    if (match === null) throw new DerError('an element that cannot be read');
    const [whole, key = '', quoted, plain = '', end] = match;
    const name = key.toLowerCase();
    // Names of a certificate may be several; the certificate itself is one.
    if (pairs.has(name) && ['cert', 'chain', 'hash'].includes(name)) throw new DerError('a member that is given twice');
    pairs.set(name, quoted === undefined ? plain : quoted.replaceAll(/\\(["\\])/g, '$1'));
    at += whole.length;
    if (end === ',') pairs = new Map();
    else if (end === '') return pairs;
  }
}

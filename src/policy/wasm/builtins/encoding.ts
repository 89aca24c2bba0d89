/** Digests, encodings, URLs, UUIDs. Source: OPA policy reference. */
import { createHash, createHmac, randomUUID, timingSafeEqual } from 'node:crypto';
import { drawnBy } from '../imports.ts';
import { compareText, type Rego } from '../values.ts';
import { asItems, asObject, asText, changing, fromBigInt, Mismatch, pure } from './support.ts';

function digest(algorithm: string) {
  return ([text]: readonly Rego[]): Rego => createHash(algorithm).update(asText(text)).digest('hex');
}

function hmac(algorithm: string) {
  return ([text, key]: readonly Rego[]): Rego => createHmac(algorithm, asText(key)).update(asText(text)).digest('hex');
}

/** Go's url.QueryEscape: everything but letters, digits and `-_.~` is escaped, a space is `+`. */
export function queryEscape(text: string): string {
  return encodeURIComponent(text)
    .replace(/[!'()*]/g, (char) => `%${char.charCodeAt(0).toString(16).toUpperCase()}`)
    .replaceAll('%20', '+');
}

function queryUnescape(text: string): string {
  if (/%(?![0-9A-Fa-f]{2})/.test(text)) throw new Mismatch('a broken escape');
  return decodeURIComponent(text.replaceAll('+', ' '));
}

function encodeObject(value: Rego | undefined): Rego {
  const pairs: string[] = [];
  const entries = [...asObject(value)].map(([key, item]) => [asText(key), item] as const);
  for (const [key, item] of entries.sort((a, b) => compareText(a[0], b[0]))) {
    const items = typeof item === 'string' ? [item] : asItems(item).map(asText);
    for (const one of items) pairs.push(`${queryEscape(key)}=${queryEscape(one)}`);
  }
  return pairs.join('&');
}

function decodeObject(text: string): Rego {
  const out = new Map<Rego, Rego[]>();
  for (const pair of text.split('&')) {
    if (pair === '') continue;
    if (pair.includes(';')) throw new Mismatch('semicolons separate nothing');
    const at = pair.indexOf('=');
    const key = queryUnescape(at < 0 ? pair : pair.slice(0, at));
    const list = out.get(key) ?? [];
    list.push(queryUnescape(at < 0 ? '' : pair.slice(at + 1)));
    out.set(key, list);
  }
  return out;
}

function decodeHex(text: string): string {
  if (!/^(?:[0-9a-fA-F]{2})*$/.test(text)) throw new Mismatch('not hexadecimal');
  return Buffer.from(text, 'hex').toString();
}

/** 100 ns steps from the start of the Gregorian calendar to that of the epoch. */
const GREGORIAN = 122_192_928_000_000_000n;

/** Fields of a UUID, RFC 9562. */
function parseUuid(text: string): Rego {
  // Of 38 characters only the 36 in the middle are looked at, whatever the other two are.
  const bare = text.length === 38 ? text.slice(1, -1) : text.length === 45 ? text.replace(/^urn:uuid:/i, '') : text;
  if (!/^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/i.test(bare) && !/^[0-9a-f]{32}$/i.test(bare)) {
    throw new Mismatch('not a UUID');
  }
  const bytes = Buffer.from(bare.replaceAll('-', ''), 'hex');
  const version = (bytes[6] ?? 0) >> 4;
  const out = new Map<Rego, Rego>([
    ['version', version],
    ['variant', variant(bytes[8] ?? 0)],
  ]);
  if (version !== 1 && version !== 2) return out;
  const node = bytes.subarray(10);
  out.set('nodeid', [...node].map((byte) => byte.toString(16).padStart(2, '0')).join('-'));
  out.set('macvariables', macVariables(node[0] ?? 0));
  const low = BigInt(bytes.readUInt32BE(0));
  const time = (BigInt(bytes.readUInt16BE(6) & 0x0fff) << 48n) | (BigInt(bytes.readUInt16BE(4)) << 32n) | low;
  out.set('time', fromBigInt((time - GREGORIAN) * 100n));
  out.set('clocksequence', bytes.readUInt16BE(8) & 0x3fff);
  if (version === 2) {
    out.set('id', bytes.readUInt32BE(0));
    out.set('domain', ['Person', 'Group', 'Org'][bytes[9] ?? 0] ?? `Domain${bytes[9]}`);
  }
  return out;
}

function variant(byte: number): string {
  if ((byte & 0xc0) === 0x80) return 'RFC4122';
  if ((byte & 0xe0) === 0xc0) return 'Microsoft';
  return (byte & 0xe0) === 0xe0 ? 'Future' : 'Reserved';
}

function macVariables(byte: number): string {
  const scope = (byte & 2) === 2 ? 'local' : 'global';
  return `${scope}:${(byte & 1) === 1 ? 'multicast' : 'unicast'}`;
}

const URI = /^(?:([A-Za-z][A-Za-z0-9+.-]*):)?(?:\/\/([^/?#]*))?([^?#]*)(?:\?([^#]*))?(?:#(.*))?$/;

/** User, host and port: the characters Go's URL parser lets through, escapes in the host only beyond ASCII. */
const AUTHORITY =
  /^(?:[A-Za-z0-9\-._:~!$&'()*+,;=%@]*@)?(\[[0-9A-Fa-f:.%A-Za-z]*\]|(?:[A-Za-z0-9\-._~!$&'()*+,;=\]<>"\u0080-\uffff]|%[89A-Fa-f][0-9A-Fa-f]|%25)*)(?::([0-9]*))?$/;

/** How Go itself would write a path: where that is what stands there, no raw form is kept. */
function escapePath(path: string): string {
  return encodeURIComponent(path)
    .replace(/[!'()*]/g, (char) => `%${char.charCodeAt(0).toString(16).toUpperCase()}`)
    .replace(/%(?:24|26|2B|2C|2F|3A|3B|3D|40)/g, decodeURIComponent);
}

/** RFC 3986 by its own grammar: nothing is mended, defaults are kept. */
function parseUri(text: string): Rego {
  const match = URI.exec(text);
  // biome-ignore lint/suspicious/noControlCharactersInRegex: control characters are what is refused
  if (match === null || /[\u0000-\u001f\u007f]/.test(text)) throw new Mismatch('not a URI');
  const [, scheme, authority, path = '', query, fragment] = match;
  if (scheme === undefined && /^[^/]*:/.test(path)) throw new Mismatch('a colon before the first slash');
  const host = AUTHORITY.exec(authority ?? '');
  if (host === null) throw new Mismatch('not a host');
  const plain = unescapePath(path);
  const opaque = scheme !== undefined && authority === undefined && !path.startsWith('/');
  const fields: readonly (readonly [string, string | undefined])[] = [
    ['scheme', scheme?.toLowerCase()],
    ['hostname', host[1]?.replace(/^\[(.*)\]$/, '$1')],
    ['port', host[2]],
    ['path', opaque ? '' : plain],
    ['raw_path', opaque ? '' : escapePath(plain) === path ? plain : path],
    ['raw_query', query],
    ['fragment', fragment === undefined ? undefined : unescapePath(fragment)],
  ];
  return new Map(fields.filter(([, value]) => value !== undefined && value !== '') as [string, string][]);
}

function unescapePath(text: string): string {
  if (/%(?![0-9A-Fa-f]{2})/.test(text)) throw new Mismatch('a broken escape');
  return decodeURIComponent(text);
}

export const ENCODING = [
  ...pure({
    'crypto.md5': digest('md5'),
    'crypto.sha1': digest('sha1'),
    'crypto.sha256': digest('sha256'),
    'crypto.hmac.md5': hmac('md5'),
    'crypto.hmac.sha1': hmac('sha1'),
    'crypto.hmac.sha256': hmac('sha256'),
    'crypto.hmac.sha512': hmac('sha512'),
    'crypto.hmac.equal': ([a, b]) => {
      const [x, y] = [Buffer.from(asText(a)), Buffer.from(asText(b))];
      return x.length === y.length && timingSafeEqual(x, y);
    },
    'hex.encode': ([text]) => Buffer.from(asText(text)).toString('hex'),
    'hex.decode': ([text]) => decodeHex(asText(text)),
    'base64url.encode_no_pad': ([text]) => Buffer.from(asText(text)).toString('base64url'),
    'urlquery.encode': ([text]) => queryEscape(asText(text)),
    'urlquery.decode': ([text]) => queryUnescape(asText(text)),
    'urlquery.encode_object': ([value]) => encodeObject(value),
    'urlquery.decode_object': ([text]) => decodeObject(asText(text)),
    'uri.parse': ([text]) => parseUri(asText(text)),
    'uri.is_valid': ([text]) => {
      try {
        return text !== '' && parseUri(asText(text)) !== null;
      } catch {
        return false;
      }
    },
    'uuid.parse': ([text]) => parseUuid(asText(text)),
  }),
  ...changing({
    'uuid.rfc4122': ([key], context) => {
      const name = drawnBy('uuid.rfc4122', [asText(key)]);
      const value = context.memo.get(name) ?? randomUUID();
      context.memo.set(name, value);
      return value;
    },
  }),
];

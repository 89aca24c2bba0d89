/**
 * Whom a certificate may come from: bundles of authorities and lists of what they took back, read again when the files
 * change. Source: RFC 5280 6, acceptance S-72, SF-57.
 */
import { X509Certificate } from 'node:crypto';
import { readFileSync, statSync } from 'node:fs';
import type { Logger } from '../core/module.ts';
import { type Certificate, readCertificate } from './certificate.ts';
import { DerError, elementsOf, integerOf, readDer, SEQUENCE } from './der.ts';
import { type RevocationList, readRevocationList } from './revocation-list.ts';

const CLIENT_AUTH = '1.3.6.1.5.5.7.3.2';
const ANY_USAGE = '2.5.29.37.0';
/** Certificates from the client's to the root. */
const MAX_PATH = 8;
/** Signatures checked for one certificate. */
const MAX_CHECKS = 64;
/** Milliseconds between two looks at the files. */
const LOOK_MS = 2000;

/** Extensions that are checked here or by `node:crypto`; another critical one is a condition nobody checked. */
const UNDERSTOOD = new Set(['2.5.29.15', '2.5.29.17', '2.5.29.19', '2.5.29.37', '2.5.29.14', '2.5.29.35']);

/** Why a certificate is not accepted. `unavailable`: it cannot be told. */
export type Verdict =
  | { readonly kind: 'good' /** Epoch milliseconds. */; readonly until: number }
  | { readonly kind: 'invalid' | 'expired' | 'unavailable'; readonly detail: string };

interface Anchors {
  readonly authorities: readonly X509Certificate[];
  readonly lists: readonly RevocationList[];
}

export interface TrustFiles {
  /** PEM bundles, absolute paths. */
  readonly ca: readonly string[];
  /** PEM revocation lists, absolute paths. */
  readonly crl: readonly string[];
}

const no = (detail: string): Verdict => ({ kind: 'invalid', detail });

export class Trust {
  readonly #files: TrustFiles;
  readonly #logger: Logger;
  /** Object identifiers that may be critical: they are read elsewhere. */
  readonly #known: ReadonlySet<string>;
  #anchors: Anchors;
  #stamp: string;
  #lookedAt = 0;
  #generation = 0;

  /** Throws with the file's name when one cannot be used: a mistake to be told at start. */
  constructor(files: TrustFiles, logger: Logger, known: readonly string[]) {
    this.#files = files;
    this.#logger = logger;
    this.#known = new Set([...UNDERSTOOD, ...known]);
    this.#stamp = stampOf(files);
    this.#anchors = load(files);
  }

  /**
   * Counts the changes of the files; what was found under another count is to be found again. A look every two seconds;
   * files that are not usable leave things as they were, so that half a write locks nobody out. `now` is epoch ms.
   */
  generation(now: number): number {
    if (Math.abs(now - this.#lookedAt) < LOOK_MS) return this.#generation;
    this.#lookedAt = now;
    const stamp = stampOf(this.#files);
    if (stamp === this.#stamp) return this.#generation;
    this.#stamp = stamp;
    try {
      this.#anchors = load(this.#files);
      this.#generation++;
      this.#logger.info({ files: this.#files.ca.length + this.#files.crl.length }, 'client authorities were reloaded');
    } catch (error) {
      this.#logger.error({ err: error }, 'the new client authorities are not usable; the old ones stay');
    }
    return this.#generation;
  }

  /** Whether anybody can be let in now. `now` is epoch milliseconds. */
  health(now: number): { readonly state: 'ok' | 'degraded'; readonly detail?: string } {
    this.generation(now);
    const late = this.#anchors.lists.filter(({ nextUpdate }) => nextUpdate <= now).length;
    return late === 0 ? { state: 'ok' } : { state: 'degraded', detail: `${late} revocation lists are out of date` };
  }

  /**
   * Judges a certificate that came with these others. `now` is epoch milliseconds.
   * @param checkedBy authorities against which TLS found it good; null: TLS said nothing
   */
  judge(
    leaf: Certificate,
    others: readonly X509Certificate[],
    now: number,
    checkedBy: ReadonlySet<string> | null = null,
  ): Verdict {
    const fault = this.#leafFault(leaf, now);
    if (fault !== null) return fault;
    const path = this.#path(leaf.x509, others, now);
    if (path === null) return this.#byTls(leaf, checkedBy);
    const revocation = this.#revocation([leaf.x509, ...path], now);
    if (typeof revocation !== 'number') return revocation;
    const ends = [leaf.x509, ...path].map(({ validToDate }) => validToDate.getTime());
    return { kind: 'good', until: Math.min(revocation, ...ends) };
  }

  /**
   * TLS saw what the client sent along, which Node does not show: where it trusted nobody but our own authorities, it found
   * the path, with purpose, dates and lengths. Who signed in between stays unknown, so no revocation list can be used.
   */
  #byTls({ x509 }: Certificate, checkedBy: ReadonlySet<string> | null): Verdict {
    const own = new Set(this.#anchors.authorities.map(({ fingerprint256 }) => fingerprint256));
    const isOurs = checkedBy !== null && checkedBy.size > 0 && [...checkedBy].every((one) => own.has(one));
    if (!isOurs) return no('no path to an authority that is trusted');
    if (this.#files.crl.length === 0) return { kind: 'good', until: x509.validToDate.getTime() };
    return no('an authority between is not in ca, so that revocation cannot be checked');
  }

  #leafFault({ x509, usages, extensions }: Certificate, now: number): Verdict | null {
    if (now >= x509.validToDate.getTime()) return { kind: 'expired', detail: 'the certificate has expired' };
    if (now < x509.validFromDate.getTime()) return no('the certificate is not valid yet');
    if (x509.ca) return no('a certificate of an authority, not of a client');
    if (usages === null || !(usages.includes(CLIENT_AUTH) || usages.includes(ANY_USAGE))) {
      return no('the certificate is not for clients');
    }
    for (const [oid, { isCritical }] of extensions) {
      if (isCritical && !this.#known.has(oid)) return no(`a critical extension that is not understood: ${oid}`);
    }
    return null;
  }

  /** The authorities up to a trusted root, nearest first. Self-signed ones of the bundle are roots, others only links. */
  #path(leaf: X509Certificate, others: readonly X509Certificate[], now: number): X509Certificate[] | null {
    const { authorities } = this.#anchors;
    const candidates = [...authorities, ...others.slice(0, MAX_PATH)];
    const isTrusted = (one: X509Certificate) => authorities.includes(one) && one.checkIssued(one);
    // A client chooses what it sends along: certificates that all vouch for each other must not keep us busy.
    let checks = MAX_CHECKS;
    const climb = (from: X509Certificate, path: X509Certificate[]): X509Certificate[] | null => {
      if (path.length >= MAX_PATH) return null;
      for (const issuer of candidates) {
        if (path.includes(issuer) || !from.checkIssued(issuer) || !isValidAt(issuer, now)) continue;
        if (path.length > (authorityOf(issuer)?.below ?? -1)) continue;
        if (checks-- <= 0 || !from.verify(issuer.publicKey)) continue;
        if (isTrusted(issuer)) return [...path, issuer];
        const whole = climb(issuer, [...path, issuer]);
        if (whole !== null) return whole;
      }
      return null;
    };
    return climb(leaf, []);
  }

  /** A refusal, or until when the lists can say that nothing was taken back (RFC 5280 5.1.2.5), epoch milliseconds. */
  #revocation(path: readonly X509Certificate[], now: number): Verdict | number {
    let until = Number.POSITIVE_INFINITY;
    if (this.#files.crl.length === 0) return until;
    for (const [at, certificate] of path.entries()) {
      const issuer = path[at + 1];
      if (issuer === undefined) return until;
      const name = authorityOf(issuer)?.name ?? Buffer.alloc(0);
      const lists = this.#anchors.lists.filter((list) => list.issuer.equals(name) && list.isSignedBy(issuer));
      const current = lists.filter(({ thisUpdate, nextUpdate }) => thisUpdate <= now && now < nextUpdate);
      const serial = certificate.serialNumber.toUpperCase().replace(/^(?:00)+(?=.)/, '');
      // What an old list took back stays taken back.
      if (lists.some(({ revoked }) => revoked.has(serial))) return no('the certificate was revoked');
      // Authorities above the first need no list; where there is one it must be current.
      if (current.length === 0 && (at === 0 || lists.length > 0)) {
        return { kind: 'unavailable', detail: 'no current revocation list of the issuer' };
      }
      if (current.length > 0) until = Math.min(until, Math.max(...current.map(({ nextUpdate }) => nextUpdate)));
    }
    return until;
  }
}

/** What makes a certificate able to vouch for others; null when it is not. */
interface Authority {
  /** How many authorities may stand below it (RFC 5280 4.2.1.9). */
  readonly below: number;
  /** DER of its name. */
  readonly name: Buffer;
}

const BASIC_CONSTRAINTS = '2.5.29.19';
const authorityFacts = new WeakMap<X509Certificate, Authority | null>();

function authorityOf(certificate: X509Certificate): Authority | null {
  const known = authorityFacts.get(certificate);
  if (known !== undefined) return known;
  let facts: Authority | null;
  try {
    facts = certificate.ca ? readAuthority(certificate) : null;
  } catch (error) {
    if (!(error instanceof DerError)) throw error;
    facts = null;
  }
  authorityFacts.set(certificate, facts);
  return facts;
}

/** Conditions that are not checked here, such as name constraints, make it unable: it would vouch for more than it may. */
function readAuthority({ raw }: X509Certificate): Authority | null {
  const { extensions, usages, subjectBytes } = readCertificate(raw);
  const isOpen = usages === null || usages.includes(CLIENT_AUTH) || usages.includes(ANY_USAGE);
  if (!isOpen || [...extensions].some(([oid, { isCritical }]) => isCritical && !UNDERSTOOD.has(oid))) return null;
  const constraints = extensions.get(BASIC_CONSTRAINTS);
  const length = constraints === undefined ? undefined : elementsOf(readDer(constraints.value, SEQUENCE))[1];
  return { below: length === undefined ? MAX_PATH : Number.parseInt(integerOf(length), 16), name: subjectBytes };
}

function isValidAt(certificate: X509Certificate, now: number): boolean {
  return certificate.validFromDate.getTime() <= now && now < certificate.validToDate.getTime();
}

/** What changes when a file is written or replaced. */
function stampOf({ ca, crl }: TrustFiles): string {
  return [...ca, ...crl]
    .map((path) => {
      const info = statSync(path, { throwIfNoEntry: false, bigint: true });
      return info === undefined ? 'gone' : `${info.ino}:${info.size}:${info.mtimeNs}`;
    })
    .join();
}

function load({ ca, crl }: TrustFiles): Anchors {
  const authorities = ca.flatMap((file) =>
    reading(file, 'CERTIFICATE').map((der) => {
      const certificate = new X509Certificate(der);
      if (authorityOf(certificate) === null)
        throw new Error(`${file}: holds a certificate that is no usable authority's`);
      return certificate;
    }),
  );
  const lists = crl.flatMap((file) =>
    reading(file, 'X509 CRL').map((der) => {
      try {
        return readRevocationList(der);
      } catch (error) {
        throw new Error(`${file}: ${error instanceof Error ? error.message : 'cannot be read'}`);
      }
    }),
  );
  return { authorities, lists };
}

function reading(file: string, label: 'CERTIFICATE' | 'X509 CRL'): Buffer[] {
  const found = readPem(readFileSync(file, 'utf8'), label);
  if (found.length === 0)
    throw new Error(`${file}: holds no ${label === 'CERTIFICATE' ? 'certificate' : 'revocation list'}`);
  return found;
}

/** DER of each block with this label. Throws DerError for a block that is not canonical base64. */
export function readPem(text: string, label: 'CERTIFICATE' | 'X509 CRL'): Buffer[] {
  const blocks = text.matchAll(new RegExp(`-----BEGIN ${label}-----([A-Za-z0-9+/=\\s]*)-----END ${label}-----`, 'g'));
  return [...blocks].map(([, body = '']) => {
    const base64 = body.replaceAll(/\s/g, '');
    const der = Buffer.from(base64, 'base64');
    if (der.toString('base64') !== base64) throw new DerError('a block that is not base64');
    return der;
  });
}

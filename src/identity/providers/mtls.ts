/**
 * Client certificates: of the TLS connection itself, or of one that ended at a proxy which is listed here. The path to an
 * authority, its dates, purpose and revocation are checked for both. Source: RFC 5280, RFC 8705, RFC 9440, acceptance
 * S-72 to S-75, SF-57, SF-58, HF-14.
 */
import { X509Certificate } from 'node:crypto';
import { type BlockList, isIP } from 'node:net';
import { resolve } from 'node:path';
import type { Module } from '../../core/module.ts';
import type { Principal } from '../../core/principal.ts';
import { readCertificate } from '../certificate.ts';
import { readHeader } from '../certificate-header.ts';
import { Trust } from '../certificate-trust.ts';
import { CredentialCache } from '../credential-cache.ts';
import { DerError } from '../der.ts';
import type { IdentityEnv } from '../env.ts';
import { addressList } from '../key-issuing.ts';
import { type Link, linkOf } from '../link.ts';
import { type MtlsOptions, mtlsSchema } from '../mtls-options.ts';
import { principalFromCertificate } from '../mtls-principal.ts';
import type { AuthResult, Credential, IdentityFacts, IdentityProvider, ProviderHealth } from '../provider.ts';

const NOT_APPLICABLE: AuthResult = Object.freeze({ kind: 'not-applicable' });
type Rejected = Extract<AuthResult, { kind: 'rejected' }>;
const invalid = (detail: string): Rejected => ({ kind: 'rejected', reason: 'invalid', detail });

/** What a request shows, and on which connection. */
interface Shown {
  readonly credential: Credential;
  readonly link: Link;
  readonly text: string;
}

/** `kind: mtls` */
export const mtls: Module<MtlsOptions, IdentityProvider, IdentityEnv> = {
  kind: 'mtls',
  schema: mtlsSchema,
  create: (options, env) => new MtlsProvider(options, env),
};

class MtlsProvider implements IdentityProvider {
  readonly takesCertificates = true;
  readonly asksFor = { challenge: null, words: 'Client certificate required' };
  readonly #options: MtlsOptions;
  readonly #env: IdentityEnv;
  readonly #trust: Trust;
  readonly #proxies: BlockList | null;
  readonly #cache: CredentialCache;
  #generation = 0;

  constructor(options: MtlsOptions, env: IdentityEnv) {
    this.#options = options;
    this.#env = env;
    const absolute = (files: readonly string[]) => files.map((file) => resolve(env.baseDir, file));
    const own = options.roles_extension === undefined ? [] : [options.roles_extension];
    this.#trust = new Trust({ ca: absolute(options.ca), crl: absolute(options.crl ?? []) }, env.logger, own);
    this.#proxies = addressList(options.proxies);
    this.#cache = new CredentialCache(options.cache_entries);
  }

  authenticate(credential: Credential, facts: IdentityFacts): AuthResult {
    if (credential.kind !== 'client-cert') return NOT_APPLICABLE;
    const link = linkOf(facts.incoming);
    if (link === null) return NOT_APPLICABLE;
    const refusal = credential.source === 'tls' ? this.#tlsFault(link) : this.#proxyFault(link);
    if (refusal !== null) return this.#log(refusal, facts);
    const generation = this.#trust.generation(facts.now);
    if (generation !== this.#generation) {
      this.#generation = generation;
      this.#cache.clear();
    }
    const text = credential.value.reveal();
    const key = this.#cache.key(text);
    return this.#cache.get(key, facts.now) ?? this.#check({ credential, link, text }, key, facts);
  }

  /** Asked for each request: of a session that was taken up again TLS does not ask for the certificate a second time. */
  #tlsFault(link: Link): AuthResult | null {
    return link.isAuthorized ? null : invalid('TLS does not vouch for the certificate');
  }

  #proxyFault(link: Link): AuthResult | null {
    const family = isIP(link.address);
    const isListed = family !== 0 && this.#proxies?.check(link.address, family === 4 ? 'ipv4' : 'ipv6') === true;
    // Somebody else's header is no credential of ours, whatever stands in it.
    if (!isListed) return NOT_APPLICABLE;
    if (link.isEncrypted || isLoopback(link.address)) return null;
    return invalid('the proxy speaks to us in the clear');
  }

  #check(shown: Shown, key: string, facts: IdentityFacts): AuthResult {
    const epoch = this.#cache.epoch;
    let found: { readonly principal: Principal; readonly until: number } | Rejected | typeof NOT_APPLICABLE;
    try {
      found = this.#judge(shown, facts.now);
    } catch (error) {
      if (!(error instanceof DerError)) throw error;
      found = invalid(error.message);
    }
    if ('kind' in found) return this.#log(found, facts);
    const { principal, until } = found;
    this.#env.logger.info({ request_id: facts.request_id, user: principal.id }, 'mtls_authentication_success');
    const result = Object.freeze({ kind: 'authenticated', principal } as const);
    this.#cache.set(key, result, Math.min(until, facts.now + this.#options.cache_seconds * 1000), epoch);
    return result;
  }

  #judge({ credential, link, text }: Shown, now: number) {
    const isOwn = credential.source === 'tls';
    const chain = isOwn ? [Buffer.from(text, 'base64')] : this.#fromHeader(text);
    const [der, ...others] = chain ?? [];
    if (der === undefined) return NOT_APPLICABLE;
    const certificate = readCertificate(der);
    const verdict = this.#trust.judge(certificate, others.map(linkCertificate), now, isOwn ? link.authorities : null);
    if (verdict.kind !== 'good') {
      const { kind, detail } = verdict;
      return { kind: 'rejected', reason: kind, detail } as const;
    }
    const principal = principalFromCertificate(certificate, this.#options, this.#env.name);
    if ('reason' in principal) return { kind: 'rejected', ...principal } as const;
    return { principal, until: verdict.until };
  }

  #fromHeader(text: string): readonly Buffer[] | null {
    // Written by `certificateCredential`.
    return readHeader(JSON.parse(text) as Record<string, string>, this.#options.header);
  }

  #log(result: AuthResult, { request_id }: IdentityFacts): AuthResult {
    if (result.kind === 'rejected') {
      this.#env.logger.info({ request_id, reason: result.detail }, 'mtls_authentication_failed');
    }
    return result;
  }

  async health(): Promise<ProviderHealth> {
    return this.#trust.health(this.#env.clock.now());
  }

  async close(): Promise<void> {
    this.#cache.clear();
  }
}

const isLoopback = (address: string): boolean => address === '::1' || address.startsWith('127.');

/** Throws DerError for what is no certificate. */
function linkCertificate(der: Buffer): X509Certificate {
  try {
    return new X509Certificate(der);
  } catch {
    throw new DerError('a chain with something that is no certificate');
  }
}

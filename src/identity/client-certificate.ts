/** The certificate of a request as a credential, for routes whose providers take one. Source: contracts 1, RFC 9440. */
import { Secret } from '../core/secret.ts';
import { HEADER_FORMS } from './certificate-header.ts';
import { type Link, linkOf } from './link.ts';
import type { Credential, IdentityFacts } from './provider.ts';

const own = new WeakMap<Link, Credential>();

/**
 * What the connection or a proxy shows; null: no certificate at all. Headers are only there when hygiene left them, that
 * is, from `trusted_proxies`; the provider asks once more whether that proxy is one of its own.
 */
export function certificateCredential(
  headers: Readonly<Record<string, string>>,
  facts: IdentityFacts,
): Credential | null {
  for (const name of HEADER_FORMS) {
    // The provider reads the header it is configured for; here it only counts that there is one.
    if (headers[name] !== undefined) return shown(headers);
  }
  const link = linkOf(facts.incoming);
  const certificate = link?.certificate;
  if (link == null || certificate == null) return null;
  const known = own.get(link);
  if (known !== undefined) return known;
  const credential: Credential = {
    kind: 'client-cert',
    value: new Secret(certificate.toString('base64')),
    source: 'tls',
  };
  own.set(link, credential);
  return credential;
}

const SHOWN = [...HEADER_FORMS, 'client-cert-chain'];

function shown(headers: Readonly<Record<string, string>>): Credential {
  const found = SHOWN.flatMap((name) => (headers[name] === undefined ? [] : [[name, headers[name]]]));
  return { kind: 'client-cert', value: new Secret(JSON.stringify(Object.fromEntries(found))), source: 'trusted-proxy' };
}

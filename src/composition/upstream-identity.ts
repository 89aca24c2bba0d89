/** Who the caller is, said to upstreams in a signed token: one maker for each upstream whose configuration asks for it. */

import type { IdentityTokenConfig } from '../config/identity-token-schema.ts';
import type { Config } from '../config/schema.ts';
import { SignerAtHand, UpstreamTokens } from '../identity/upstream-token.ts';
import type { Platform } from './assembly.ts';
import type { Signing } from './signing.ts';

/** Milliseconds. */
const REFRESH_MS = 60_000;

interface Named {
  /** `protocol:name`, as routes name their upstreams. */
  readonly key: string;
  readonly url: string;
  readonly token: IdentityTokenConfig;
}

/** Each upstream that gets identity tokens. */
export function* identityTokensOf(config: Pick<Config, 'servers' | 'models' | 'routes'>): Generator<Named> {
  for (const [kind, entries] of [['mcp', config.servers] as const, ['llm', config.models] as const]) {
    for (const [name, { url, identity_token: token }] of Object.entries(entries)) {
      if (token !== undefined) yield { key: `${kind}:${name}`, url, token };
    }
  }
  for (const route of config.routes) {
    if (route.protocol !== 'http' || route.identity_token === undefined) continue;
    yield { key: `http:${route.match}`, url: route.url, token: route.identity_token };
  }
}

export interface UpstreamIdentities {
  /** By `protocol:name`. */
  readonly tokens: ReadonlyMap<string, UpstreamTokens>;
  /** Every header a token is sent in, lower case: no caller may fill one of these, whichever upstream it is for. */
  readonly headers: readonly string[];
}

/** Rejects when the keys cannot be read. The refreshing of keys stops with `cleanup`. */
export async function buildUpstreamIdentities(
  config: Config,
  { clock, logging }: Platform,
  signing: Signing,
  cleanup: AsyncDisposableStack,
): Promise<UpstreamIdentities> {
  const tokens = new Map<string, UpstreamTokens>();
  const signers = new Map<string, SignerAtHand>();
  const onFailure = (error: unknown) => logging.component('identity').warn({ err: error }, 'signing_keys_not_read');
  for (const { key, url, token } of identityTokensOf(config)) {
    const { algorithm, audience = url, lifetime_seconds: lifetimeSeconds, header, claims } = token;
    const known = signers.get(algorithm);
    const signer = known ?? (await SignerAtHand.open({ ring: signing.ring(algorithm), clock, onFailure }));
    signers.set(algorithm, signer);
    // The configuration was checked: without a public URL nobody has an identity token.
    const issuer = config.public_url ?? '';
    tokens.set(key, new UpstreamTokens({ signer, clock, issuer, audience, header, lifetimeSeconds, claims }));
  }
  if (signers.size > 0) {
    const refresh = () => signers.forEach((signer) => void signer.refresh(clock.now()));
    const timer = setInterval(refresh, REFRESH_MS).unref();
    cleanup.defer(() => clearInterval(timer));
  }
  return { tokens, headers: [...new Set([...tokens.values()].map(({ header }) => header))] };
}

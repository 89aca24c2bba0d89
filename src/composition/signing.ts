/** The signing keys of one generation: a ring for each algorithm in use, whoever signs with it. */

import type { Config } from '../config/schema.ts';
import { KEY_SET_PATH, keySetEndpoint } from '../identity/published-keys.ts';
import {
  openSigningRing,
  type PublicKeys,
  type SigningAlgorithm,
  type SigningRing,
  secretRing,
} from '../identity/signing-ring.ts';
import type { Endpoint } from '../protocols/endpoint.ts';
import type { Platform } from './assembly.ts';
import { identityTokensOf } from './upstream-identity.ts';

export interface Signing {
  /** Of access tokens; null while the gateway keeps no accounts. */
  readonly accounts: SigningRing | null;
  /** Throws for an algorithm that nothing in the configuration names: a defect of ours. */
  ring(algorithm: SigningAlgorithm): SigningRing;
  /** The key sets; none where nothing is signed. */
  readonly endpoints: readonly Endpoint[];
}

/** Rejects when the signing keys cannot be read. */
export async function openSigning(config: Config, platform: Platform): Promise<Signing> {
  const { enabled, tokens } = config.accounts;
  const rings = new Map<SigningAlgorithm, SigningRing>();
  for (const algorithm of algorithmsOf(config)) {
    const { accounts, pepper, clock } = platform;
    const options = { algorithm, store: accounts.signingKeys, pepper, rotateMs: tokens.rotate_days * 86_400_000 };
    // Identity tokens live for minutes; the longest token decides how long an old key stays.
    const longest = Math.max(tokens.access_seconds, config.accounts.authorization_server.access_seconds);
    const tokenMs = enabled ? longest * 1000 : 0;
    rings.set(algorithm, await openSigningRing({ ...options, tokenMs }, clock.now()));
  }
  const ring = (algorithm: SigningAlgorithm): SigningRing => {
    const found = rings.get(algorithm);
    if (found === undefined) throw new Error(`no ring signs with ${algorithm}`);
    return found;
  };
  const published = async (now: number): Promise<PublicKeys> => {
    const sets = await Promise.all([...rings.values()].map((one) => one.published(now)));
    return { keys: sets.flatMap(({ keys }) => keys) };
  };
  const paths = enabled ? [KEY_SET_PATH, '/auth/jwks.json'] : rings.size > 0 ? [KEY_SET_PATH] : [];
  return {
    accounts: enabled ? accountRing(config, ring) : null,
    ring,
    endpoints: paths.map((path) => keySetEndpoint(path, published)),
  };
}

function algorithmsOf(config: Config): ReadonlySet<SigningAlgorithm> {
  const { enabled, tokens } = config.accounts;
  const own = enabled && tokens.secret === undefined ? [asymmetric(tokens.algorithm)] : [];
  return new Set([...own, ...[...identityTokensOf(config)].map(({ token }) => token.algorithm)]);
}

function accountRing({ accounts }: Config, ring: (algorithm: SigningAlgorithm) => SigningRing): SigningRing {
  const { algorithm, secret } = accounts.tokens;
  return secret === undefined ? ring(asymmetric(algorithm)) : secretRing(secret);
}

/** HS256 goes with a secret, which the schema requires then. */
const asymmetric = (algorithm: Config['accounts']['tokens']['algorithm']): SigningAlgorithm =>
  algorithm === 'HS256' ? 'EdDSA' : algorithm;

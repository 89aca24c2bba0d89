/** Puts delegation together for one generation: the desk, its endpoints, and the header on every route. */

import { rolesOf } from '../accounts/roles.ts';
import type { Config } from '../config/schema.ts';
import { GatewayError } from '../core/errors.ts';
import type { Route } from '../core/route.ts';
import { withDelegation } from '../identity/delegated.ts';
import { createDelegation, type Delegation } from '../identity/delegation.ts';
import type { LendingAccounts } from '../identity/delegation-standing.ts';
import { delegationKey } from '../identity/delegation-token.ts';
import { keyOwners } from '../identity/directory.ts';
import { tokenEndpoints } from '../identity/token-exchange.ts';
import type { Authenticator } from '../pipeline/stages/authenticate.ts';
import type { Endpoint } from '../protocols/endpoint.ts';
import { accountIssuer, localProviders } from './account-set.ts';
import type { Generation, Platform } from './assembly.ts';

export interface Delegating {
  readonly endpoints: readonly Endpoint[];
  /** The authenticators of the routes, with the delegation header read. */
  readonly authenticators: ReadonlyMap<Route, Authenticator>;
}

/** @param authenticators of the routes of the generation, which know credentials only */
export function delegating(
  config: Generation['config'],
  platform: Platform,
  authenticators: ReadonlyMap<Route, Authenticator>,
  cleanup: AsyncDisposableStack,
): Delegating {
  const key = delegationKey(platform.pepper, config.public_url);
  const logger = platform.logging.component('identity');
  const delegation: Delegation = createDelegation({
    key,
    shared: platform.shared,
    keys: platform.keys,
    issuers: issuersOf(config),
    accounts: lendingAccounts(config, platform),
    foreignKeys: new Set(Object.keys(config.identity).filter((name) => config.identity[name]?.kind === 'remote-key')),
    onRejection: (detail) => logger.debug({ detail }, 'delegation_refused'),
  });
  cleanup.defer(() => delegation.close());
  const endpoints = tokenEndpoints({
    delegation,
    directory: keyOwners(platform.keys),
    audience: key.audience,
    async identify({ received, route }, token) {
      const authenticator = authenticators.get(route);
      if (authenticator === undefined) return new GatewayError('AUTH_UNAVAILABLE', { retryAfter: 1 });
      const { signal, id, method, path, peer, receivedAt } = received;
      const facts = { method, path, route: route.id, request_id: id, source_ip: peer.address, now: receivedAt };
      return authenticator.authenticate(
        { headers: { authorization: `Bearer ${token}` }, signal },
        { ...facts, user_agent: received.headers['user-agent'] ?? null },
      );
    },
  });
  const reading = [...authenticators].map(
    ([route, authenticator]) => [route, withDelegation(authenticator, delegation)] as const,
  );
  return { endpoints, authenticators: new Map(reading) };
}

/** People of our own lend what their account still may, for as long as the login lasts that they lent with. */
function lendingAccounts(config: Config, { accounts }: Platform): LendingAccounts {
  const roles = rolesOf(config.accounts);
  return {
    providers: localProviders(config),
    session: (id) => accounts.sessions.standing(id),
    permissionsOf: (role) => roles.get(role)?.permissions ?? null,
    needsSecondFactor: (role) => config.accounts.mfa.required_roles.includes(role),
  };
}

/** Issuers of JWTs by the name of their provider. */
function issuersOf(config: Config): ReadonlyMap<string, string> {
  const found = new Map<string, string>();
  for (const [name, entry] of Object.entries(config.identity)) {
    const issuer: unknown =
      entry.kind === 'local' ? accountIssuer(config) : 'issuer' in entry ? entry.issuer : undefined;
    if (typeof issuer === 'string') found.set(name, issuer);
  }
  return found;
}

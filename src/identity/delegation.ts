/**
 * Acting for another with no more rights than both: handing rights on, taking them up, taking them back. What stands
 * here holds whatever a policy says: a chain of at most `MAX_DEPTH` actors in one tenant, nobody in it twice, nothing
 * lent that is not held, nothing longer than what it was made from. Source: acceptance SF-35, SF-42, RFC 8693.
 */
import { LRUCache } from 'lru-cache';
import { GatewayError } from '../core/errors.ts';
import { makeId } from '../core/ids.ts';
import type { Principal } from '../core/principal.ts';
import { actorIds } from '../core/principal.ts';
import type { ApiKeyStore } from '../stores/api-keys.ts';
import type { Shared } from '../stores/shared.ts';
import { onAccountChange } from './account-changes.ts';
import { CredentialCache } from './credential-cache.ts';
import { coversAll, joinParties, type Limits, limited } from './delegation-rights.ts';
import { createStanding, type LendingAccounts } from './delegation-standing.ts';
import {
  actorOf,
  type DelegationClaims,
  type DelegationFault,
  type DelegationKey,
  type Hop,
  hopOf,
  MAX_DEPTH,
  MAX_LIFETIME,
  MAX_TOKEN,
  nestActors,
  partyOf,
  readDelegation,
  signDelegation,
} from './delegation-token.ts';
import { isTokenRevoked, onKeyChange, onTokenRevoked, revokeToken } from './revocations.ts';

/** Seconds a delegation lasts when nobody says otherwise. */
export const DEFAULT_LIFETIME = 300;
/** Milliseconds a checked token is remembered at most. */
const REMEMBERED_MS = 30_000;
const CACHE_ENTRIES = 10_000;

export interface DelegationOptions {
  readonly key: DelegationKey;
  readonly shared: Shared;
  readonly keys: Pick<ApiKeyStore, 'find' | 'externalVersion'>;
  /** Issuers of tokens by the name of their provider: what they withdraw withdraws what was lent with it. */
  readonly issuers: ReadonlyMap<string, string>;
  readonly accounts?: LendingAccounts | undefined;
  /** Names of the providers whose keys are kept elsewhere, and so cannot be looked up again. */
  readonly foreignKeys?: ReadonlySet<string>;
  /** Told of refused tokens, in words for the operator. */
  readonly onRejection?: (detail: string) => void;
}

/** What somebody wants to hand on. */
export interface DelegationRequest extends Limits {
  /** Seconds; the default is 5 minutes, the most an hour. */
  readonly lifetime?: number | undefined;
  /** Unix seconds after which the target's own credential, where it was shown, is worth nothing. */
  readonly targetExpiresAt?: number | null;
}

export interface IssuedDelegation {
  readonly token: string;
  readonly id: string;
  /** Unix seconds. */
  readonly expiresAt: number;
  readonly lifetime: number;
  /** What the target will act with: scopes that all parties hold. */
  readonly scopes: readonly string[];
}

/** What was taken back, by ids. */
export interface RevokedDelegation {
  readonly id: string;
  readonly delegator: string;
  /** Who was to act. */
  readonly actor: string;
}

export interface Delegation {
  /**
   * Lends the caller's rights to the target. Rejects with FORBIDDEN where the chain may not grow like this or more would
   * be lent than is held, and INVALID_REQUEST for a lifetime that is none. The policy is not asked here.
   */
  issue(
    caller: Principal,
    target: Principal,
    wanted: DelegationRequest,
    now: number,
    id?: string,
  ): Promise<IssuedDelegation>;
  /** What `issue` would refuse, or null. */
  objection(caller: Principal, target: Principal, wanted: DelegationRequest): GatewayError | null;
  /**
   * The delegator as the actor may be it, from a token that was made for this actor. An outcome is a value:
   * INVALID_CREDENTIALS, TOKEN_EXPIRED or AUTH_UNAVAILABLE. Answers at once for a token seen lately.
   */
  accept(actor: Principal, token: string, now: number): Principal | GatewayError | Promise<Principal | GatewayError>;
  /**
   * Takes back a token and all that was made from it; null for one that was worth nothing any more. Rejects with
   * FORBIDDEN unless the caller is one who lent.
   */
  revoke(caller: Principal, token: string, now: number): Promise<RevokedDelegation | null>;
  close(): void;
}

/** A name for a delegation that is about to be made. `now`: epoch milliseconds. */
export function delegationId(now: number): string {
  return makeId('dlg_', now);
}

export function createDelegation(options: DelegationOptions): Delegation {
  return new DelegationDesk(options);
}

interface Known {
  readonly claims: DelegationClaims;
  /** Delegators with what they still have. */
  readonly lenders: readonly Principal[];
  /** Epoch milliseconds. */
  readonly until: number;
  readonly joined: WeakMap<Principal, Principal>;
}

class DelegationDesk implements Delegation {
  readonly #options: DelegationOptions;
  readonly #standing;
  readonly #digests = new CredentialCache(1);
  readonly #known = new LRUCache<string, Known>({ max: CACHE_ENTRIES });
  /** From which token a delegated principal came: what it hands on is made from that. */
  readonly #origins = new WeakMap<Principal, DelegationClaims>();
  readonly #stops: readonly (() => void)[];
  #epoch = 0;

  constructor(options: DelegationOptions) {
    this.#options = options;
    this.#standing = createStanding(options);
    const forget = () => this.#forget();
    this.#stops = [
      onKeyChange(options.shared, forget),
      onAccountChange(options.shared, forget),
      ...[options.key.audience, ...options.issuers.values()].map((issuer) =>
        onTokenRevoked(options.shared, issuer, forget),
      ),
    ];
  }

  objection(caller: Principal, target: Principal, wanted: DelegationRequest): GatewayError | null {
    if (caller.type === 'anonymous' || target.type === 'anonymous')
      return refused('Nobody in particular can take part');
    if (target.actor !== null) return refused('The target acts for somebody else itself');
    if (caller.tenant_id !== target.tenant_id) return refused('The target belongs elsewhere');
    const chain = [caller.id, ...actorIds(caller)];
    const lender = caller.parties?.at(-1) ?? caller;
    if (this.#options.foreignKeys?.has(lender.auth.provider) === true) {
      return refused('What another service keeps the key of cannot be lent: nobody could say when it is withdrawn');
    }
    if (target.id === caller.id) return refused('Nobody lends to themselves');
    if (chain.includes(target.id)) return refused('The target acts in this chain already');
    if (chain.length > MAX_DEPTH) return refused('The chain is too long');
    const { lifetime } = wanted;
    if (lifetime !== undefined && !(Number.isInteger(lifetime) && lifetime >= 1 && lifetime <= MAX_LIFETIME)) {
      return new GatewayError('INVALID_REQUEST', {
        message: `expires_in must be whole seconds from 1 to ${MAX_LIFETIME}`,
      });
    }
    const missing = notHeld(caller, wanted);
    return missing === undefined ? null : refused(`More would be lent than is held: ${missing}`);
  }

  async issue(
    caller: Principal,
    target: Principal,
    wanted: DelegationRequest,
    now: number,
    id = delegationId(now),
  ): Promise<IssuedDelegation> {
    const objection = this.objection(caller, target, wanted);
    if (objection !== null) throw objection;
    const parent = this.#origins.get(caller);
    // A delegated principal of another generation: it has to come again.
    if (caller.parties !== undefined && parent === undefined) throw refused('The delegation is not known here');
    const iat = Math.floor(now / 1000);
    const ends = [
      iat + (wanted.lifetime ?? DEFAULT_LIFETIME),
      caller.auth.expires_at,
      wanted.targetExpiresAt,
      parent?.exp,
    ];
    const exp = Math.floor(Math.min(...ends.filter((end) => typeof end === 'number')));
    if (exp <= iat) throw refused('What it would be made from has ended');
    const lender = caller.parties?.[caller.parties.length - 1] ?? caller;
    const hops: Hop[] = [...(parent?.hops ?? []), hopOf(lender, { jti: id, iat, exp }, wanted)];
    const claims = this.#claims(target, hops, caller.tenant_id, { jti: id, iat, exp });
    const token = await signDelegation(this.#options.key, claims);
    if (token.length > MAX_TOKEN)
      throw refused('The chain knows too much to fit into a header: lend fewer roles or permissions');
    const scopes = joinParties([...lendersOf(claims), alone(target)], {
      token_id: id,
      expires_at: exp,
      actor: actorOf(claims.act),
    }).scopes;
    return { token, id, expiresAt: exp, lifetime: exp - iat, scopes };
  }

  #claims(target: Principal, hops: Hop[], tenant: string, token: Pick<Hop, 'jti' | 'iat' | 'exp'>): DelegationClaims {
    const { audience } = this.#options.key;
    const principal_type = target.type === 'anonymous' ? 'agent' : target.type;
    const act = nestActors({ sub: target.id, principal_type }, hops);
    let depth = 0;
    for (let at: typeof act | undefined = act; at !== undefined; at = at.act) depth++;
    return {
      ...{ iss: audience, aud: audience, ...token, sub: hops[0]?.sub ?? '', tenant },
      ...{ act, may_act: { sub: target.id }, depth, hops },
    };
  }

  accept(actor: Principal, token: string, now: number): Principal | GatewayError | Promise<Principal | GatewayError> {
    if (this.#standing.isStale(now)) this.#forget();
    const digest = this.#digests.key(token);
    const known = this.#known.get(digest);
    if (known !== undefined && now < known.until) return this.#join(actor, known);
    return this.#check(actor, token, digest, now);
  }

  async #check(actor: Principal, token: string, digest: string, now: number): Promise<Principal | GatewayError> {
    const epoch = this.#epoch;
    try {
      const claims: DelegationClaims | DelegationFault = await readDelegation(this.#options.key, token, now);
      if (typeof claims === 'string') return this.#reject(claims);
      const lenders = await this.#lenders(claims, now);
      if (lenders === null) return this.#reject('it, what it was made from or a credential behind it was withdrawn');
      const until = Math.min(now + REMEMBERED_MS, claims.exp * 1000);
      const known: Known = { claims, lenders, until, joined: new WeakMap() };
      if (epoch === this.#epoch) this.#known.set(digest, known);
      return this.#join(actor, known);
    } catch (cause) {
      return new GatewayError('AUTH_UNAVAILABLE', { retryAfter: 1, cause });
    }
  }

  /** Everyone who lent, with what they still have; null when one of them may not any more. */
  async #lenders(claims: DelegationClaims, now: number): Promise<readonly Principal[] | null> {
    const { shared, key } = this.#options;
    for (const { jti } of claims.hops) if (await isTokenRevoked(shared, key.audience, jti)) return null;
    const lenders: Principal[] = [];
    for (const [at, lender] of lendersOf(claims).entries()) {
      const hop = claims.hops[at];
      const left = hop === undefined ? null : await this.#standing.narrow(lender, hop, now);
      if (left === null) return null;
      lenders.push(left);
    }
    return lenders;
  }

  #join(actor: Principal, { claims, lenders, joined }: Known): Principal | GatewayError {
    const known = joined.get(actor);
    if (known !== undefined) return known;
    if (actor.type === 'anonymous' || actor.actor !== null)
      return this.#reject('shown by one who does not stand alone');
    if (actor.tenant_id !== claims.tenant || actor.id !== claims.act.sub) return this.#reject('made for another actor');
    const composite = joinParties([...lenders, actor], {
      token_id: claims.jti,
      expires_at: claims.exp,
      actor: actorOf(claims.act),
    });
    this.#origins.set(composite, claims);
    joined.set(actor, composite);
    return composite;
  }

  #reject(detail: DelegationFault | (string & {})): GatewayError {
    this.#options.onRejection?.(detail);
    const challenge = 'Bearer realm="portcullis", error="invalid_token"';
    if (detail === 'expired')
      return new GatewayError('TOKEN_EXPIRED', { message: 'The delegation has expired', challenge });
    return new GatewayError('INVALID_CREDENTIALS', { message: 'The delegation is not valid', challenge });
  }

  async revoke(caller: Principal, token: string, now: number): Promise<RevokedDelegation | null> {
    const { key, shared } = this.#options;
    const claims = await readDelegation(key, token, now);
    // RFC 7009 2.2: what is worth nothing already needs no taking back.
    if (typeof claims === 'string') return null;
    const lent = claims.tenant === caller.tenant_id && claims.hops.some(({ sub }) => sub === caller.id);
    if (!lent || caller.actor !== null) throw refused('Only who lent the rights can take them back');
    await revokeToken(shared, key.audience, claims.jti, claims.exp * 1000, now);
    return { id: claims.jti, delegator: claims.sub, actor: claims.act.sub };
  }

  #forget(): void {
    this.#epoch++;
    this.#known.clear();
  }

  close(): void {
    for (const stop of this.#stops) stop();
    this.#forget();
  }
}

const refused = (message: string): GatewayError => new GatewayError('FORBIDDEN', { message });

/** The first thing that the caller wants to lend and has not. Of a delegated caller's roles one party has to have each. */
function notHeld(caller: Principal, { roles = [], permissions = [], scopes = [] }: Limits): string | undefined {
  const held = new Set((caller.parties ?? [caller]).flatMap((party) => party.roles));
  return [
    ...roles.filter((role) => !held.has(role)).map((role) => `role ${role}`),
    ...permissions.filter((one) => !coversAll(caller.permissions, [one])).map((one) => `permission ${one}`),
    ...scopes.filter((one) => !coversAll(caller.scopes, [one])).map((one) => `scope ${one}`),
  ][0];
}

/** Each delegator as it was, with the limits of its own handing on and of all later ones. */
function lendersOf({ hops, tenant }: Pick<DelegationClaims, 'hops' | 'tenant'>): Principal[] {
  return hops.map((hop, at) =>
    hops.slice(at).reduce((party, { limits }) => limited(party, limits), partyOf(hop, tenant)),
  );
}

function alone(target: Principal): Principal {
  const { parties: _, ...rest } = target;
  return rest;
}

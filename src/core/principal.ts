/** Who asks. Wire and policy spelling is snake_case, so that a Principal goes into the policy input unchanged. Source: contracts 1. */

export type PrincipalType = 'user' | 'service' | 'agent' | 'anonymous';

export type CredentialKind = 'bearer' | 'api-key' | 'basic' | 'client-cert' | 'auth-code' | 'session' | 'none';

/** How and when the principal proved its identity. */
export interface AuthFacts {
  readonly provider: string;
  readonly method: CredentialKind;
  readonly mfa_verified: boolean;
  /** Unix seconds of the last second factor, or null. */
  readonly mfa_at: number | null;
  readonly session_id: string | null;
  readonly key_id: string | null;
  readonly token_id: string | null;
  /** Unix seconds after which the credential is worth nothing, or null. */
  readonly expires_at: number | null;
}

/** A party acting for another (RFC 8693 `act`), outermost first. */
export interface Actor {
  readonly id: string;
  readonly type: PrincipalType;
  readonly actor: Actor | null;
}

export interface Principal {
  readonly id: string;
  readonly tenant_id: string;
  readonly type: PrincipalType;
  readonly email: string | null;
  readonly username: string | null;
  readonly roles: readonly string[];
  readonly teams: readonly string[];
  readonly groups: readonly string[];
  readonly permissions: readonly string[];
  readonly scopes: readonly string[];
  readonly actor: Actor | null;
  readonly auth: AuthFacts;
  readonly tenure_months: number | null;
  readonly device_compliant: boolean;
  readonly metadata: Readonly<Record<string, string>>;
  /**
   * Of a delegated call only: everyone whose rights are needed, each as they stand alone, the delegator first and the
   * current actor last. The policy has to allow the call for each of them. Absent: acts in its own right.
   */
  readonly parties?: readonly Principal[];
  /**
   * Of a party that lent a part of what it holds: which of `scopes` it was granted word by word; the others are only
   * covered by a star it holds. Absent: all.
   */
  readonly granted?: readonly string[];
}

/** What a provider has to say at least; the rest takes safe defaults. */
export type PrincipalFacts = Pick<Principal, 'id'> &
  Partial<Omit<Principal, 'id' | 'auth' | 'parties' | 'granted'>> & { readonly auth?: Partial<AuthFacts> };

/** Fills the fields a provider left out with the least privileged value. */
export function makePrincipal(facts: PrincipalFacts, provider: string, method: CredentialKind): Principal {
  return {
    id: facts.id,
    tenant_id: facts.tenant_id ?? 'default',
    type: facts.type ?? 'user',
    email: facts.email ?? null,
    username: facts.username ?? null,
    roles: facts.roles ?? [],
    teams: facts.teams ?? [],
    groups: facts.groups ?? [],
    permissions: facts.permissions ?? [],
    scopes: facts.scopes ?? [],
    actor: facts.actor ?? null,
    auth: {
      provider,
      method,
      mfa_verified: facts.auth?.mfa_verified ?? false,
      mfa_at: facts.auth?.mfa_at ?? null,
      session_id: facts.auth?.session_id ?? null,
      key_id: facts.auth?.key_id ?? null,
      token_id: facts.auth?.token_id ?? null,
      expires_at: facts.auth?.expires_at ?? null,
    },
    tenure_months: facts.tenure_months ?? null,
    device_compliant: facts.device_compliant ?? false,
    metadata: facts.metadata ?? {},
  };
}

/** The caller of a route that declares `anonymous: true` and presented no credential. */
export const ANONYMOUS: Principal = makePrincipal({ id: 'anonymous', type: 'anonymous' }, 'anonymous', 'none');

/** The ids of those who act for a principal, the current actor first; none when it acts itself. */
export function actorIds({ actor }: Principal): string[] {
  const ids: string[] = [];
  for (let at = actor; at !== null; at = at.actor) ids.push(at.id);
  return ids;
}

/**
 * Under which name a principal holds what is bound to one caller (sessions, tasks): who acts for somebody holds other
 * things than that person. The id itself where nobody else acts.
 */
export function holderId(principal: Principal): string {
  return principal.actor === null ? principal.id : JSON.stringify([principal.id, ...actorIds(principal)]);
}

/** What was shown for a call: of a delegated one the delegation and what each party had shown. */
export function everyAuth({ auth, parties }: Principal): readonly AuthFacts[] {
  return parties === undefined ? [auth] : [auth, ...parties.map((party) => party.auth)];
}

/** Whether all of these were granted, compared word by word; of a delegated call to each party by itself. */
export function holdsScopes({ scopes, granted = scopes, parties }: Principal, needed: readonly string[]): boolean {
  if (!needed.every((scope) => granted.includes(scope))) return false;
  return parties === undefined || parties.every((party) => holdsScopes(party, needed));
}

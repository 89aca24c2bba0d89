/**
 * Whose rights a question is about. A caller may always ask for itself, with what its own credential says; for anybody
 * else the policy has to let it (`gateway:authorize` and the like), and never beyond the caller's tenant.
 * Source: acceptance SW-03.
 */
import { GatewayError } from '../../core/errors.ts';
import type { Principal } from '../../core/principal.ts';
import { makePrincipal } from '../../core/principal.ts';
import type { Person } from './schemas.ts';

/** True when the question is about the caller: then nothing the body says of it counts. */
export function isSelf(caller: Principal, person: Person | null | undefined): boolean {
  return person === null || person === undefined || (person.id === caller.id && !isForeign(caller, person));
}

function isForeign(caller: Principal, { tenant_id }: Person): boolean {
  return tenant_id !== undefined && tenant_id !== null && tenant_id !== caller.tenant_id;
}

/** Nobody speaks for another tenant. Throws FORBIDDEN. */
export function refuseForeign(caller: Principal, person: Person | null | undefined): void {
  if (person === null || person === undefined || !isForeign(caller, person)) return;
  throw new GatewayError('FORBIDDEN', { message: 'The user belongs to another tenant' });
}

/** The principal a question is about, in the caller's tenant. `kind`: what it is when the caller does not say. */
export function subjectOf(
  caller: Principal,
  person: Person | null | undefined,
  kind: 'user' | 'agent' = 'user',
): Principal {
  refuseForeign(caller, person);
  if (person === null || person === undefined || isSelf(caller, person)) return caller;
  return makePrincipal(
    {
      id: person.id,
      tenant_id: caller.tenant_id,
      type: person.type ?? kind,
      email: person.email ?? null,
      username: person.username ?? null,
      roles: person.roles ?? [],
      teams: person.teams ?? [],
      groups: person.groups ?? [],
      permissions: person.permissions ?? [],
      scopes: person.scopes ?? [],
      tenure_months: person.tenure_months ?? null,
      device_compliant: person.device_compliant ?? false,
      auth: { mfa_verified: person.mfa_verified ?? false },
    },
    'asserted',
    'none',
  );
}

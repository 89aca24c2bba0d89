/** From checked claims to a principal. Source: acceptance D-10 to D-14, DF-04, design 2.3 (who fills the risky fields). */
import { isJsonObject, type JsonObject, type JsonValue } from '../core/json.ts';
import type { Logger } from '../core/module.ts';
import {
  type Actor,
  type CredentialKind,
  makePrincipal,
  type Principal,
  type PrincipalType,
} from '../core/principal.ts';
import { freezePrincipal } from './credential-cache.ts';
import type { ClaimMapping } from './jwt-options.ts';
import { wholeMonths } from './tenure.ts';

/** A claim of the wrong type or size: the token is refused, for a guess could grant too much. */
class BadClaim extends Error {}

const MAX_ID = 512;
const MAX_ACTORS = 4;

/** The frozen principal, or null when a mapped claim does not have the type it must have. */
export function principalFromClaims(
  claims: JsonObject,
  options: ClaimMapping,
  provider: string,
  now: number,
  logger: Logger,
  method: CredentialKind = 'bearer',
): Principal | null {
  try {
    return freezePrincipal(mapped(claims, options, { provider, method }, now, logger));
  } catch (error) {
    if (error instanceof BadClaim) return null;
    throw error;
  }
}

/** One of several issuers may have no say about what another one guards. */
function granted(scopes: string[], { grantable_scopes: known }: ClaimMapping): string[] {
  return known === undefined ? scopes : scopes.filter((scope) => known.includes(scope));
}

function mapped(
  claims: JsonObject,
  options: ClaimMapping,
  by: { readonly provider: string; readonly method: CredentialKind },
  now: number,
  logger: Logger,
): Principal {
  const names = options.claims;
  const said = words(find(claims, names.roles));
  const roles = mapRoles(said, options, logger);
  const groups = words(find(claims, names.groups));
  const scopes = granted(words(find(claims, names.scopes)), options);
  const mfa = hasSecondFactor(claims, options);
  return makePrincipal(
    {
      id: identifier(claims.sub),
      tenant_id: tenant(find(claims, names.tenant), options),
      type: principalType(find(claims, names.type), said),
      email: text(find(claims, names.email)),
      username: text(find(claims, names.username)),
      roles,
      teams: words(find(claims, names.teams)),
      groups,
      scopes,
      permissions: permissions(words(find(claims, names.permissions)), roles, groups, scopes, options),
      actor: actor(claims.act, 0),
      tenure_months: tenure(claims, options, now),
      // Exactly true: a text "false" must not count.
      device_compliant: find(claims, names.device_compliant) === true,
      auth: {
        mfa_verified: mfa,
        mfa_at: mfa && typeof claims.auth_time === 'number' ? claims.auth_time : null,
        session_id: text(find(claims, names.session)),
        token_id: text(claims.jti),
        expires_at: typeof claims.exp === 'number' ? claims.exp : null,
      },
    },
    by.provider,
    by.method,
  );
}

/** The first of these claims that is there. A claim's own name may hold dots (a URL), so it is tried before the path. */
function find(claims: JsonObject, names: readonly string[]): JsonValue | undefined {
  for (const name of names) {
    const value = Object.hasOwn(claims, name) ? claims[name] : name.includes('.') ? walk(claims, name) : undefined;
    if (value !== undefined && value !== null) return value;
  }
  return undefined;
}

function walk(claims: JsonObject, path: string): JsonValue | undefined {
  let value: JsonValue | undefined = claims;
  for (const step of path.split('.')) {
    if (!isJsonObject(value) || !Object.hasOwn(value, step)) return undefined;
    value = value[step];
  }
  return value;
}

function text(value: JsonValue | undefined): string | null {
  if (value === undefined || value === null) return null;
  if (typeof value !== 'string' || value.length > MAX_ID) throw new BadClaim();
  return value;
}

/** A list of texts, or one text with spaces (RFC 6749 3.3). Compared as exact words, never as substrings. */
function words(value: JsonValue | undefined): string[] {
  if (value === undefined) return [];
  const list = typeof value === 'string' ? value.split(' ') : value;
  if (!Array.isArray(list)) throw new BadClaim();
  const found = new Set<string>();
  for (const word of list as readonly JsonValue[]) {
    if (typeof word !== 'string') throw new BadClaim();
    if (word !== '') found.add(word);
  }
  return [...found];
}

function identifier(value: JsonValue | undefined): string {
  if (typeof value !== 'string' || value === '' || value.length > MAX_ID) throw new BadClaim();
  for (let i = 0; i < value.length; i++) {
    const c = value.charCodeAt(i);
    if (c < 32 || c === 127) throw new BadClaim();
  }
  return value;
}

function tenant(value: JsonValue | undefined, options: ClaimMapping): string {
  if (value !== undefined) return identifier(value);
  if (options.require_tenant) throw new BadClaim();
  return options.default_tenant;
}

function principalType(value: JsonValue | undefined, roles: readonly string[]): PrincipalType {
  if (value === undefined) return roles.includes('service') ? 'service' : 'user';
  if (value === 'user' || value === 'service' || value === 'agent') return value;
  throw new BadClaim();
}

/** Roles already reported, so that a token used all day gives one line. Bounded. */
const reported = new Set<string>();

function mapRoles(said: readonly string[], options: ClaimMapping, logger: Logger): string[] {
  const roles = new Set<string>();
  for (const word of said) {
    const role = options.role_map.get(word) ?? (options.unknown_roles === 'keep' ? word : undefined);
    if (role !== undefined) roles.add(role);
    else if (!reported.has(word) && reported.size < 1000) {
      reported.add(word);
      logger.warn({ role: word.slice(0, 100), issuer: options.issuer }, 'a token names a role that is not mapped');
    }
  }
  if (roles.size === 0 && options.default_role !== undefined) roles.add(options.default_role);
  return [...roles];
}

function permissions(
  own: readonly string[],
  roles: readonly string[],
  groups: readonly string[],
  scopes: readonly string[],
  options: ClaimMapping,
): string[] {
  const all = new Set(own);
  const add = (grants: Readonly<Record<string, readonly string[]>>, holders: readonly string[]) => {
    for (const holder of holders) {
      if (Object.hasOwn(grants, holder)) for (const permission of grants[holder] ?? []) all.add(permission);
    }
  };
  add(options.role_permissions, roles);
  add(options.group_permissions, groups);
  add(options.scope_permissions, scopes);
  return [...all];
}

function hasSecondFactor(claims: JsonObject, options: ClaimMapping): boolean {
  const { amr, acr } = claims;
  if (typeof acr === 'string' && options.mfa.acr.includes(acr)) return true;
  return Array.isArray(amr) && amr.some((one) => typeof one === 'string' && options.mfa.amr.includes(one));
}

/** RFC 8693 4.1: who acts for the subject, the current one outermost. */
function actor(value: JsonValue | undefined, depth: number): Actor | null {
  if (value === undefined) return null;
  if (!isJsonObject(value) || depth === MAX_ACTORS) throw new BadClaim();
  const type = value.principal_type ?? 'service';
  if (type !== 'user' && type !== 'service' && type !== 'agent') throw new BadClaim();
  return { id: identifier(value.sub), type, actor: actor(value.act, depth + 1) };
}

/** Whole months, given or counted from the day of hiring (a date text or seconds). */
function tenure(claims: JsonObject, options: ClaimMapping, now: number): number | null {
  const given = find(claims, options.claims.tenure_months);
  if (typeof given === 'number') return given >= 0 ? Math.floor(given) : null;
  const hired = find(claims, options.claims.hired_at);
  if (hired === undefined) return null;
  const from = typeof hired === 'number' ? new Date(hired * 1000) : new Date(typeof hired === 'string' ? hired : '');
  return wholeMonths(from, new Date(now));
}

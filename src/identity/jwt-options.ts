/** Options of the `jwt` provider. Every default stands here. Source: contracts 1, security 2.3, acceptance D-10 to D-14. */
import { z } from 'zod';
import { secret } from '../config/schema.ts';
import type { Secret } from '../core/secret.ts';
import { isFetchable } from './key-fetch.ts';
import { ASYMMETRIC_ALGORITHMS, SYMMETRIC_ALGORITHMS } from './verification-keys.ts';

/** Claim names, tried in order: the exact name first, then as a path (`realm_access.roles`). */
const claim = (...names: string[]) =>
  z
    .union([z.string().min(1).max(256), z.array(z.string().min(1).max(256)).max(8)])
    .transform((value) => (typeof value === 'string' ? [value] : value))
    .prefault(names);

const claims = z.strictObject({
  tenant: claim('tenant_id', 'organization_id', 'org_id'),
  roles: claim('roles', 'role', 'realm_access.roles'),
  teams: claim('teams'),
  groups: claim('groups'),
  permissions: claim('permissions'),
  scopes: claim('scope', 'scp'),
  username: claim('preferred_username', 'username'),
  email: claim('email'),
  type: claim('principal_type'),
  tenure_months: claim('tenure_months'),
  hired_at: claim('hired_at'),
  device_compliant: claim('device_compliant'),
  session: claim('sid'),
});

/** Role words that need no line in `role_map`. `service` also makes the principal a service. */
export const ROLES: readonly string[] = ['admin', 'user', 'viewer', 'developer', 'data_engineer', 'analyst', 'service'];

const grants = z.record(z.string(), z.array(z.string())).default({});

/** How claims become a principal; the same for every provider that is told claims. */
export const MAPPING = {
  claims: claims.prefault({}),
  default_tenant: z.string().min(1).default('default'),
  require_tenant: z.boolean().default(false).describe('refuse tokens without a tenant instead of using the default'),
  role_map: z.record(z.string(), z.string()).default({}).describe('claim value to role; adds to the built-in names'),
  unknown_roles: z.enum(['drop', 'keep']).default('drop'),
  default_role: z.string().optional().describe('for principals that are left without any role'),
  role_permissions: grants.describe('permissions by role'),
  group_permissions: grants.describe('permissions by group'),
  scope_permissions: grants.describe('permissions by scope'),
  grantable_scopes: z
    .array(z.string().min(1))
    .max(1000)
    .optional()
    .describe('the scopes this issuer may grant: others in its tokens do not count. Default: all'),
  mfa: z
    .strictObject({ amr: z.array(z.string()).default(['mfa']), acr: z.array(z.string()).default([]) })
    .prefault({})
    .describe('amr and acr values that prove a second factor'),
};

/** What must hold of a signed token, and how its keys and what was found are kept. */
export const TOKEN_RULES = {
  sole_audience: z.boolean().default(false).describe('refuse tokens that are also meant for others'),
  typ: z
    .array(z.string().min(1).max(64))
    .min(1)
    .default(['at+jwt', 'JWT'])
    .describe('accepted header types; with JWT in the list the type may also be absent'),
  max_lifetime_seconds: z.int().min(1).max(31_536_000).default(86_400),
  clock_skew_seconds: z.int().min(0).max(30).default(5),
  max_token_bytes: z.int().min(256).max(16_384).default(8192),
  jwks_max_age_seconds: z.int().min(10).max(86_400).default(600),
  jwks_stale_seconds: z.int().min(0).max(86_400).default(900).describe('how long old keys serve through an outage'),
  cache_entries: z.int().min(1).max(1_000_000).default(10_000),
  cache_seconds: z.int().min(1).max(300).default(300).describe('how long a checked token is remembered at most'),
};

/** Audiences as one text or a list. */
export const audience = z
  .union([z.string().min(1), z.array(z.string().min(1)).min(1).max(50)])
  .transform((value) => (typeof value === 'string' ? [value] : value));

const shape = z.strictObject({
  kind: z.literal('jwt'),
  issuer: z.string().min(1).max(2048).describe('the exact iss claim'),
  audience: audience.describe('accepted aud values; a token must name one'),
  jwks: z.string().min(1).optional().describe('URL (https, or http to loopback) or file of the JWK set'),
  public_key: z.string().min(1).optional().describe('PEM file with the one public key'),
  secret: secret.optional().describe('shared secret for HS256; at least 32 bytes'),
  algorithms: z
    .array(z.enum([...ASYMMETRIC_ALGORITHMS, ...SYMMETRIC_ALGORITHMS]))
    .min(1)
    .optional(),
  ...TOKEN_RULES,
  ...MAPPING,
});

type Shape = z.output<typeof shape>;

function problems(options: Shape, report: (path: string, message: string) => void): void {
  const sources = [options.jwks, options.public_key, options.secret].filter((value) => value !== undefined);
  if (sources.length !== 1) report('jwks', 'exactly one of jwks, public_key and secret is needed');
  if (options.jwks !== undefined && /^[a-z][a-z0-9+.-]*:\/\//i.test(options.jwks) && !isFetchable(options.jwks)) {
    report('jwks', 'must be https, or http to loopback, without user name and fragment');
  }
  if (options.secret !== undefined && Buffer.byteLength(String(options.secret.reveal())) < 32) {
    report('secret', 'must have at least 32 bytes');
  }
  const symmetric = (options.algorithms ?? []).filter((name) => name.startsWith('HS'));
  if (options.secret === undefined && symmetric.length > 0) report('algorithms', 'HS algorithms need a secret');
  if (options.secret !== undefined && symmetric.length !== (options.algorithms ?? []).length) {
    report('algorithms', 'a secret verifies HS algorithms only');
  }
}

/** The built-in role words and those of the configuration. */
export function roleMapOf(configured: Readonly<Record<string, string>>): Map<string, string> {
  return new Map([...ROLES.map((role) => [role, role] as const), ...Object.entries(configured)]);
}

/** The options of a `jwt` provider as they stand in the config file. */
export const jwtSchema = shape
  .superRefine((options, context) => {
    problems(options, (path, message) => context.addIssue({ code: 'custom', path: [path], message }));
  })
  .transform((options) => {
    const roleMap = roleMapOf(options.role_map);
    const usual: Shape['algorithms'] = options.secret === undefined ? ['RS256', 'ES256', 'EdDSA'] : ['HS256'];
    // zod cannot know what a Secret holds; the schema above lets only texts in.
    const secretText = options.secret as Secret | undefined;
    return { ...options, secret: secretText, role_map: roleMap, algorithms: options.algorithms ?? usual };
  });

/** Checked options with defaults filled in. */
export type JwtOptions = z.output<typeof jwtSchema>;

/** What the mapping of claims needs to know. */
export type ClaimMapping = Pick<JwtOptions, 'issuer' | keyof typeof MAPPING>;

/** What the checks of a token's header and claims need to know. */
export type TokenRules = Pick<
  JwtOptions,
  | 'issuer'
  | 'audience'
  | 'sole_audience'
  | 'algorithms'
  | 'typ'
  | 'max_lifetime_seconds'
  | 'clock_skew_seconds'
  | 'max_token_bytes'
>;

/** The signed identity an upstream may be sent with each request. Source: acceptance VF-21, HW-03, HW-10. */
import { z } from 'zod';

/** What an identity token may say besides who, for whom, until when and on whose behalf. Words are the claims' names. */
export const IDENTITY_CLAIMS = [
  'roles',
  'tenant',
  'principal_type',
  'email',
  'username',
  'teams',
  'groups',
  'permissions',
  'scope',
  'mfa',
  'key_id',
  'metadata',
  'request_id',
] as const;

/** Algorithms of the gateway's own signing keys. */
export const SIGNING_ALGORITHMS = ['EdDSA', 'ES256', 'RS256'] as const;

/** Said by the gateway itself, or read by it. */
const TAKEN = ['x-request-id', 'x-decision-id', 'x-tenant-id', 'x-user-id', 'x-real-ip', 'x-approval-token'];
const TAKEN_FAMILIES = ['x-auth-', 'x-forwarded-', 'x-delegation-'];

const isFree = (name: string): boolean =>
  !TAKEN.includes(name) && !TAKEN_FAMILIES.some((family) => name.startsWith(family));

/** `identity_token` of a server, a model or an HTTP route. */
export const identityTokenSchema = z.strictObject({
  header: z
    .string()
    .regex(/^(authorization|x-[a-z0-9-]{1,60})$/i, 'Authorization, or a header of your own that begins with X-')
    .transform((name) => name.toLowerCase())
    .refine(isFree, 'this header has a meaning of its own')
    .default('x-portcullis-identity')
    .describe('the header it is sent in; Authorization takes it as a bearer token'),
  audience: z.string().min(1).max(512).optional().describe('its aud claim; default: the url of this upstream'),
  lifetime_seconds: z.int().min(5).max(300).default(60).describe('it is sent again for at most half of that'),
  algorithm: z.enum(SIGNING_ALGORITHMS).default('EdDSA'),
  claims: z
    .array(z.enum(IDENTITY_CLAIMS))
    .default(['roles', 'tenant'])
    .describe('what it says of the caller; with request_id each request gets one of its own'),
});

/** Checked `identity_token` section. */
export type IdentityTokenConfig = z.output<typeof identityTokenSchema>;
export type IdentityClaim = (typeof IDENTITY_CLAIMS)[number];

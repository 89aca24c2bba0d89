/** Options of the `mtls` provider. Every default stands here. Source: acceptance S-72 to S-74, SF-57, SF-58. */
import { z } from 'zod';
import { HEADER_FORMS } from './certificate-header.ts';
import { addressList } from './key-issuing.ts';

const oid = z.string().regex(/^[0-2](\.(0|[1-9]\d{0,15})){1,30}$/, 'an object identifier such as 1.2.3.4.5.6');
const files = z
  .union([z.string().min(1), z.array(z.string().min(1)).min(1).max(32)])
  .transform((value) => [value].flat());
const words = z.union([z.string().min(1), z.array(z.string().min(1)).min(1)]).transform((value) => [value].flat());

function isRanges(value: readonly string[]): boolean {
  try {
    addressList(value);
    return true;
  } catch {
    return false;
  }
}

/** Where an id may stand, in the order in which it is looked for. */
export const ID_SOURCES = ['uri', 'email', 'upn', 'dns', 'cn'] as const;

/** The options of an `mtls` provider as they stand in the config file. */
export const mtlsSchema = z.strictObject({
  kind: z.literal('mtls'),
  ca: files.describe(
    'PEM bundles of the roots whose certificates are accepted, and of authorities between; read again when they change',
  ),
  crl: files.optional().describe('PEM revocation lists; with them the issuer of each client must have a current one'),
  proxies: z
    .array(z.string())
    .refine(isRanges, 'addresses and CIDR ranges')
    .default([])
    .describe('where TLS ends before the gateway: the proxies that put the certificate into a header'),
  header: z.enum(HEADER_FORMS).default('client-cert').describe('the header they set'),
  allowed_organizations: z.array(z.string().min(1)).default([]).describe('the O of clients; empty: any'),
  id: z
    .array(z.enum(ID_SOURCES))
    .min(1)
    .default(['uri', 'email', 'upn', 'dns', 'cn'])
    .describe('alternative names, then the CN; the first that is there becomes the id and must be one'),
  type: z.enum(['user', 'service', 'agent']).default('service').describe('what such callers are'),
  team: z.enum(['o', 'ou', 'none']).default('o').describe('the subject attribute that names teams'),
  tenant: z.enum(['o', 'ou', 'none']).default('none').describe('the subject attribute that names the tenant'),
  default_tenant: z.string().min(1).default('default'),
  roles_extension: oid
    .optional()
    .describe('extension with the roles: a UTF8String, a SEQUENCE of them, or a JSON list in a UTF8String'),
  role_map: z.record(z.string(), z.string()).default({}).describe('words of that extension to roles'),
  unknown_roles: z.enum(['drop', 'keep']).default('keep').describe('words that are not in role_map'),
  unit_roles: z.record(z.string(), words).default({}).describe('OU to roles, where the extension is absent'),
  name_roles: z
    .record(z.string(), words)
    .default({})
    .describe('alternative name to roles, where the extension is absent'),
  cache_entries: z.int().min(1).max(1_000_000).default(10_000),
  cache_seconds: z.int().min(1).max(300).default(60).describe('how long a checked certificate is remembered at most'),
});

/** Checked options with defaults filled in. */
export type MtlsOptions = z.output<typeof mtlsSchema>;

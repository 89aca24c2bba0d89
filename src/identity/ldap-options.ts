/** Options of the `ldap` provider. Every default stands here. Source: acceptance S-68, SF-51 to SF-56, D-49. */
import { z } from 'zod';
import { secret } from '../config/schema.ts';
import type { Secret } from '../core/secret.ts';
import { escapeFilterValue, fill } from './ldap-text.ts';

const attribute = z.string().regex(/^[A-Za-z][A-Za-z0-9-]{0,63}$/, 'the name of an attribute, e.g. mail');
const dn = z.string().regex(/^[A-Za-z0-9.-]+ *=.*$/, 'a distinguished name, e.g. dc=example,dc=com');
const words = z.union([z.string().min(1), z.array(z.string().min(1)).min(1)]).transform((value) => [value].flat());
const byGroup = z.record(z.string().min(1), words).default({});

const attributes = z.strictObject({
  id: attribute.default('uid').describe('becomes the id; objectGUID is understood'),
  username: attribute.default('uid'),
  email: attribute.default('mail'),
  display_name: attribute.default('cn'),
  tenant: attribute.optional(),
  hired_at: attribute.optional().describe('day of hiring, a date or a generalized time'),
});

const shape = z.strictObject({
  kind: z.literal('ldap'),
  url: z
    .union([z.string(), z.array(z.string()).min(1).max(8)])
    .transform((value) => [value].flat())
    .describe('ldaps://HOST[:PORT], or ldap:// with start_tls or to loopback; several are tried in order'),
  start_tls: z.boolean().default(false).describe('encrypt ldap:// before anything is said'),
  ca: z.string().optional().describe('PEM bundle of the directory’s certificate authority'),
  bind_dn: dn.optional().describe('the account that looks people up'),
  bind_password: secret.optional(),
  anonymous_search: z.boolean().default(false).describe('look people up without an account'),
  user_dn_template: z
    .string()
    .regex(/^[A-Za-z0-9.-]+=.*\{username\}/, 'a distinguished name with {username} in it')
    .optional()
    .describe('the name to log in with, instead of looking it up'),
  base_dn: dn.describe('where people and groups are looked up'),
  user_base_dn: dn.optional().describe('default: base_dn'),
  group_base_dn: dn.optional().describe('default: base_dn'),
  user_search_filter: z.string().includes('{username}').default('(uid={username})'),
  group_search_filter: z
    .string()
    .regex(/\{(user_dn|username)\}/, 'needs {user_dn} or {username}')
    .default('(member={user_dn})'),
  group_name_attribute: attribute.default('cn'),
  nested_groups: z
    .enum(['off', 'search', 'matching-rule'])
    .default('off')
    .describe('groups of groups: asked level by level, or by the rule 1.2.840.113556.1.4.1941 of Active Directory'),
  max_groups: z.int().min(1).max(5000).default(500).describe('who is in more cannot log in'),
  group_roles: byGroup.describe('name or distinguished name of a group to roles; other groups give none'),
  group_teams: byGroup.describe('the same for teams'),
  group_permissions: byGroup.describe('the same for permissions'),
  default_roles: z.array(z.string().min(1)).default([]).describe('for people who are left without any role'),
  attributes: attributes.prefault({}),
  default_tenant: z.string().min(1).default('default'),
  require_tenant: z.boolean().default(false).describe('refuse people without a tenant instead of using the default'),
  connect_timeout_ms: z.int().min(10).max(4500).default(2000),
  timeout_ms: z.int().min(50).max(4500).default(4000).describe('for one login altogether'),
  refusal_ms: z.int().min(0).max(4000).default(300).describe('a refusal takes at least so long, whatever its cause'),
  pool: z
    .strictObject({
      max_connections: z.int().min(1).max(1000).default(10).describe('to look people up, and as many to log in'),
      idle_ms: z.int().min(100).max(3_600_000).default(60_000),
    })
    .prefault({}),
  lockout: z
    .strictObject({
      failures: z.int().min(1).max(1000).default(5).describe('wrong passwords of one user name'),
      seconds: z.int().min(1).max(86_400).default(300).describe('within so long, and locked for so long'),
    })
    .prefault({})
    .describe('keep it below the directory’s own, so that guessing here locks nobody out there'),
  cache_entries: z.int().min(1).max(1_000_000).default(10_000),
  cache_seconds: z.int().min(0).max(300).default(60).describe('how long a checked password is remembered at most'),
});

type Shape = z.output<typeof shape>;

/** True for a name or address of this machine. */
function isLocal(host: string): boolean {
  return host === 'localhost' || host === '[::1]' || /^127(\.\d{1,3}){3}$/.test(host);
}

function addressProblem(text: string, startTls: boolean): string | null {
  const url = URL.canParse(text) ? new URL(text) : null;
  if (url === null || (url.protocol !== 'ldap:' && url.protocol !== 'ldaps:') || url.hostname === '') {
    return 'expected ldaps://HOST or ldap://HOST';
  }
  if (url.username !== '' || url.password !== '' || url.search !== '' || url.hash !== '' || /^\/./.test(url.pathname)) {
    return 'only host and port belong here';
  }
  if (url.protocol === 'ldaps:') return startTls ? 'ldaps is encrypted already: start_tls is for ldap' : null;
  if (startTls || isLocal(url.hostname)) return null;
  return 'passwords would cross the network in the clear: use ldaps, or start_tls';
}

/** The filter with a harmless value, to see whether it can be read at all. */
function isFilter(template: string): boolean {
  const shown = fill(template, { username: 'x', user_dn: 'cn=x' }, escapeFilterValue);
  let depth = 0;
  for (const character of shown) {
    if (character === '(') depth++;
    else if (character === ')' && --depth < 0) return false;
  }
  return depth === 0 && shown.startsWith('(') && shown.endsWith(')') && !/[{}]/.test(shown);
}

function problems(options: Shape, report: (path: string, message: string) => void): void {
  for (const url of options.url) {
    const fault = addressProblem(url, options.start_tls);
    if (fault !== null) report('url', fault);
  }
  if ((options.bind_dn === undefined) !== (options.bind_password === undefined)) {
    report('bind_password', 'bind_dn and bind_password belong together');
  }
  // RFC 4513 5.1.2: a name without a password is nobody.
  if (options.bind_password !== undefined && String(options.bind_password.reveal()).trim() === '') {
    report('bind_password', 'must not be empty');
  }
  const ways = [options.bind_dn, options.user_dn_template].filter((way) => way !== undefined).length;
  if (ways === 0 && !options.anonymous_search) {
    report('bind_dn', 'one of bind_dn, user_dn_template and anonymous_search is needed');
  }
  if (options.anonymous_search && options.bind_dn !== undefined) {
    report('anonymous_search', 'not together with bind_dn');
  }
  for (const name of ['user_search_filter', 'group_search_filter'] as const) {
    if (!isFilter(options[name])) report(name, 'not a filter: parentheses around each part, only the known {names}');
  }
  if (options.refusal_ms > options.timeout_ms) report('refusal_ms', 'must not be longer than timeout_ms');
}

/** The options of an `ldap` provider as they stand in the config file. */
export const ldapSchema = shape
  .superRefine((options, context) => {
    problems(options, (path, message) => context.addIssue({ code: 'custom', path: [path], message }));
  })
  .transform((options) => ({
    ...options,
    user_base_dn: options.user_base_dn ?? options.base_dn,
    group_base_dn: options.group_base_dn ?? options.base_dn,
    // zod cannot know what a Secret holds; the schema above lets only texts in.
    bind_password: options.bind_password as Secret | undefined,
  }));

/** Checked options with defaults filled in. */
export type LdapOptions = z.output<typeof ldapSchema>;

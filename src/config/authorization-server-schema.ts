/** The authorization server of the gateway's own accounts: agents log in by browser, knowing only an address. */
import { z } from 'zod';

const registration = z.strictObject({
  enabled: z.boolean().default(true).describe('clients may register themselves (RFC 7591)'),
  per_hour: z.int().min(1).max(100_000).default(20).describe('registrations of each address'),
  max_clients: z.int().min(1).max(1_000_000).default(1000).describe('registered clients; more are refused'),
  unused_hours: z.int().min(1).max(8760).default(24).describe('a client nobody has let in is forgotten after that'),
  idle_days: z.int().min(1).max(3650).default(90).describe('a client nobody uses any more is forgotten after that'),
});

const clientDocuments = z.strictObject({
  enabled: z
    .boolean()
    .default(true)
    .describe('clients may name themselves by the https address of a document (CIMD); private addresses are refused'),
  cache_seconds: z.int().min(60).max(86_400).default(3600).describe('how long a document is remembered at most'),
  max_bytes: z.int().min(512).max(65_536).default(5120),
  timeout_ms: z.int().min(100).max(10_000).default(2500),
});

const provision = z.strictObject({
  roles: z
    .array(z.string().min(1).max(32))
    .max(100)
    .default([])
    .describe('roles that providers may give; the first that somebody has there, as role_map of the provider says'),
  default_role: z.string().min(1).max(32).default('viewer').describe('for everybody else; never admin'),
});

/** `accounts.authorization_server` */
export const authorizationServerSchema = z.strictObject({
  enabled: z
    .boolean()
    .default(false)
    .describe('serves /oauth: login, consent and tokens for agents that know nothing but the gateway’s address'),
  issuer: z
    .string()
    .max(512)
    .regex(/^https?:\/\/[^\s?#@\\]+$/, 'an http or https address without query, fragment and user')
    .transform((text) => text.replace(/\/$/, ''))
    .optional()
    .describe('default: public_url'),
  access_seconds: z.int().min(60).max(86_400).default(900).describe('life of an access token; agents refresh it'),
  code_seconds: z.int().min(10).max(600).default(60).describe('life of an authorization code'),
  refresh_grace_seconds: z
    .number()
    .min(0)
    .max(10)
    .default(0)
    .describe(
      'how long after a refresh the same token gets the same answer again, while the new one is unused; 0: requests that were on their way before',
    ),
  login_seconds: z.int().min(60).max(86_400).default(3600).describe('how long a browser need not log in again'),
  requests_per_minute: z.int().min(1).max(1_000_000).default(60).describe('logins that one address may begin'),
  providers: z
    .array(z.string().min(1).max(128))
    .max(20)
    .default([])
    .describe('names of kind oidc providers that people may log in at instead of typing a password here'),
  provision: z
    .union([z.literal(false), provision])
    .prefault({})
    .describe('accounts made by the first login at a provider; false: only those log in that have one'),
  registration: registration.prefault({}),
  client_documents: clientDocuments.prefault({}),
});

/** Checked `accounts.authorization_server` section. */
export type AuthorizationServerConfig = z.output<typeof authorizationServerSchema>;

/** Accounts the gateway keeps itself: people with a password, and programs with keys they made. */
import { z } from 'zod';
import type { Secret } from '../core/secret.ts';
import { authorizationServerSchema } from './authorization-server-schema.ts';

const word = z.string().regex(/^[a-z][a-z0-9_-]{0,31}$/, 'a name: lower-case letters, digits, "_" and "-"');

const role = z.strictObject({
  permissions: z.array(z.string().min(1).max(128)).max(500),
  own_only: z.boolean().default(false).describe('what belongs to another account is not for this role'),
});

const STANDARD = [
  'tasks.create',
  'tasks.read',
  'tasks.update',
  'tasks.delete',
  'memory.read',
  'memory.write',
  'agents.query',
  'stats.read',
];

/** The roles an installation begins with; `accounts.roles` adds to them and may replace all but `admin`. */
export const STANDARD_ROLES = {
  admin: { permissions: ['*'], own_only: false },
  user: { permissions: STANDARD, own_only: true },
  viewer: { permissions: ['tasks.read', 'memory.read'], own_only: false },
} as const satisfies Record<string, z.output<typeof role>>;

const password = z.strictObject({
  rule: z
    .enum(['nist', 'classic'])
    .default('nist')
    .describe('nist: 15 characters or more, none of the known ones; classic: 8 or more of four classes'),
  history: z.int().min(0).max(50).default(5).describe('how many former passwords may not come back'),
  memory_kib: z.int().min(8192).max(1_048_576).default(19_456).describe('argon2id memory of one hash'),
  passes: z.int().min(1).max(20).default(2).describe('argon2id passes'),
  concurrency: z.int().min(1).max(64).default(2).describe('hashes at the same time; the rest waits'),
  queue: z.int().min(1).max(10_000).default(100).describe('hashes that may wait; more are refused with 503'),
});

const limits = z.strictObject({
  login_per_minute: z.int().min(1).max(1_000_000).default(5).describe('for each name, and failed ones of each address'),
  register_per_hour: z.int().min(1).max(1_000_000).default(3).describe('for each address'),
  verify_per_minute: z
    .int()
    .min(1)
    .max(1_000_000)
    .default(200)
    .describe('keys and refresh tokens that were no good, for each address'),
});

const lockout = z.strictObject({
  failures: z.int().min(1).max(1000).default(5),
  seconds: z.int().min(1).max(86_400).default(900).describe('the first lock; each further one lasts twice as long'),
  max_seconds: z.int().min(1).max(604_800).default(14_400),
});

const mfa = z.strictObject({
  issuer: z
    .string()
    .regex(/^[^\p{C}:]{1,64}$/u, 'a name without ":"')
    .default('Portcullis')
    .describe('what authenticator apps show beside the code'),
  required_roles: z
    .array(word)
    .max(100)
    .default([])
    .describe('roles that can do nothing but enrol until a second factor was shown'),
});

const sessions = z.strictObject({
  idle_seconds: z
    .int()
    .min(120)
    .max(604_800)
    .default(1800)
    .describe('a browser’s session ends when it was not used for so long'),
  absolute_seconds: z.int().min(300).max(2_592_000).default(43_200).describe('from login to its end, used or not'),
});

function tokens(secret: z.ZodType<Secret, string | Secret>) {
  return z.strictObject({
    algorithm: z.enum(['EdDSA', 'ES256', 'RS256', 'HS256']).default('EdDSA'),
    secret: secret.optional().describe('for HS256 only; at least 32 bytes. Whoever has it can make tokens'),
    access_seconds: z
      .int()
      .min(60)
      .max(86_400)
      .default(86_400)
      .describe('life of an access token; 900 is a good choice where clients refresh by themselves'),
    refresh_seconds: z.int().min(3600).max(31_536_000).default(2_592_000).describe('life of a session'),
    issuer: z.string().min(1).max(512).optional().describe('default: public_url, or a name of the database’s pepper'),
    audience: z.string().min(1).max(512).optional().describe('default: the issuer'),
    rotate_days: z
      .int()
      .min(1)
      .max(3650)
      .default(30)
      .describe('age at which a signing key is replaced, those of identity tokens too'),
  });
}

/** `secret` is the schema of a secret, handed in because it lives with the rest of the configuration. */
export function accountsSchema(secret: z.ZodType<Secret, string | Secret>) {
  return z
    .strictObject({
      enabled: z.boolean().default(false).describe('serves /auth/register, /auth/login and the rest'),
      self_registration: z
        .boolean()
        .default(false)
        .describe('anybody may make an account; refused in production mode. Administrators always may'),
      tenant: z.string().min(1).max(64).default('default').describe('tenant of the accounts'),
      default_role: word.default('user').describe('role of an account that registered itself'),
      roles: z.record(word, role).default({}).describe('roles besides admin, user and viewer'),
      key_max_days: z.int().min(1).max(3650).default(365).describe('the longest life of a key an account makes'),
      bootstrap_token: secret
        .optional()
        .describe('lets whoever shows it register the first administrator, and only the first'),
      password: password.prefault({}),
      tokens: tokens(secret).prefault({}),
      mfa: mfa.prefault({}),
      sessions: sessions.prefault({}),
      lockout: lockout.prefault({}),
      authorization_server: authorizationServerSchema.prefault({}),
      limits: limits.prefault({}),
    })
    .superRefine((options, context) => {
      const report = (path: string[], message: string) => context.addIssue({ code: 'custom', path, message });
      const { algorithm, secret: key } = options.tokens;
      if (algorithm === 'HS256' && key === undefined)
        report(['tokens', 'secret'], 'HS256 needs a secret of at least 32 bytes (JWT_SECRET_KEY)');
      if (algorithm !== 'HS256' && key !== undefined)
        report(['tokens', 'secret'], `a secret is for HS256; ${algorithm} makes its own keys`);
      if (key !== undefined && Buffer.byteLength(String(key.reveal())) < 32)
        report(['tokens', 'secret'], 'must have at least 32 bytes');
      const boot = options.bootstrap_token;
      if (boot !== undefined && String(boot.reveal()).length < 22)
        report(['bootstrap_token'], 'must have at least 22 characters');
      if (options.roles.admin !== undefined) report(['roles', 'admin'], 'admin stands for everything');
      if (options.default_role === 'admin') report(['default_role'], 'nobody becomes an administrator by registering');
      if (!Object.hasOwn({ ...STANDARD_ROLES, ...options.roles }, options.default_role))
        report(['default_role'], 'there is no such role');
      for (const name of options.mfa.required_roles) {
        if (!Object.hasOwn({ ...STANDARD_ROLES, ...options.roles }, name))
          report(['mfa', 'required_roles'], `there is no role "${name}"`);
      }
    });
}

/** Checked `accounts` section. */
export type AccountsConfig = z.output<ReturnType<typeof accountsSchema>>;

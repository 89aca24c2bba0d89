/**
 * The configuration's shape. Unknown keys are refused everywhere; every default stands here and nowhere else.
 * `config/schema.json` is generated from it. Source: contracts 1 and 5.
 */
import { z } from 'zod';
import { SENSITIVITIES } from '../core/call.ts';
import { OWN_MODULE } from '../core/own-module.ts';
import { Secret } from '../core/secret.ts';
import { accountsSchema } from './accounts-schema.ts';
import { approvalsSchema } from './approvals-schema.ts';
import { bundleFileSchema, bundleServiceSchema } from './bundle-schema.ts';
import { decisionApiSchema } from './decision-api-schema.ts';
import { decisionLogSchema, shadowSchema, statusReportsSchema } from './decision-log-schema.ts';
import { identityTokenSchema } from './identity-token-schema.ts';
import { keyServiceSchema } from './key-service-schema.ts';
import { scopesSchema } from './scope-schema.ts';
import { toolsSchema } from './tool-schema.ts';

const name = z
  .string()
  .regex(/^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$/, 'a name: letters, digits, "_", "." and "-", at most 64');
const ms = z.int().min(1).max(86_400_000);
const address = z.string().regex(/^(\[[0-9a-fA-F:.]+\]|[^:\s]+):\d{1,5}$/, 'HOST:PORT, e.g. 127.0.0.1:8080');
const httpUrl = z.url({
  protocol: /^https?$/,
  hostname: /.+/,
  error: 'expected an http or https address such as http://127.0.0.1:7001/mcp',
});
/** Loading turns secret texts (`${env:…}`, `${file:…}`) into Secret; a literal is accepted and wrapped too. */
export const secret = z
  .union([z.custom<Secret>((value) => value instanceof Secret), z.string().min(1)])
  .transform((value) => (value instanceof Secret ? value : new Secret(value)))
  .meta({ type: 'string', secret: true });

const tls = z.strictObject({
  cert: z.string().describe('PEM file with the certificate chain; re-read when it changes'),
  key: z.string().describe('PEM file with the private key'),
  client_ca: z.string().optional().describe('PEM bundle; asks clients for a certificate of one of these CAs'),
});

const listener = z.union([address, z.strictObject({ address, tls: tls.optional() })]);
const opened = (value: z.output<typeof listener>) =>
  typeof value === 'string' ? { address: value, tls: undefined } : value;

const listen = z.strictObject({
  data: listener.default('127.0.0.1:8080').transform(opened),
  auth: listener
    .transform(opened)
    .optional()
    .describe('one more listener, with `/auth` and the public keys of access tokens only'),
  admin: z
    .strictObject({
      address: address.default('127.0.0.1:9090'),
      token: secret
        .optional()
        .describe('bearer token of the administration listener; without one only health and metrics are served'),
      tls: tls.optional(),
    })
    .prefault({}),
});

const limits = z.strictObject({
  body_bytes: z.int().min(1024).max(1_073_741_824).default(10_485_760),
  header_bytes: z.int().min(1024).max(1_048_576).default(16_384),
  header_count: z.int().min(10).max(1000).default(100),
  target_bytes: z.int().min(256).max(65_536).default(8192).describe('path and query'),
  headers_timeout_ms: ms.default(10_000),
  request_timeout_ms: ms.default(30_000).describe('until the whole request body is there'),
  keep_alive_ms: ms.default(65_000),
  write_timeout_ms: ms.default(30_000).describe('how long a client may take nothing of its answer'),
  connections: z.int().min(1).default(10_000),
  connections_per_ip: z.int().min(1).default(1000),
  drain_ms: ms.default(15_000).describe('how long a stop waits for requests in flight'),
  max_in_flight: z.int().min(1).default(5000),
});

const breaker = z.strictObject({
  volume: z.int().min(1).default(5).describe('faults needed before it can open'),
  error_percentage: z.int().min(1).max(100).default(50),
  window_ms: ms.default(10_000),
  reset_ms: ms.default(60_000).describe('how long it stays open before one probe'),
});

const pool = z.strictObject({
  max_connections: z.int().min(1).max(10_000).default(100),
  max_keepalive: z.int().min(0).max(10_000).default(20),
  keepalive_expiry_ms: ms.default(30_000),
  connect_timeout_ms: ms.default(10_000),
});

const upstreamOptions = {
  headers_timeout_ms: ms.default(30_000).describe('until response headers'),
  idle_timeout_ms: ms.default(300_000).describe('between two pieces of a response body'),
  breaker: breaker.prefault({}),
  pool: pool.prefault({}),
  ca: z.string().optional().describe('PEM bundle of the upstream’s certificate authority'),
  identity_token: identityTokenSchema.optional(),
};

const sensitivity = z.enum(SENSITIVITIES);

const credential = z.union([
  secret,
  z.strictObject({ header: z.string().default('authorization').describe('the header it is sent in'), value: secret }),
]);

export const DIALECTS = [
  'postgres',
  'mysql',
  'mariadb',
  'sqlite',
  'tsql',
  'oracle',
  'snowflake',
  'bigquery',
  'duckdb',
  'redshift',
] as const;
const dialectAliases: Record<string, string> = { postgresql: 'postgres', transactsql: 'tsql', mssql: 'tsql' };
const dialect = z
  .string()
  .transform((value) => dialectAliases[value.toLowerCase()] ?? value.toLowerCase())
  .pipe(z.enum(DIALECTS))
  .describe(`of a sql server: ${DIALECTS.join(', ')}`);

const server = z.strictObject({
  type: z.string().min(1).default('custom').describe('sql, api, file, k8s, llm, custom or a registered type'),
  dialect: dialect.optional(),
  url: httpUrl.describe('the MCP endpoint'),
  description: z.string().optional(),
  environment: z.string().optional().describe('where its data lives; production raises medium and high by one'),
  region: z.string().optional().describe('where it runs, for policies'),
  data_region: z.string().optional().describe('where its data may be read from, for the GDPR rules'),
  owner_team: z.string().optional().describe('who answers for it, for policies'),
  tags: z.array(z.string()).default([]).describe('words that policies look at, e.g. phi'),
  sensitivity_level: sensitivity.optional().describe('for tools that cannot be classified; not a floor'),
  sensitivity_floor: sensitivity.optional().describe('the least sensitivity of all its tools; only raises'),
  enabled: z.boolean().default(true).describe('false refuses every call with SERVER_DISABLED'),
  allow: z
    .array(z.enum(['sampling', 'elicitation', 'roots']))
    .default([])
    .describe('requests this server may send back to clients'),
  credential: credential.optional().describe('sent upstream; the caller never sees it'),
  tools: toolsSchema,
  ...upstreamOptions,
});

const model = z.strictObject({
  url: httpUrl.describe('base URL of the API, with its version segment, e.g. http://127.0.0.1:7003/v1'),
  protocol: z.enum(['openai']).default('openai'),
  credential: credential.optional(),
  serves: z
    .array(z.string())
    .default([])
    .describe(
      'model names this entry answers; empty: the entry’s own name, and any name where it is the route’s only model',
    ),
  ...upstreamOptions,
});

const permissionRule = z.union([
  z.array(z.string()).transform((allOf) => ({ allOf })),
  z.strictObject({ allOf: z.array(z.string()).optional(), anyOf: z.array(z.string()).optional() }),
]);

const routeBase = {
  match: z
    .string()
    .regex(/^\/[^?#]*$/, 'a path such as /mcp/orders')
    .transform((path) => (path.length > 1 ? path.replace(/\/+$/, '') : path)),
  identity: z.array(name).default([]).describe('identity providers, in the order they are tried'),
  anonymous: z.boolean().default(false).describe('let requests without any credential pass as anonymous'),
  entrypoint: z
    .string()
    .optional()
    .describe('the policy entrypoint of this route, whatever the policy itself says of it'),
  tenant_header: z.boolean().default(false).describe('tells the upstream the caller’s tenant in X-Tenant-Id'),
  user_header: z.boolean().default(false).describe('tells the upstream the caller’s id in X-User-Id as well'),
  body_bytes: z.int().min(1).optional().describe('instead of limits.body_bytes'),
  scopes: scopesSchema.describe('OAuth scopes that every caller must have been granted'),
};

/** Not for what the gateway answers itself: who may approve is nothing to try out. */
const mode = z
  .enum(['enforce', 'report'])
  .default('enforce')
  .describe('report lets through what the policy refuses, and records what would have happened');

const route = z.discriminatedUnion('protocol', [
  z.strictObject({
    ...routeBase,
    protocol: z.literal('mcp'),
    mode,
    server: name,
    denial: z
      .enum(['error', 'result'])
      .default('error')
      .describe('how a denied call is told: a JSON-RPC error, or a result that a model reads'),
  }),
  z.strictObject({
    ...routeBase,
    protocol: z.literal('llm'),
    mode,
    model: name.optional().describe('the one entry of models behind this route'),
    models: z.array(name).min(1).optional().describe('several, told apart by the model names they serve'),
  }),
  z.strictObject({
    ...routeBase,
    protocol: z.literal('http'),
    mode,
    url: httpUrl,
    rewrite: z.string().optional().describe('replaces the match in the path sent upstream'),
    permissions: z
      .record(
        z.string().transform((m) => m.toUpperCase()),
        permissionRule,
      )
      .default({}),
    credential: credential.optional(),
    ...upstreamOptions,
  }),
  z.strictObject({ ...routeBase, protocol: z.literal('tools'), mode }),
  z.strictObject({ ...routeBase, protocol: z.literal('api') }),
]);

const classificationRule = z.strictObject({
  server_type: z.string().min(1),
  tool: z.string().min(1).describe('a regular expression on the tool name, linear time'),
  parameter: z.string().optional().describe('name of a parameter the pattern below is tried on'),
  pattern: z.string().optional(),
  type: z.string().min(1),
  sensitivity: sensitivity.optional(),
  reason: z.string().regex(/^[a-z0-9_:-]+$/),
});

const classification = z.strictObject({
  sensitive_resources: z
    .array(z.string())
    .default(['users', 'credentials', 'secrets', 'keys'])
    .describe('names that raise to at least high, singular and plural'),
  rules: z.array(classificationRule).default([]),
});

const policy = z.strictObject({
  bundle: z
    .union([z.string(), bundleFileSchema(secret), bundleServiceSchema({ httpUrl, credential, secret })])
    .default('./policies')
    .describe(
      'directory with .rego files and the compiled bundle, or a bundle file; or one that is signed; or a service',
    ),
  max_age_seconds: z
    .int()
    .min(1)
    .optional()
    .describe('without a word of the bundle service for so long, the policy is reported as stale'),
  entrypoint: z
    .string()
    .default('portcullis/main/decision')
    .describe('decides on routes for which neither the route nor the policy’s metadata names an entrypoint'),
  data: z.string().optional().describe('JSON data document; default: data.json in the bundle directory'),
  watch: z.boolean().default(true).describe('recompile and reload when a file changes'),
  decision_log: decisionLogSchema(secret).optional(),
  status_reports: statusReportsSchema(secret).optional().describe('a service that takes OPA’s status reports'),
  shadow: shadowSchema.optional().describe('a candidate that is asked about the same calls and decides none'),
  report_only_in_production: z
    .boolean()
    .default(false)
    .describe('lets routes with `mode: report` exist in production mode'),
  cache: z
    .strictObject({
      entries: z.int().min(0).max(10_000_000).default(10_000),
      base_ttl_ms: ms
        .default(60_000)
        .describe('how long a medium decision is remembered; low twice, high half as long'),
    })
    .prefault({}),
});

const stores = z.strictObject({
  database: z
    .string()
    .regex(
      /^(sqlite:.|postgres(ql)?:\/\/.)/,
      'expected sqlite:FILE, sqlite::memory: or postgres://USER:PASSWORD@HOST/NAME',
    )
    .default('sqlite:./portcullis.db')
    .describe('sqlite:FILE for one machine, postgres://… for several'),
  shared: z
    .union([
      z
        .string()
        .regex(
          /^(memory$|rediss?:\/\/.)/,
          'expected memory, redis://HOST:PORT, rediss://HOST:PORT or a module of your own',
        ),
      z.strictObject(OWN_MODULE),
    ])
    .default('memory')
    .describe('counters, limits and revocations: memory for one process, redis://… for several, or your own module'),
  shared_ca: z.string().optional().describe('PEM bundle of the authority of a rediss:// server; default: the system’s'),
  blobs: z.string().default('file:./blobs').describe('nothing is kept there yet'),
  pepper: secret.optional().describe('mixed into API key hashes; made once and kept beside the database when absent'),
});

const audit = z.strictObject({
  mode: z
    .enum(['best-effort', 'off'])
    .default('best-effort')
    .describe('off records nothing: for measuring and for throw-away set-ups; refused in production'),
  file: z.string().default('./audit.jsonl'),
  redact: z
    .array(z.string())
    .default([])
    .describe('parameter names whose values are never written, besides the built-in ones'),
  max_value_bytes: z.int().min(64).max(1_048_576).default(4096),
});

const logging = z.strictObject({
  level: z.enum(['debug', 'info', 'warn', 'error']).default('info'),
  levels: z.record(z.string(), z.enum(['debug', 'info', 'warn', 'error'])).default({}),
});

const cors = z.strictObject({
  origins: z.array(z.string()).default([]).describe('exact origins; browsers of other origins are refused'),
  credentials: z.boolean().default(false),
  max_age_seconds: z.int().min(0).default(600),
});

const limitRule = z.strictObject({
  name: z.string().regex(/^[a-z][a-z0-9_-]{0,31}$/, 'a short name: lower-case letters, digits, "_" and "-"'),
  limit: z.int().min(1).max(100_000_000).describe('requests'),
  window_seconds: z.int().min(1).max(86_400).describe('in this time; a bucket that fills up steadily'),
  per: z.enum(['principal', 'key', 'address', 'tenant']).default('principal'),
  routes: z.array(z.string()).default([]).describe('only these, each counted apart; empty: all together'),
  roles: z.array(z.string()).default([]).describe('only callers with one of these'),
  types: z.array(z.enum(['user', 'service', 'agent', 'anonymous'])).default([]),
  methods: z
    .array(z.enum(['bearer', 'api-key', 'basic', 'client-cert', 'auth-code', 'session', 'none']))
    .default([])
    .describe('only callers who authenticated like this'),
});

const rateLimit = z.strictObject({
  window_ms: ms.default(60_000).describe('the window whose count policies read'),
  limits: z.array(limitRule).max(50).default([]).describe('checked before the policy; all that apply must hold'),
  refused_per_address: z
    .strictObject({ limit: z.int().min(1), window_seconds: z.int().min(1).max(86_400) })
    .optional()
    .describe('refused credentials of one network, after which it is not listened to for a while'),
});

/** `providers` is the union of the identity modules' schemas, handed in by modules.ts: config imports no plug-in. */
export function configSchema<P extends z.ZodType<{ kind: string }>>(providers: P) {
  return z.strictObject({
    version: z.literal(1),
    mode: z.enum(['development', 'production']).default('development'),
    environment: z
      .enum(['development', 'staging', 'production'])
      .default('development')
      .describe('API key prefix: dev, test or live'),
    public_url: httpUrl.optional(),
    listen: listen.prefault({}),
    trusted_proxies: z.array(z.string()).default([]).describe('CIDR ranges whose forwarded facts are believed'),
    allowed_hosts: z
      .array(z.string())
      .default([])
      .describe('Host names that are answered besides the listener’s own; empty in production means any'),
    regions: z.record(z.string(), z.string()).default({}).describe('CIDR to region name of clients'),
    cors: cors.prefault({}),
    limits: limits.prefault({}),
    identity: z.record(name, providers).default({}),
    servers: z.record(name, server).default({}),
    models: z.record(name, model).default({}),
    routes: z.array(route).default([]),
    classification: classification.prefault({}),
    policy: policy.prefault({}),
    rate_limit: rateLimit.prefault({}),
    decision_api: decisionApiSchema.prefault({}),
    approvals: approvalsSchema(secret).prefault({}),
    key_service: keyServiceSchema.prefault({}),
    accounts: accountsSchema(secret).prefault({}),
    stores: stores.prefault({}),
    audit: audit.prefault({}),
    logging: logging.prefault({}),
  });
}

type Schema = ReturnType<typeof configSchema<z.ZodType<{ kind: string }>>>;
/** A checked configuration: defaults filled in, secrets wrapped. */
export type Config = z.output<Schema>;
/** The same as a person may write it. */
export type ConfigInput = z.input<Schema>;
export type ServerConfig = Config['servers'][string];
export type ModelConfig = Config['models'][string];
export type RouteConfig = Config['routes'][number];
export type UpstreamOptions = Pick<ServerConfig, 'headers_timeout_ms' | 'idle_timeout_ms' | 'breaker' | 'pool' | 'ca'>;
export type CredentialConfig = NonNullable<ServerConfig['credential']>;

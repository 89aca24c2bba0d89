/**
 * `portcullis keys`: API keys in the database that the configuration names, or at an external key service. Source:
 * contracts 5, acceptance HW-07, HW-09.
 */

import { z } from 'zod';
import { suggestion } from '../config/problem.ts';
import { systemClock } from '../core/clock.ts';
import type { Secret } from '../core/secret.ts';
import { type IssuedKey, issueKey, type KeyIssuing, revokeKey, rotateKey } from '../identity/key-issuing.ts';
import { type ApiKeyRecord, createApiKeyStore, EVERY_TENANT } from '../stores/api-keys.ts';
import { openDatabase } from '../stores/database.ts';
import { loadPepper } from '../stores/pepper.ts';
import { configFile, requireConfig } from './config-file.ts';
import { CommandError, EXIT, type Io, line, UsageError } from './io.ts';
import { findKeyService } from './key-service-calls.ts';
import { remoteKeys } from './keys-remote.ts';
import { rolesOfPolicy, unknownRoles } from './policy-roles.ts';
import { printable } from './printable.ts';
import { table } from './table.ts';
import { readArguments, USUAL_OPTIONS } from './usual-options.ts';

export const KEYS_HELP = `Usage: portcullis keys create --name NAME [options]
       portcullis keys list [--tenant T] [--owner ID]
       portcullis keys rotate ID [--grace-hours N]
       portcullis keys revoke ID --yes

Makes and withdraws API keys. The text of a key is printed once and kept nowhere.

create:
  --name NAME            what the key is for (required)
  --role R               a role of its principal; may be repeated, as the next four
  --permission P         a permission
  --scope S              a scope
  --team T               a team
  --allowed-ip ADDRESS   an address or CIDR range it may be used from
  --type TYPE            service (default), user or agent
  --owner ID             principal id (default: key:NAME)
  --tenant T             tenant (default: default)
  --expires-in-days N    default: never
  --rate-limit N         requests per hour
rotate:
  --grace-hours N        how long the old key stays good (default 24)
list:
  --format table|json    default: table
with a key service (--service URL or $HOKUSAI_AUTH_SERVICE_URL, unless -c is given), as $HOKUSAI_ADMIN_TOKEN:
  --service URL          where it is
  --profile NAME         a section of ~/.hokusai/config (default: $HOKUSAI_PROFILE)
  --service-id NAME      what the new key is for (default: ml-platform)
  --environment ENV      production (default), test or development
everywhere:
  -c, --config FILE      default: $PORTCULLIS_CONFIG, portcullis.yaml, or the demo's
  --json                 print JSON
`;

const OPTIONS = {
  ...USUAL_OPTIONS,
  yes: { type: 'boolean' },
  name: { type: 'string' },
  role: { type: 'string', multiple: true },
  permission: { type: 'string', multiple: true },
  scope: { type: 'string', multiple: true },
  team: { type: 'string', multiple: true },
  'allowed-ip': { type: 'string', multiple: true },
  type: { type: 'string' },
  owner: { type: 'string' },
  tenant: { type: 'string' },
  'expires-in-days': { type: 'string' },
  'rate-limit': { type: 'string' },
  'grace-hours': { type: 'string' },
  service: { type: 'string' },
  profile: { type: 'string' },
  'service-id': { type: 'string' },
  environment: { type: 'string' },
  format: { type: 'string' },
} as const;

/** The options of `keys`. */
export type KeysValues = ReturnType<typeof parse>['values'];
type Values = KeysValues;

const parse = (argv: readonly string[]) => readArguments(argv, OPTIONS);

const COMMANDS = ['create', 'list', 'rotate', 'revoke'];

/** Runs one `keys` command; resolves with the exit code. */
export async function keysCommand(argv: readonly string[], io: Io): Promise<number> {
  const { values, positionals } = parse(argv);
  if (values.help) {
    io.out(KEYS_HELP);
    return EXIT.ok;
  }
  const [command, id, ...rest] = positionals;
  const takesId = command === 'rotate' || command === 'revoke';
  if (command !== 'create' && command !== 'list' && !takesId) {
    throw new UsageError(`keys needs create, list, rotate or revoke${suggestion(command ?? '', COMMANDS)}`);
  }
  if (takesId !== (id !== undefined) || rest.length > 0) {
    throw new UsageError(takesId ? `keys ${command} needs one key id` : `keys ${command} takes no argument`);
  }
  if (command === 'revoke' && !values.yes) throw new UsageError('keys revoke cannot be undone: add --yes');
  if (values.format !== undefined && values.format !== 'table' && values.format !== 'json') {
    throw new UsageError('--format is table or json');
  }
  const service = serviceOf(values, io);
  if (service !== null) return await remoteKeys(service, command, id ?? '', values, io);
  if (values.environment !== undefined || values['service-id'] !== undefined) {
    throw new UsageError('--environment and --service-id are for a key service: name one with --service');
  }
  const opened = await open(values, io);
  await using _database = opened.database;
  const { issuing } = opened;
  // `await`: the database must stay open until the command has ended.
  if (command === 'create') {
    for (const warning of unknownRoles(values.role ?? [], opened.roles)) io.err(`warning: ${printable(warning)}\n`);
    return await create(issuing, values, io);
  }
  if (command === 'list') return await list(issuing, values, io);
  if (command === 'rotate') return await rotate(issuing, id ?? '', values, io);
  return await revoke(issuing, id ?? '', io);
}

/** A configuration that is named is meant, whatever the environment says. */
function serviceOf(values: Values, io: Io): string | null {
  if (values.config === undefined) return findKeyService(values, io);
  if (values.service !== undefined) throw new UsageError('give either --service or -c');
  return null;
}

async function open(values: Values, io: Io) {
  // Identity providers matter nothing here, so their options are left unread.
  const loaded = await requireConfig(configFile(values.config, io), io, z.looseObject({ kind: z.string() }));
  const { stores, environment } = loaded.config;
  const pepper = loadPepper(stores.database, loaded.baseDir, stores.pepper as Secret | undefined);
  const database = await openDatabase(stores.database, { baseDir: loaded.baseDir });
  const keys = createApiKeyStore(database);
  // One reading, so that what a command writes agrees to the millisecond.
  const now = systemClock.now();
  // A running gateway looks at the database itself: there is nobody to tell from here.
  const issuing: KeyIssuing = { keys, pepper, environment, clock: { now: () => now }, shared: null };
  return { database, issuing, roles: rolesOfPolicy(loaded.config.policy, loaded.baseDir) };
}

function amount(values: Values, name: 'expires-in-days' | 'rate-limit' | 'grace-hours', least: number): number | null {
  const text = values[name];
  if (text === undefined) return null;
  const value = Number(text);
  if (/^\d{1,6}$/.test(text) && value >= least) return value;
  throw new UsageError(`--${name} must be a whole number from ${least} to 999999`);
}

async function create(issuing: KeyIssuing, values: Values, io: Io): Promise<number> {
  const name = values.name?.trim() ?? '';
  if (name === '') throw new UsageError('keys create needs --name');
  const type = values.type ?? 'service';
  if (type !== 'service' && type !== 'user' && type !== 'agent')
    throw new UsageError('--type is service, user or agent');
  const days = amount(values, 'expires-in-days', 1);
  const issued = await issueKey(issuing, {
    name,
    tenant_id: values.tenant ?? 'default',
    type,
    ...(values.owner === undefined ? {} : { owner_id: values.owner }),
    roles: values.role ?? [],
    permissions: values.permission ?? [],
    scopes: values.scope ?? [],
    teams: values.team ?? [],
    allowed_ips: values['allowed-ip'] ?? [],
    rate_limit_per_hour: amount(values, 'rate-limit', 1),
    expires_at: days === null ? null : issuing.clock.now() + days * 86_400_000,
  }).catch((error: unknown) => {
    throw error instanceof TypeError ? new UsageError(error.message) : error;
  });
  print(issued, values, io);
  return EXIT.ok;
}

/** The text of the key goes to standard output, all there is to say about it to standard error. */
function print({ record, key }: IssuedKey, values: Values, io: Io): void {
  if (values.json) {
    line(io, JSON.stringify({ api_key: key.reveal(), ...shown(record) }));
    return;
  }
  line(io, key.reveal());
  io.err(`Key ${record.id} (${record.name}) is shown this once; keep it safe.\n`);
}

const time = (ms: number | null) => (ms === null ? null : new Date(ms).toISOString());

/** What may be seen of a key: everything but its hash. */
function shown(record: ApiKeyRecord) {
  const { facts } = record;
  return {
    key_id: record.id,
    name: record.name,
    tenant_id: record.tenant_id,
    owner_id: record.owner_id,
    environment: record.environment,
    type: facts.type,
    roles: facts.roles,
    permissions: facts.permissions,
    scopes: facts.scopes,
    allowed_ips: facts.allowed_ips,
    rate_limit_per_hour: facts.rate_limit_per_hour,
    created_at: time(record.created_at),
    expires_at: time(record.expires_at),
    revoked_at: time(record.revoked_at),
    last_used: time(record.last_used_at),
    replaced_by: record.replaced_by,
  };
}

async function list(issuing: KeyIssuing, values: Values, io: Io): Promise<number> {
  const items: ReturnType<typeof shown>[] = [];
  for (let after: string | undefined; ; ) {
    const page = await issuing.keys.list(values.tenant ?? EVERY_TENANT, {
      limit: 1000,
      ...(values.owner === undefined ? {} : { owner_id: values.owner }),
      ...(after === undefined ? {} : { after }),
    });
    items.push(...page.map(shown));
    after = page.at(-1)?.id;
    if (page.length < 1000) break;
  }
  if (values.json || values.format === 'json') line(io, JSON.stringify({ items }));
  else printKeys(items, issuing.clock.now(), io);
  return EXIT.ok;
}

function printKeys(items: readonly ReturnType<typeof shown>[], now: number, io: Io): void {
  const state = (item: (typeof items)[number]) => {
    if (item.revoked_at !== null) return 'revoked';
    if (item.expires_at !== null && Date.parse(item.expires_at) <= now) return 'expired';
    return item.replaced_by === null ? 'good' : 'replaced';
  };
  const rows = [
    ['ID', 'NAME', 'TENANT', 'ENV', 'ROLES', 'STATE', 'EXPIRES', 'LAST USED'],
    ...items.map((item) => [
      item.key_id,
      printable(item.name),
      printable(item.tenant_id),
      item.environment,
      printable(item.roles.join(',')) || '-',
      state(item),
      item.expires_at ?? '-',
      item.last_used ?? '-',
    ]),
  ];
  table(rows, io);
}

async function tenantOf(issuing: KeyIssuing, id: string): Promise<string> {
  const record = await issuing.keys.find(id);
  if (record === null) throw new CommandError(`there is no key ${id}`);
  return record.tenant_id;
}

async function rotate(issuing: KeyIssuing, id: string, values: Values, io: Io): Promise<number> {
  const hours = amount(values, 'grace-hours', 0) ?? 24;
  const issued = await rotateKey(issuing, await tenantOf(issuing, id), id, hours * 3_600_000);
  if (issued === null) throw new CommandError(`key ${id} is revoked, expired or was rotated before`);
  print(issued, values, io);
  return EXIT.ok;
}

async function revoke(issuing: KeyIssuing, id: string, io: Io): Promise<number> {
  await revokeKey(issuing, await tenantOf(issuing, id), id);
  io.err(`Key ${id} is revoked.\n`);
  return EXIT.ok;
}

/**
 * `portcullis switch`: principals, keys, tenants, servers and tools off and on, in the database that the configuration
 * names. Every gateway on that database notices within a second, and it works while none answers. Source: contracts 5.
 */

import { userInfo } from 'node:os';
import { shownSwitch } from '../admin/switches.ts';
import { switchWarnings } from '../composition/switch-warnings.ts';
import { systemClock } from '../core/clock.ts';
import { createApiKeyStore } from '../stores/api-keys.ts';
import { openDatabase } from '../stores/database.ts';
import type { SwitchedOff, SwitchStore, SwitchTarget } from '../stores/switches.ts';
import { createSwitchStore, switchId } from '../stores/switches.ts';
import { configFile, requireConfig } from './config-file.ts';
import { CommandError, EXIT, type Io, line, UsageError } from './io.ts';
import { printable } from './printable.ts';
import { table } from './table.ts';
import { readArguments, USUAL_OPTIONS } from './usual-options.ts';

export const SWITCH_HELP = `Usage: portcullis switch off TARGET [--reason TEXT] [--until TIME]
       portcullis switch on TARGET | --id ID
       portcullis switch list

Switches something off, or back on, in every gateway that uses the same
database, within a second. Requests are refused with SWITCHED_OFF whatever the
policy says; streams and WebSockets that are open end.

TARGET is one of:
  --principal ID [--tenant T]   somebody, with whatever credential (tenant: default)
  --key ID                      one API key; unlike a revoked one it can come back
  --server S                    an MCP server, a model or an HTTP route (its match)
  --tool S:T                    tool T of server S
  --tenant T                    everybody of a tenant
off:
  --reason TEXT                 for the records
  --public                      callers may read the reason
  --until TIME                  comes back by itself: 2026-07-01T08:00:00Z, or 30m, 12h, 7d
everywhere:
  -c, --config FILE             default: $PORTCULLIS_CONFIG, portcullis.yaml, or the demo's
  --json                        print JSON
`;

const OPTIONS = {
  ...USUAL_OPTIONS,
  principal: { type: 'string' },
  tenant: { type: 'string' },
  key: { type: 'string' },
  server: { type: 'string' },
  tool: { type: 'string' },
  id: { type: 'string' },
  reason: { type: 'string' },
  public: { type: 'boolean' },
  until: { type: 'string' },
} as const;

const parse = (argv: readonly string[]) => readArguments(argv, OPTIONS);
type Values = ReturnType<typeof parse>['values'];

/** Runs one `switch` command; resolves with the exit code. */
export async function switchCommand(argv: readonly string[], io: Io): Promise<number> {
  const { values, positionals } = parse(argv);
  if (values.help) {
    io.out(SWITCH_HELP);
    return EXIT.ok;
  }
  const [command, ...rest] = positionals;
  if (rest.length > 0 || (command !== 'off' && command !== 'on' && command !== 'list')) {
    throw new UsageError('switch needs off, on or list');
  }
  checkOptions(command, values);
  // What was asked is read first: a mistake must not wait for the database.
  const now = systemClock.now();
  const target = command === 'list' || values.id !== undefined ? null : targetOf(values);
  if ((values.reason?.length ?? 0) > MAX_REASON) throw new UsageError(`--reason has at most ${MAX_REASON} characters`);
  const until = values.until === undefined ? null : timeOf(values.until, now);
  const { config, baseDir } = await requireConfig(configFile(values.config, io), io);
  await using database = await openDatabase(config.stores.database, { baseDir });
  const store = createSwitchStore(database);
  if (command === 'list') return await list(store, values, now, io);
  if (command === 'on') return await on(store, target === null ? (values.id ?? '') : switchId(target), values, io);
  if (target === null) throw new UsageError('switch off needs a target');
  const by = `cli:${userName()}`;
  const record: SwitchedOff = {
    ...target,
    id: switchId(target),
    reason: values.reason ?? '',
    is_public: values.public ?? false,
    created_at: now,
    created_by: by,
    until,
  };
  await store.off(record);
  const keys = createApiKeyStore(database);
  const warnings = await switchWarnings(target, config, async (id) => (await keys.find(id)) !== null);
  for (const warning of warnings) io.err(`warning: ${printable(warning)}\n`);
  return tell(record, 'off', values, io, { warnings });
}

function checkOptions(command: 'off' | 'on' | 'list', values: Values): void {
  const targets = ['principal', 'key', 'server', 'tool', 'tenant', 'id'] as const;
  const only = { off: ['reason', 'public', 'until'], on: ['id'], list: [] }[command];
  const allowed = new Set<string>([...only, ...(command === 'list' ? [] : targets.slice(0, -1))]);
  for (const name of [...targets, 'reason', 'public', 'until'] as const) {
    if (values[name] !== undefined && !allowed.has(name)) throw new UsageError(`switch ${command} takes no --${name}`);
  }
  if (values.id !== undefined && targets.slice(0, -1).some((name) => values[name] !== undefined)) {
    throw new UsageError('name a target or --id, not both');
  }
}

const MAX_NAME = 512;
const MAX_REASON = 500;

function targetOf({ principal, key, server, tool, tenant }: Values): SwitchTarget {
  const named = [principal, key, server, tool].filter((value) => value !== undefined);
  if (named.length > 1 || (named.length === 0 && tenant === undefined)) {
    throw new UsageError('name exactly one of --principal, --key, --server, --tool and --tenant');
  }
  if (principal !== undefined) return { kind: 'principal', name: name(principal), within: name(tenant ?? 'default') };
  if (named.length === 1 && tenant !== undefined) throw new UsageError('--tenant goes with --principal, or alone');
  if (key !== undefined) return { kind: 'key', name: name(key), within: '' };
  if (server !== undefined) return { kind: 'server', name: name(server), within: '' };
  if (tool === undefined) return { kind: 'tenant', name: name(tenant ?? ''), within: '' };
  const colon = tool.indexOf(':');
  if (colon < 0) throw new UsageError('--tool is SERVER:TOOL');
  return { kind: 'tool', name: name(tool.slice(colon + 1)), within: name(tool.slice(0, colon)) };
}

function name(text: string): string {
  if (text === '' || text.length > MAX_NAME || /\p{Cc}/u.test(text)) {
    throw new UsageError(`a name has 1 to ${MAX_NAME} characters and no control characters`);
  }
  return text;
}

const UNITS: Readonly<Record<string, number>> = { m: 60_000, h: 3_600_000, d: 86_400_000 };
const RFC3339 = /^\d{4}-\d\d-\d\dT\d\d:\d\d(?::\d\d(?:\.\d+)?)?(?:Z|[+-]\d\d:\d\d)$/;

/** Epoch milliseconds. */
function timeOf(text: string, now: number): number {
  const [, count, unit] = /^(\d{1,6})([mhd])$/.exec(text) ?? [];
  const at =
    count === undefined
      ? RFC3339.test(text)
        ? Date.parse(text)
        : Number.NaN
      : now + Number(count) * (UNITS[unit ?? ''] ?? 0);
  if (Number.isNaN(at)) throw new UsageError('--until is a time like 2026-07-01T08:00:00Z, or 30m, 12h, 7d');
  if (at <= now) throw new UsageError('--until must be in the future');
  return at;
}

function userName(): string {
  try {
    return userInfo().username;
  } catch {
    // A container may run as a user without a name.
    return String(process.getuid?.() ?? 'unknown');
  }
}

const what = ({ kind, name: of, within }: SwitchTarget) =>
  kind === 'tool'
    ? `tool ${within}:${of}`
    : kind === 'principal'
      ? `principal ${of} of tenant ${within}`
      : `${kind} ${of}`;

function tell(record: SwitchedOff, state: 'on' | 'off', values: Values, io: Io, more: object = {}): number {
  if (values.json) line(io, JSON.stringify({ ...shownSwitch(record), state, ...more }));
  else io.err(`${printable(what(record))} is ${state}${state === 'off' ? ` (${record.id})` : ''}.\n`);
  return EXIT.ok;
}

async function on(store: SwitchStore, id: string, values: Values, io: Io): Promise<number> {
  const record = await store.on(id);
  if (record === null) throw new CommandError('nothing of that name is switched off; see portcullis switch list');
  return tell(record, 'on', values, io);
}

async function list(store: SwitchStore, values: Values, now: number, io: Io): Promise<number> {
  const live = (await store.list()).filter(({ until }) => until === null || until > now);
  if (values.json) {
    line(io, JSON.stringify({ items: live.map(shownSwitch) }));
    return EXIT.ok;
  }
  if (live.length === 0) {
    io.err('Nothing is switched off.\n');
    return EXIT.ok;
  }
  const time = (ms: number | null) => (ms === null ? '-' : new Date(ms).toISOString());
  const rows = [
    ['ID', 'WHAT', 'SINCE', 'UNTIL', 'BY', 'REASON'],
    ...live.map((record) => [
      record.id,
      printable(what(record)),
      time(record.created_at),
      time(record.until),
      printable(record.created_by),
      printable(record.reason) || '-',
    ]),
  ];
  table(rows, io);
  return EXIT.ok;
}

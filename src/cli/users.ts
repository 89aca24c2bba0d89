/** `portcullis users`: accounts in the database that the configuration names. Source: acceptance V-25, V-38, VF-14. */

import { readFileSync } from 'node:fs';
import { resolve } from 'node:path';
import { z } from 'zod';
import { viewOf } from '../accounts/account.ts';
import { isUsername, USERNAME_RULE } from '../accounts/username.ts';
import { AccountAdministration, randomPassword } from '../composition/account-administration.ts';
import { accountIssuer } from '../composition/account-set.ts';
import { suggestion } from '../config/problem.ts';
import type { Config } from '../config/schema.ts';
import { systemClock } from '../core/clock.ts';
import { GatewayError, toGatewayError } from '../core/errors.ts';
import type { Secret } from '../core/secret.ts';
import { REVOKED, revokeToken } from '../identity/revocations.ts';
import { parseStrict } from '../protocols/json.ts';
import type { AccountRecord } from '../stores/accounts.ts';
import { type Database, openDatabase } from '../stores/database.ts';
import { openShared } from '../stores/open-shared.ts';
import { loadPepper } from '../stores/pepper.ts';
import type { EndedSession } from '../stores/sessions.ts';
import { configFile, requireConfig } from './config-file.ts';
import { linesOf, openInput } from './input-file.ts';
import { CommandError, EXIT, type Io, line, UsageError } from './io.ts';
import { printable } from './printable.ts';
import { table } from './table.ts';
import { readArguments, USUAL_OPTIONS } from './usual-options.ts';

export const USERS_HELP = `Usage: portcullis users bootstrap
       portcullis users create --username NAME --email ADDRESS [options]
       portcullis users list
       portcullis users disable|enable|unlock NAME
       portcullis users role NAME ROLE
       portcullis users password NAME [--password-stdin]
       portcullis users mfa-reset NAME
       portcullis users link NAME --provider PROVIDER --subject SUBJECT
       portcullis users unlink NAME --provider PROVIDER
       portcullis users import [FILE]
       portcullis users delete NAME --yes

Accounts of the gateway. Works on the database; running gateways follow within
a second.

bootstrap   prints a token, good once and for an hour, with which the first
            administrator registers: POST /auth/register with bootstrap_token
disable     ends all sessions and withdraws all keys of the account
unlock      lifts the lock after wrong passwords and codes
role        withdraws keys that go beyond the new role, ends browser sessions
mfa-reset   takes the second factor away, for somebody whose phone and recovery
            codes are gone; ends all sessions
link        lets somebody of an OpenID provider (kind: oidc), by the subject
            they have there, log in as this account; unlink ends its sessions
import      reads JSON lines: username, email, role?, full_name?, is_active?
            and password or password_hash (argon2id); prints one line for each

create:
  --username NAME     3 to 50 letters and digits, with single "_", "." and "-"
                      between them; none that looks like another account's
  --email ADDRESS
  --role ROLE         default: user
  --full-name TEXT
  --password-stdin    read the password from standard input; without it one is
                      made and printed
everywhere:
  -c, --config FILE   default: $PORTCULLIS_CONFIG, portcullis.yaml, or the demo's
  --json              print JSON
`;

const OPTIONS = {
  ...USUAL_OPTIONS,
  yes: { type: 'boolean' },
  username: { type: 'string' },
  email: { type: 'string' },
  role: { type: 'string' },
  'full-name': { type: 'string' },
  provider: { type: 'string' },
  subject: { type: 'string' },
  'password-stdin': { type: 'boolean' },
} as const;

type Values = ReturnType<typeof parse>['values'];

function parse(argv: readonly string[]) {
  return readArguments(argv, OPTIONS);
}

interface Session {
  /** The issuer of a provider by its name in the configuration. Throws UsageError for one that has none. */
  readonly issuerOf: (provider: string | undefined) => string;
  /** The name of the provider of this issuer, or the issuer where the configuration does not have it any more. */
  readonly providerOf: (issuer: string) => string;
  readonly administration: AccountAdministration;
  readonly values: Values;
  readonly io: Io;
}

type Action = (session: Session, args: readonly string[]) => Promise<number>;

/** The command and how many arguments it takes, at least and at most. */
const ACTIONS: Readonly<Record<string, readonly [number, number, Action]>> = {
  bootstrap: [0, 0, bootstrap],
  create: [0, 0, create],
  list: [0, 0, list],
  disable: [1, 1, onAccount((administration, account) => administration.setActive(account, false), 'is disabled')],
  enable: [1, 1, onAccount((administration, account) => administration.setActive(account, true), 'is enabled')],
  unlock: [1, 1, unlock],
  role: [2, 2, role],
  password: [1, 1, password],
  'mfa-reset': [1, 1, resetFactor],
  link: [1, 1, link],
  unlink: [1, 1, unlink],
  import: [0, 1, importAccounts],
  delete: [1, 1, onAccount((administration, account) => administration.delete(account), 'is deleted')],
};

/** Runs one `users` command; resolves with the exit code. */
export async function usersCommand(argv: readonly string[], io: Io): Promise<number> {
  const { values, positionals } = parse(argv);
  if (values.help) {
    io.out(USERS_HELP);
    return EXIT.ok;
  }
  const [name = '', ...args] = positionals;
  const found = Object.hasOwn(ACTIONS, name) ? ACTIONS[name] : undefined;
  if (found === undefined)
    throw new UsageError(
      `users needs one of ${Object.keys(ACTIONS).join(', ')}${suggestion(name, Object.keys(ACTIONS))}`,
    );
  const [least, most, action] = found;
  if (args.length < least || args.length > most) throw new UsageError(`users ${name}: wrong number of arguments`);
  if (name === 'delete' && !values.yes) throw new UsageError('users delete cannot be undone: add --yes');
  const { config, baseDir } = await requireConfig(configFile(values.config, io), io);
  const { stores, accounts } = config;
  if (!accounts.enabled) io.err('warning: accounts.enabled is false: nobody can log in with an account\n');
  const pepper = loadPepper(stores.database, baseDir, stores.pepper as Secret | undefined);
  await using database = await openDatabase(stores.database, { baseDir });
  const now = systemClock.now();
  const administration = new AccountAdministration({
    ...{ config: accounts, database, pepper, clock: { now: () => now } },
    withdraw: (tokens) => withdraw(tokens, config, { database, baseDir, now }),
  });
  try {
    return await action({ administration, values, io, ...providersOf(config) }, args);
  } catch (error) {
    throw error instanceof GatewayError && error.status < 500 ? new CommandError(error.message) : error;
  }
}

function providersOf({ identity }: Config): Pick<Session, 'providerOf' | 'issuerOf'> {
  const issuers = Object.entries(identity).flatMap(([name, entry]): [string, string][] => {
    const issuer: unknown = Object.entries(entry).find(([option]) => option === 'issuer')?.[1];
    return entry.kind === 'oidc' && typeof issuer === 'string' ? [[name, issuer]] : [];
  });
  return {
    providerOf: (issuer) => issuers.findLast(([, one]) => one === issuer)?.[0] ?? issuer,
    issuerOf(provider) {
      const found = issuers.find(([name]) => name === provider);
      if (found !== undefined) return found[1];
      const known = issuers.map(([name]) => name).join(', ');
      throw new UsageError(
        issuers.length === 0
          ? '--provider: the configuration has no provider of kind oidc'
          : `--provider is one of kind oidc in the configuration: ${known}`,
      );
    },
  };
}

/** Opens the shared state when there is something to say there, and not before: most commands need none. */
async function withdraw(
  tokens: EndedSession['tokens'],
  config: Config,
  { database, baseDir, now }: { readonly database: Database; readonly baseDir: string; readonly now: number },
): Promise<void> {
  const { shared: where, shared_ca } = config.stores;
  // A store of the user's own: the sessions have ended, and the tokens do with their time.
  if (typeof where !== 'string') return;
  const ca = shared_ca === undefined ? null : readFileSync(resolve(baseDir, shared_ca), 'utf8');
  const options = { clock: systemClock, database, kept: [REVOKED], onError: () => undefined, ca };
  await using shared = await openShared(where, options);
  for (const { token_id, until } of tokens) await revokeToken(shared, accountIssuer(config), token_id, until, now);
}

async function bootstrap({ administration, values, io }: Session): Promise<number> {
  const token = await administration.bootstrap();
  if (token === null) throw new CommandError('there is an administrator already');
  line(io, values.json ? JSON.stringify({ bootstrap_token: token }) : token);
  io.err('Good once and for an hour: POST /auth/register with bootstrap_token makes the first administrator.\n');
  return EXIT.ok;
}

async function create({ administration, values, io }: Session): Promise<number> {
  const { username, email } = values;
  if (username === undefined || email === undefined) throw new UsageError('users create needs --username and --email');
  const facts = checked({ username, email, full_name: values['full-name'], role: values.role });
  const given = values['password-stdin'] ? await readPassword(io) : null;
  const secret = given ?? randomPassword();
  const account = await administration.create({ ...facts, password: secret });
  const shown = given === null ? { ...viewOf(account), password: secret } : viewOf(account);
  if (values.json) line(io, JSON.stringify(shown));
  else line(io, given === null ? secret : account.id);
  io.err(`Account ${account.username} (${account.role}) is made.\n`);
  return EXIT.ok;
}

/** The same shape as registration takes. */
const factsSchema = z.strictObject({
  username: z.string().refine(isUsername, `username: ${USERNAME_RULE}`),
  email: z.email('email: not an address').max(254),
  full_name: z
    .string()
    .max(200)
    .nullish()
    .transform((text) => text ?? null),
  role: z.string().min(1).max(32).default('user'),
});
const importSchema = factsSchema.extend({
  is_active: z.boolean().default(true),
  password: z.string().min(1).max(4096).optional(),
  password_hash: z.string().max(1024).optional(),
});

function checked(value: unknown): z.output<typeof factsSchema> {
  const parsed = factsSchema.safeParse(value);
  if (parsed.success) return parsed.data;
  throw new UsageError(parsed.error.issues.map(({ message }) => message).join('; '));
}

async function readPassword(io: Io): Promise<string> {
  let text = '';
  for await (const chunk of io.stdin) text += String(chunk);
  const secret = text.replace(/\r?\n$/, '');
  if (secret === '') throw new UsageError('there is no password on standard input');
  return secret;
}

async function list({ administration, values, io, providerOf }: Session): Promise<number> {
  const items: (ReturnType<typeof viewOf> & { provider: string | null })[] = [];
  for await (const account of administration.list()) {
    const { issuer } = account;
    items.push({ ...viewOf(account), provider: issuer === null ? null : providerOf(issuer) });
  }
  if (values.json) line(io, JSON.stringify({ items }));
  else {
    const rows = items.map(({ username, email, role: held, is_active, last_login, provider }) => {
      const state = is_active ? 'active' : 'disabled';
      return [username, email, held, state, last_login ?? '-', provider ?? 'password'].map(printable);
    });
    table([['USERNAME', 'EMAIL', 'ROLE', 'STATE', 'LAST LOGIN', 'LOGS IN WITH'], ...rows], io);
  }
  return EXIT.ok;
}

async function required(administration: AccountAdministration, name: string): Promise<AccountRecord> {
  const account = await administration.find(name);
  if (account === null) throw new CommandError(`there is no account ${printable(name)}`);
  return account;
}

function onAccount(
  act: (administration: AccountAdministration, account: AccountRecord) => Promise<void>,
  done: string,
): Action {
  return async ({ administration, io }, [name = '']) => {
    const account = await required(administration, name);
    await act(administration, account);
    io.err(`Account ${account.username} ${done}.\n`);
    return EXIT.ok;
  };
}

async function unlock({ administration, io }: Session, [name = '']: readonly string[]): Promise<number> {
  await administration.unlock(name);
  io.err(`${printable(name)} is not locked any more.\n`);
  return EXIT.ok;
}

async function role({ administration, io }: Session, [name = '', wanted = '']: readonly string[]): Promise<number> {
  await administration.setRole(await required(administration, name), wanted);
  io.err(`Account ${printable(name)} has the role ${printable(wanted)}.\n`);
  return EXIT.ok;
}

async function password({ administration, values, io }: Session, [name = '']: readonly string[]): Promise<number> {
  const account = await required(administration, name);
  const given = values['password-stdin'] ? await readPassword(io) : null;
  const secret = given ?? randomPassword();
  await administration.setPassword(account, secret);
  if (given === null) line(io, secret);
  io.err(`Account ${account.username} has a new password; its sessions have ended.\n`);
  return EXIT.ok;
}

async function link(
  { administration, values, io, issuerOf }: Session,
  [name = '']: readonly string[],
): Promise<number> {
  const { provider, subject } = values;
  const issuer = issuerOf(provider);
  if (subject === undefined || subject === '') throw new UsageError('users link needs --subject');
  const account = await required(administration, name);
  await administration.link(account, { issuer, subject });
  io.err(`${printable(subject)} of ${printable(issuer)} logs in as ${account.username}.\n`);
  return EXIT.ok;
}

async function unlink(
  { administration, values, io, issuerOf }: Session,
  [name = '']: readonly string[],
): Promise<number> {
  const issuer = issuerOf(values.provider);
  const account = await required(administration, name);
  const had = await administration.unlink(account, issuer);
  const done = had ? 'logs in as' : 'logged in as';
  io.err(`Nobody of ${printable(issuer)} ${done} ${account.username}; its sessions have ended.\n`);
  return EXIT.ok;
}

async function resetFactor({ administration, io }: Session, [name = '']: readonly string[]): Promise<number> {
  const account = await required(administration, name);
  const had = await administration.resetFactor(account);
  const done = had ? 'has no second factor any more' : 'had no second factor';
  io.err(`Account ${account.username} ${done}; its sessions have ended.\n`);
  return EXIT.ok;
}

/** In the order of the input; a bad line says so and the rest goes on. */
async function importAccounts({ administration, io }: Session, [file = '-']: readonly string[]): Promise<number> {
  let count = 0;
  let failed = 0;
  for await (const text of linesOf(openInput(file, io))) {
    count += 1;
    if (text.toString().trim() === '') continue;
    try {
      const { password: secret, password_hash, ...facts } = importSchema.parse(parseStrict(text));
      const proof = {
        ...(secret === undefined ? {} : { password: secret }),
        ...(password_hash ? { password_hash } : {}),
      };
      line(io, JSON.stringify(viewOf(await administration.create({ ...facts, ...proof }))));
    } catch (error) {
      failed += 1;
      line(io, JSON.stringify({ line: count, error: lineError(error) }));
    }
  }
  io.err(`${count - failed} of ${count} lines are in.\n`);
  return failed === 0 ? EXIT.ok : EXIT.failed;
}

function lineError(error: unknown): { readonly code: string; readonly message: string } {
  if (error instanceof z.ZodError) {
    const words = error.issues.map(({ path, message }) => {
      const place = `${path.join('.') || 'line'}: `;
      return message.startsWith(place) ? message : `${place}${message}`;
    });
    return { code: 'UNPROCESSABLE', message: words.join('; ') };
  }
  const { code, message, status } = toGatewayError(error);
  if (status >= 500) throw error;
  return { code, message };
}

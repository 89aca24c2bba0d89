/**
 * Logins that are kept between commands: one file of the person's own (mode 0600), one entry per gateway. A token is for
 * one gateway, so nothing is ever looked up but by the exact address.
 */
import { closeSync, openSync, renameSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { dirname, join, resolve } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { z } from 'zod';
import { makeDirectory } from '../config/directories.ts';
import { readText } from './input-file.ts';
import { CommandError, type Io } from './io.ts';

const text = z.string().min(1).max(16_384);
const login = z.strictObject({
  issuer: text,
  client_id: text,
  scope: z.string().max(4096),
  resource: text.nullable(),
  subject: text.nullable(),
  access_token: text,
  refresh_token: text.nullable(),
  /** Epoch milliseconds; null when the issuer does not say. */
  expires_at: z.number().nullable(),
});
const schema = z.strictObject({ version: z.literal(1), logins: z.record(text, login) });

/** One login. Its texts are secrets: for this file and for the gateway, never for a screen. */
export type KeptLogin = z.output<typeof login>;

/** By the address of the gateway. */
export type KeptLogins = Readonly<Record<string, KeptLogin>>;

/** `$PORTCULLIS_CREDENTIALS`, else below the directory where a person's settings are (XDG base directories). */
export function tokenFile(io: Io): string {
  const { PORTCULLIS_CREDENTIALS: named, XDG_CONFIG_HOME: config, HOME: home } = io.env;
  if (named) return resolve(io.cwd, named);
  // XDG: a relative path counts as unset.
  if (config?.startsWith('/')) return join(config, 'portcullis/credentials.json');
  return join(resolve(io.cwd, home || '.'), '.config/portcullis/credentials.json');
}

/** Throws CommandError when others can read the file, or it is not what we wrote; UnreachableError when we cannot. */
export function readLogins(io: Io): KeptLogins {
  const file = tokenFile(io);
  const there = statSync(file, { throwIfNoEntry: false });
  if (there === undefined) return {};
  if (there.isFile() && (there.mode & 0o077) !== 0) {
    throw new CommandError(`${file}: others may read it; chmod 600 it`);
  }
  const content = readText(file);
  try {
    return schema.parse(JSON.parse(content)).logins;
  } catch {
    throw new CommandError(`${file} is not a file of kept logins; remove it and log in again`);
  }
}

function writeLogins(file: string, logins: KeptLogins): void {
  const fresh = `${file}.${process.pid}.new`;
  rmSync(fresh, { force: true });
  // Whole or not at all, and never readable by others, not even for a moment.
  writeFileSync(fresh, `${JSON.stringify({ version: 1, logins }, null, 2)}\n`, { mode: 0o600, flag: 'wx' });
  renameSync(fresh, file);
}

/** Milliseconds: between two looks at a lock, and after which its owner must have died. */
const LOCK_PAUSE_MS = 50;
const LOCK_STALE_MS = 30_000;

/**
 * Changes the file alone: a refresh token that two commands use at the same time may end the login for both (RFC 9700
 * 4.14). `change` gets what the file holds now, and gives what it shall hold, or null to leave it.
 */
export async function changeLogins(io: Io, change: (now: KeptLogins) => Promise<KeptLogins | null>): Promise<void> {
  const file = tokenFile(io);
  const lock = `${file}.lock`;
  makeDirectory(dirname(file), 0o700);
  while (!tryLock(lock)) await delay(LOCK_PAUSE_MS, undefined, { signal: io.signal });
  try {
    const next = await change(readLogins(io));
    if (next !== null) writeLogins(file, next);
  } finally {
    rmSync(lock, { force: true });
  }
}

function tryLock(lock: string): boolean {
  try {
    closeSync(openSync(lock, 'wx', 0o600));
    return true;
  } catch (error) {
    if (!(error instanceof Error && 'code' in error && error.code === 'EEXIST')) throw error;
  }
  const since = statSync(lock, { throwIfNoEntry: false })?.mtimeMs;
  if (since !== undefined && Date.now() - since > LOCK_STALE_MS) rmSync(lock, { force: true });
  return false;
}

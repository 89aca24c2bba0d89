/** The secret mixed into API key hashes: a copy of the database alone verifies nothing. Source: contracts 5. */
import { randomBytes } from 'node:crypto';
import { chmodSync, linkSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { dirname } from 'node:path';
import { makeDirectory } from '../config/directories.ts';
import { Secret } from '../core/secret.ts';
import { databaseFile, isServerDatabase } from './database.ts';

/** 256 bits. */
const BYTES = 32;

/**
 * The configured pepper, or the one beside the database, which is made on first use (mode 0600). A database in memory
 * gets one that ends with the process. Throws when the file cannot be read or made, or is too short to be a secret.
 */
export function loadPepper(databaseUrl: string, baseDir: string, configured?: Secret): Secret {
  const known = knownPepper(databaseUrl, baseDir, configured);
  if (known !== null) return known;
  const database = databaseFile(databaseUrl, baseDir);
  if (database === null) return new Secret(randomBytes(BYTES).toString('base64url'));
  const file = `${database}.pepper`;
  return checked(make(file), file);
}

/** The same without making one: null where there is none yet. */
export function knownPepper(databaseUrl: string, baseDir: string, configured?: Secret): Secret | null {
  if (configured !== undefined) return checked(configured.reveal(), 'stores.pepper');
  if (isServerDatabase(databaseUrl)) {
    throw new Error('stores.pepper is missing: gateways that share a database need the same one');
  }
  const database = databaseFile(databaseUrl, baseDir);
  if (database === null) return null;
  const file = `${database}.pepper`;
  const text = readIfThere(file);
  return text === null ? null : checked(text, file);
}

function checked(value: string, place: string): Secret {
  if (value.length < 22) throw new Error(`${place}: the pepper must have at least 128 bits`);
  return new Secret(value);
}

function readIfThere(file: string): string | null {
  try {
    return readFileSync(file, 'utf8').trim();
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return null;
    throw error;
  }
}

/** Written whole, then linked: of two processes starting together one wins and both read the same bytes. */
function make(file: string): string {
  makeDirectory(dirname(file));
  const draft = `${file}.${randomBytes(6).toString('hex')}`;
  writeFileSync(draft, `${randomBytes(BYTES).toString('base64url')}\n`, { mode: 0o600, flag: 'wx' });
  try {
    chmodSync(draft, 0o600);
    linkSync(draft, file);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error;
  } finally {
    rmSync(draft, { force: true });
  }
  return readFileSync(file, 'utf8').trim();
}

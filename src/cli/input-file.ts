/**
 * Files that a command line names. One that cannot be read ends the command with exit code 3, one that holds something
 * else with 1, each with a sentence that names it.
 */
import { isUtf8 } from 'node:buffer';
import { accessSync, constants, createReadStream, readFileSync, statSync } from 'node:fs';
import { resolve } from 'node:path';
import { Readable } from 'node:stream';
import { fileFaultText } from '../config/file-faults.ts';
import { readVariable, SecretFiles, UnresolvedError } from '../config/references.ts';
import { CommandError, type Io, UnreachableError } from './io.ts';

const LINE_FEED = 0x0a;

/**
 * For files that another room reads, and for what may be a directory. Throws UnreachableError for what is not there, may
 * not be read, or is of another kind. Opens nothing, as a pipe (`<(command)`) can be read once.
 */
export function requireReadable(path: string, what: 'file' | 'directory' | 'any' = 'file'): void {
  try {
    accessSync(path, constants.R_OK);
  } catch (error) {
    const isMissing = error instanceof Error && 'code' in error && error.code === 'ENOENT';
    if (isMissing) throw new UnreachableError(`there is no ${what === 'directory' ? 'directory ' : ''}${path}`);
    throw new UnreachableError(`cannot read ${path}: ${fileFaultText(error)}`);
  }
  const kind = statSync(path);
  if (kind.isDirectory() && what === 'file') throw new UnreachableError(`cannot read ${path}: it is a directory`);
  if (!kind.isDirectory() && what === 'directory') throw new UnreachableError(`${path} is no directory`);
  if (kind.isSocket()) throw new UnreachableError(`cannot read ${path}: it is a socket`);
}

/** All of it. Throws UnreachableError. */
export function readBytes(path: string): Buffer {
  requireReadable(path);
  try {
    return readFileSync(path);
  } catch (error) {
    throw new UnreachableError(`cannot read ${path}: ${fileFaultText(error)}`);
  }
}

/** The same for text. Throws CommandError for what is none. */
export function readText(path: string): string {
  const bytes = readBytes(path);
  if (!isUtf8(bytes)) throw new CommandError(`${path} is not UTF-8 text`);
  return bytes.toString('utf8');
}

/** The file, or standard input for `-`. Throws UnreachableError. */
export function openInput(name: string, io: Io): Readable {
  if (name === '-') return io.stdin;
  const path = resolve(io.cwd, name);
  requireReadable(path);
  return Readable.from(piecesOf(path));
}

async function* piecesOf(path: string): AsyncGenerator<Buffer> {
  try {
    yield* createReadStream(path);
  } catch (error) {
    throw new UnreachableError(`cannot read ${path}: ${fileFaultText(error)}`);
  }
}

/** Lines as they are, without what ends them, so that whoever reads them can tell what is not UTF-8. */
export async function* linesOf(input: Readable): AsyncGenerator<Buffer> {
  let rest: Buffer[] = [];
  for await (const chunk of input) {
    let bytes = typeof chunk === 'string' ? Buffer.from(chunk) : (chunk as Buffer);
    for (let end = bytes.indexOf(LINE_FEED); end !== -1; end = bytes.indexOf(LINE_FEED)) {
      yield Buffer.concat([...rest, bytes.subarray(0, end)]);
      rest = [];
      bytes = bytes.subarray(end + 1);
    }
    if (bytes.length > 0) rest.push(bytes);
  }
  if (rest.length > 0) yield Buffer.concat(rest);
}

/** The variable, or what the file of its `_FILE` twin holds; undefined when neither is set. */
export function variable(name: string, io: Io): string | undefined {
  const file = io.env[`${name}_FILE`];
  if (file && !io.env[name]) requireReadable(resolve(io.cwd, file));
  try {
    const value = readVariable(name, io.env, new SecretFiles(io.cwd));
    if (value === '') throw new CommandError(`${name}_FILE: ${file} is empty`);
    return value;
  } catch (error) {
    throw error instanceof UnresolvedError ? new CommandError(`${name}: ${error.message}`) : error;
  }
}

/**
 * `${env:NAME}`, `${env:NAME:-default}` and `${file:PATH}` in any text of the configuration. An unset variable falls
 * back to the file named by `NAME_FILE` (the convention of container secrets). `$${` writes a literal `${`.
 */
import { isUtf8 } from 'node:buffer';
import { readFileSync } from 'node:fs';
import { resolve } from 'node:path';
import { fileFaultText } from './file-faults.ts';

export type Environment = Readonly<Record<string, string | undefined>>;

/** The text could not be resolved; the message names the variable or file, never a value. */
export class UnresolvedError extends Error {
  override readonly name = 'UnresolvedError';
}

const MAX_FILE = 1_048_576;
const NAME = /^[A-Za-z_][A-Za-z0-9_]*$/;

/** Reads small text files, relative to the configuration, and remembers which (they are watched). */
export class SecretFiles {
  /** What relative paths of the configuration are relative to. */
  readonly baseDir: string;
  readonly read = new Set<string>();

  constructor(baseDir: string) {
    this.baseDir = baseDir;
  }

  /** The file's text without the line end that editors and `echo` add. */
  text(path: string): string {
    const file = resolve(this.baseDir, path);
    this.read.add(file);
    let content: Buffer;
    try {
      content = readFileSync(file);
    } catch (error) {
      throw new UnresolvedError(`cannot read the file ${path}: ${fileFaultText(error)}`);
    }
    if (content.length > MAX_FILE) throw new UnresolvedError(`the file ${path} is larger than 1 MiB`);
    if (!isUtf8(content)) throw new UnresolvedError(`the file ${path} is not UTF-8 text`);
    return content.toString('utf8').replace(/\r?\n$/, '');
  }
}

/** The value of a variable, or of the file its `_FILE` twin names. Empty counts as unset, as in compose files. */
export function readVariable(name: string, env: Environment, files: SecretFiles): string | undefined {
  const direct = env[name];
  const file = env[`${name}_FILE`];
  if (direct !== undefined && direct !== '') {
    if (file !== undefined && file !== '') throw new UnresolvedError(`both ${name} and ${name}_FILE are set`);
    return direct;
  }
  return file === undefined || file === '' ? undefined : files.text(file);
}

function resolveOne(inner: string, env: Environment, files: SecretFiles): string {
  if (inner.startsWith('file:')) return files.text(inner.slice(5));
  if (!inner.startsWith('env:')) {
    throw new UnresolvedError('unknown reference: it starts with neither "env:" nor "file:"');
  }
  const split = inner.indexOf(':-');
  const name = split === -1 ? inner.slice(4) : inner.slice(4, split);
  if (!NAME.test(name)) throw new UnresolvedError('the name of the environment variable is not valid');
  const value = readVariable(name, env, files);
  if (value !== undefined) return value;
  if (split === -1) throw new UnresolvedError(`the environment variable ${name} is not set`);
  return inner.slice(split + 2);
}

/** Replaces every reference of a text. What a reference yields is not looked at again. */
export function resolveReferences(text: string, env: Environment, files: SecretFiles): string {
  let result = '';
  let from = 0;
  for (;;) {
    const start = text.indexOf('${', from);
    if (start === -1) return result + text.slice(from);
    if (start > 0 && text[start - 1] === '$') {
      result += `${text.slice(from, start - 1)}\${`;
      from = start + 2;
      continue;
    }
    const end = text.indexOf('}', start);
    if (end === -1) throw new UnresolvedError('a reference is not closed with "}"');
    result += text.slice(from, start) + resolveOne(text.slice(start + 2, end), env, files);
    from = end + 1;
  }
}

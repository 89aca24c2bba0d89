/** A part of a gateway that cannot be made of what the configuration says. */
import { fileFault } from '../config/file-faults.ts';
import { type Path, pathText } from '../config/problem.ts';
import { reasonOf } from '../core/reason.ts';
import { PolicyLoadError } from '../policy/wasm/program.ts';

/** Why, and which setting says so. The message begins with the setting. */
export class SettingFault extends Error {
  override readonly name = 'SettingFault';
  readonly path: Path;
  /** A sentence for the operator. */
  readonly reason: string;

  constructor(path: Path, reason: string, cause: unknown) {
    super(`${pathText(path)}: ${reason}`, { cause });
    this.path = path;
    this.reason = reason;
  }
}

/** Reads what a setting names. Throws a SettingFault for what is told in words; a defect of ours stays what it is. */
export function reading<T>(path: Path, read: () => T): T {
  try {
    return read();
  } catch (error) {
    throw faultAt(path, error);
  }
}

/** The same for what is made in time. */
export async function making<T>(path: Path, make: () => Promise<T> | T): Promise<T> {
  try {
    return await make();
  } catch (error) {
    throw faultAt(path, error);
  }
}

/** Whoever found out may have named a setting further in: `identity.staff.ca` instead of `identity.staff`. */
function faultAt(path: Path, error: unknown): unknown {
  const reason = sentenceOf(error);
  if (reason === null) return error;
  const place = [pathText(path), path.join('.')].find((text) => reason.startsWith(text));
  if (place === undefined) return new SettingFault(path, reason, error);
  const [, inner = '', rest = ''] = /^((?:\.\w+)*): (.*)$/s.exec(reason.slice(place.length)) ?? [];
  return rest === ''
    ? new SettingFault(path, reason, error)
    : new SettingFault([...path, ...inner.split('.').slice(1)], rest, error);
}

/** Null for an error that nobody has put into words. */
function sentenceOf(error: unknown): string | null {
  if (!(error instanceof Error) || error instanceof SettingFault) return null;
  const fault = fileFault(error);
  if (fault !== null) return `${'path' in error ? `${String(error.path)}: ` : ''}${fault}`;
  if (error instanceof PolicyLoadError) return reasonOf(error);
  return error.constructor === Error && !('code' in error) ? reasonOf(error) : null;
}

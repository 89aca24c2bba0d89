/** Directories that the gateway and its commands make for what they keep. */
import { accessSync, constants, mkdirSync, statSync } from 'node:fs';
import { dirname } from 'node:path';

/**
 * Makes a directory and those above it that are missing, each with this mode less the umask; one that is there stays as
 * it is. One try per level, as `mkdir` with `recursive` never ends on file systems that refuse with ENOENT (procfs).
 * Throws the system's error, with the `path` of the level that could not be made.
 */
export function makeDirectory(directory: string, mode = 0o777): void {
  const missing: string[] = [];
  for (let at = directory; !isDirectory(at); at = dirname(at)) {
    missing.push(at);
    if (dirname(at) === at) break;
  }
  for (const level of missing.reverse()) makeLevel(level, mode);
}

function makeLevel(level: string, mode: number): void {
  try {
    mkdirSync(level, { mode });
  } catch (error) {
    const code = error instanceof Error && 'code' in error ? error.code : undefined;
    // Another process was quicker.
    if (code === 'EEXIST' && isDirectory(level)) return;
    // Its parent is there: what is missing is the file system's consent.
    if (code === 'ENOENT' && isDirectory(dirname(level))) {
      const refusal = new Error(`no directory can be made at ${level}: the file system takes none`, { cause: error });
      throw Object.assign(refusal, { code: 'ENOTSUP', path: level });
    }
    throw error;
  }
}

/** Whether a file is there that can be written, or else could be made. Makes nothing. */
export function isWritable(file: string): boolean {
  if (exists(file)) return mayWrite(file) && !isDirectory(file);
  let directory = dirname(file);
  while (!exists(directory) && dirname(directory) !== directory) directory = dirname(directory);
  return mayWrite(directory) && isDirectory(directory);
}

function exists(path: string): boolean {
  try {
    return statSync(path, { throwIfNoEntry: false }) !== undefined;
  } catch {
    return false;
  }
}

function mayWrite(path: string): boolean {
  try {
    accessSync(path, constants.W_OK);
    return true;
  } catch {
    return false;
  }
}

function isDirectory(path: string): boolean {
  try {
    return statSync(path).isDirectory();
  } catch {
    return false;
  }
}

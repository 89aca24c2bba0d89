/**
 * Tells when files changed, once per burst. Directories are watched, not files: editors and secret mounts replace a
 * file, and a watch on the old one would never hear of the new one.
 */
import { type FSWatcher, readdirSync, statSync, watch } from 'node:fs';
import { basename, dirname, join } from 'node:path';

export interface WatchOptions {
  /** Milliseconds of quiet before the callback. */
  readonly debounceMs?: number;
  /** Called when a directory can no longer be watched; the others go on. */
  readonly onError?: (error: Error) => void;
}

export interface FileWatcher {
  close(): void;
}

/** What changes when a file, or anything below a directory, is written, replaced, added or removed. */
function fingerprint(path: string): string {
  const info = statSync(path, { throwIfNoEntry: false, bigint: true });
  if (info === undefined) return 'gone';
  const own = `${info.ino}:${info.size}:${info.mtimeNs}`;
  if (!info.isDirectory()) return own;
  return readdirSync(path, { withFileTypes: true })
    .filter((entry) => !entry.name.startsWith('.'))
    .map((entry) => `${entry.name}=${fingerprint(join(path, entry.name))}`)
    .join('|');
}

function prints(paths: readonly string[]): string {
  return paths
    .map((path) => {
      try {
        return fingerprint(path);
      } catch {
        // Removed between listing and looking: the next event says so again.
        return 'changing';
      }
    })
    .join('\n');
}

/**
 * The directory to watch for a path: its own, or for a directory everything below. Neighbours of a file (a log in the
 * same directory) are not heard, except names with `..`: that is how mounted secrets are swapped.
 */
function watchOne(path: string, listen: () => void): FSWatcher[] {
  const heard = (_event: string, name: string | null) => {
    if (name === null || name === basename(path) || name.startsWith('..')) listen();
  };
  const info = statSync(path, { throwIfNoEntry: false });
  const parent = statSync(dirname(path), { throwIfNoEntry: false });
  const watchers: FSWatcher[] = [];
  if (info?.isDirectory() === true) watchers.push(watch(path, { recursive: true, persistent: false }, listen));
  else if (parent !== undefined) watchers.push(watch(dirname(path), { persistent: false }, heard));
  return watchers;
}

/** Watches files and directories. `onChange` runs at most once per `debounceMs` and only if something really changed. */
export function watchFiles(paths: readonly string[], onChange: () => void, options: WatchOptions = {}): FileWatcher {
  const debounce = options.debounceMs ?? 100;
  let last = prints(paths);
  let timer: NodeJS.Timeout | null = null;
  let closed = false;
  const settle = () => {
    timer = null;
    if (closed) return;
    const now = prints(paths);
    if (now === last) return;
    last = now;
    onChange();
  };
  const listen = () => {
    // Not restarted by each event: a file that is written all the time must not silence the others.
    if (closed || timer !== null) return;
    timer = setTimeout(settle, debounce);
    timer.unref();
  };
  const watchers = paths.flatMap((path) => watchOne(path, listen));
  for (const watcher of watchers) watcher.on('error', (error) => options.onError?.(error));
  return {
    close() {
      closed = true;
      if (timer !== null) clearTimeout(timer);
      for (const watcher of watchers) watcher.close();
    },
  };
}

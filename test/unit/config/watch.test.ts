import { mkdirSync, mkdtempSync, renameSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { watchFiles } from '../../../src/config/watch.ts';

const folder = () => mkdtempSync(join(tmpdir(), 'portcullis-watch-'));

/** Waits for changes one after the other. */
function watching(paths: readonly string[]) {
  let count = 0;
  let wake: (() => void) | null = null;
  const watcher = watchFiles(
    paths,
    () => {
      count++;
      wake?.();
    },
    { debounceMs: 10 },
  );
  return {
    watcher,
    get count() {
      return count;
    },
    next: () =>
      new Promise<void>((done) => {
        wake = done;
      }),
  };
}

describe('watching files', () => {
  test('hears of a file that is written, replaced by a rename, and written again', async () => {
    const file = join(folder(), 'a.yaml');
    writeFileSync(file, 'one');
    const seen = watching([file]);
    let change = seen.next();
    writeFileSync(file, 'two!');
    await change;
    change = seen.next();
    writeFileSync(`${file}.new`, 'three');
    renameSync(`${file}.new`, file);
    await change;
    change = seen.next();
    writeFileSync(file, 'four four');
    await change;
    seen.watcher.close();
  });

  test('hears of a secret mount that swaps its directory link', async () => {
    const root = folder();
    for (const name of ['..v1', '..v2']) {
      mkdirSync(join(root, name));
      writeFileSync(join(root, name, 'tls.crt'), name === '..v1' ? 'old' : 'newer');
    }
    symlinkSync('..v1', join(root, '..data'));
    symlinkSync('..data/tls.crt', join(root, 'tls.crt'));
    const seen = watching([join(root, 'tls.crt')]);
    const change = seen.next();
    symlinkSync('..v2', join(root, '..tmp'));
    renameSync(join(root, '..tmp'), join(root, '..data'));
    await change;
    seen.watcher.close();
  });

  test('hears of files below a directory, and of many writes at once only once', async () => {
    const root = folder();
    mkdirSync(join(root, 'inner'));
    writeFileSync(join(root, 'inner', 'a.rego'), 'package a');
    const seen = watching([root]);
    const change = seen.next();
    for (let i = 0; i < 50; i++) writeFileSync(join(root, 'inner', `${i}.rego`), `package b${i}`);
    await change;
    expect(seen.count).toBe(1);
    seen.watcher.close();
  });

  test('is silent about a neighbour and after it was closed', async () => {
    const root = folder();
    const file = join(root, 'a.yaml');
    writeFileSync(file, 'one');
    const seen = watching([file]);
    writeFileSync(join(root, 'audit.jsonl'), 'x');
    const change = seen.next();
    writeFileSync(file, 'two!');
    await change;
    expect(seen.count).toBe(1);
    seen.watcher.close();
    const other = watching([file]);
    const heard = other.next();
    writeFileSync(file, 'three');
    await heard;
    expect(seen.count).toBe(1);
    other.watcher.close();
  });
});

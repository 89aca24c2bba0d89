import { globSync, mkdirSync, mkdtempSync, readFileSync, statSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { makeDirectory } from '../../../src/config/directories.ts';

const SRC = join(import.meta.dirname, '../../../src');
const folder = () => mkdtempSync(join(tmpdir(), 'portcullis-dirs-'));

/** The error of a directory that must not come to be. */
function refusal(directory: string): NodeJS.ErrnoException {
  try {
    makeDirectory(directory);
  } catch (error) {
    return error as NodeJS.ErrnoException;
  }
  throw new Error(`${directory} was made`);
}

describe('directories that are made', () => {
  test('come with all above them, each with the mode that is asked for, and may be there already', () => {
    const top = folder();
    const deep = join(top, 'a/b/c');
    makeDirectory(deep, 0o700);
    makeDirectory(deep, 0o755);
    for (const path of ['a', 'a/b', 'a/b/c']) expect(statSync(join(top, path)).mode & 0o777).toBe(0o700);
  });

  test('may lie behind a link to a directory', () => {
    const top = folder();
    mkdirSync(join(top, 'real'));
    symlinkSync(join(top, 'real'), join(top, 'link'));
    makeDirectory(join(top, 'link/below'));
    expect(statSync(join(top, 'real/below')).isDirectory()).toBe(true);
  });

  test('do not come to be where a file or a link to nothing is in the way, and the error names it', () => {
    const top = folder();
    writeFileSync(join(top, 'file'), '');
    symlinkSync(join(top, 'absent'), join(top, 'dangling'));
    expect(refusal(join(top, 'file/below'))).toMatchObject({ code: 'EEXIST', path: join(top, 'file') });
    expect(refusal(join(top, 'file'))).toMatchObject({ code: 'EEXIST', path: join(top, 'file') });
    expect(refusal(join(top, 'dangling/below'))).toMatchObject({ code: 'EEXIST', path: join(top, 'dangling') });
    expect(refusal('/dev/null/below').path).toBe('/dev/null');
  });

  test.runIf(process.platform === 'linux')('are refused on a file system that has only its own, at once', () => {
    const error = refusal('/proc/portcullis/below');
    expect(error).toMatchObject({ code: 'ENOTSUP', path: '/proc/portcullis' });
    expect(error.message).toContain('/proc/portcullis');
  });

  test('are made here alone: the recursive mkdir of Node does not end on such a file system', () => {
    const others = globSync('**/*.ts', { cwd: SRC }).filter(
      (file) => file !== 'config/directories.ts' && /\bmkdir(?:Sync)?\(/.test(readFileSync(join(SRC, file), 'utf8')),
    );
    expect(others).toEqual([]);
  });
});

/** What the operating system refused to do with a file, in words. */

const WORDS: Readonly<Record<string, string>> = {
  ENOENT: 'no such file or directory',
  ENOTDIR: 'a part of the path is no directory',
  EEXIST: 'a file is there already',
  EISDIR: 'it is a directory',
  EACCES: 'permission denied',
  EPERM: 'not permitted',
  EROFS: 'the file system is read-only',
  ENOSPC: 'the disk is full',
  ENOTSUP: 'the file system takes no directories there',
  ENXIO: 'it is a socket, or a device without a driver',
  ELOOP: 'its links lead in a circle',
  ENAMETOOLONG: 'the name is too long',
  EMFILE: 'too many open files',
};

/** The words for the code of a system error, or null for an error of another kind. */
export function fileFault(error: unknown): string | null {
  return error instanceof Error && 'code' in error ? (WORDS[String(error.code)] ?? null) : null;
}

/** The same for a message: words, else the code itself. */
export function fileFaultText(error: unknown): string {
  const code = error instanceof Error && 'code' in error ? String(error.code) : 'unknown error';
  return fileFault(error) ?? code;
}

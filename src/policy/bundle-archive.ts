/**
 * Opens bundle archives that anybody may have made: one gzip stream around one tar of plain files, nothing before,
 * between or behind, within limits of size and ratio. Whatever is out of the ordinary is refused with its own sentence.
 * Source: RFC 1952, POSIX.1-1988 ustar, OPA bundle format.
 */
import { promisify } from 'node:util';
import { crc32, inflateRaw } from 'node:zlib';
import { PolicyLoadError } from './wasm/program.ts';

export interface ArchiveLimits {
  /** Bytes of the archive as it comes. */
  readonly packedBytes: number;
  /** Bytes of all that is in it. */
  readonly unpackedBytes: number;
}

export const ARCHIVE_LIMITS: ArchiveLimits = { packedBytes: 67_108_864, unpackedBytes: 268_435_456 };

/** Data and modules pack ten to one; text made to be packed well, a thousand to one. */
const MAX_RATIO = 200;
/** Small archives may unpack to this much whatever their ratio. */
const RATIO_FLOOR = 4_194_304;
const MAX_FILES = 10_000;
const MAX_PADDING = 65_536;
const BLOCK = 512;

const inflate = promisify(inflateRaw) as unknown as (
  bytes: Buffer,
  options: { readonly maxOutputLength: number; readonly info: true },
) => Promise<{ readonly buffer: Buffer; readonly engine: { readonly bytesWritten: number } }>;

/** Plain files by name, without a leading slash. Throws PolicyLoadError. */
export async function readArchive(archive: Buffer, limits = ARCHIVE_LIMITS): Promise<ReadonlyMap<string, Buffer>> {
  if (archive.length > limits.packedBytes) throw refused(`is larger than ${limits.packedBytes} bytes`);
  return untar(await gunzip(archive, limits));
}

function refused(why: string, cause?: unknown): PolicyLoadError {
  return new PolicyLoadError(`the bundle archive ${why}`, cause === undefined ? {} : { cause });
}

/** One member exactly. zlib's own reader takes garbage behind the stream and further members without a word. */
async function gunzip(archive: Buffer, limits: ArchiveLimits): Promise<Buffer> {
  const start = headerLength(archive);
  const allowed = Math.min(limits.unpackedBytes, Math.max(RATIO_FLOOR, archive.length * MAX_RATIO));
  const packed = archive.subarray(start);
  let plain: Awaited<ReturnType<typeof inflate>>;
  try {
    plain = await inflate(packed, { maxOutputLength: allowed, info: true });
  } catch (cause) {
    const { code } = cause as NodeJS.ErrnoException;
    if (code === 'ERR_BUFFER_TOO_LARGE') {
      throw refused(
        allowed < limits.unpackedBytes
          ? `unpacks to more than ${MAX_RATIO} times its size`
          : `unpacks to more than ${limits.unpackedBytes} bytes`,
      );
    }
    if (code === 'Z_BUF_ERROR') throw refused('ends in the middle', cause);
    throw refused(`is damaged: ${(cause as Error).message}`, cause);
  }
  const end = start + plain.engine.bytesWritten;
  if (archive.length < end + 8) throw refused('ends in the middle');
  if (archive.length > end + 8) throw refused('goes on behind its end');
  if (archive.readUInt32LE(end + 4) !== plain.buffer.length % 2 ** 32) {
    throw refused('is damaged: its length is wrong');
  }
  if (archive.readUInt32LE(end) !== crc32(plain.buffer)) throw refused('is damaged: its checksum is wrong');
  return plain.buffer;
}

const FLAG = { headerChecksum: 2, extra: 4, name: 8, comment: 16, reserved: 0xe0 } as const;

function headerLength(archive: Buffer): number {
  if (archive.length < 18) throw refused(archive.length === 0 ? 'is empty' : 'ends in the middle');
  if (archive.readUInt16BE(0) !== 0x1f8b || archive[2] !== 8) throw refused('is no gzip file');
  const flags = archive[3] ?? 0;
  if ((flags & FLAG.reserved) !== 0) throw refused('has a gzip header of an unknown kind');
  let at = 10;
  if ((flags & FLAG.extra) !== 0) at += 2 + archive.readUInt16LE(at);
  for (const flag of [FLAG.name, FLAG.comment]) {
    if ((flags & flag) === 0) continue;
    const end = archive.indexOf(0, at);
    if (end < 0) throw refused('ends in the middle');
    at = end + 1;
  }
  if ((flags & FLAG.headerChecksum) !== 0) at += 2;
  if (at > archive.length) throw refused('ends in the middle');
  return at;
}

/** Plain files of an unpacked tar. Throws PolicyLoadError. */
export function untar(tar: Buffer): ReadonlyMap<string, Buffer> {
  const files = new Map<string, Buffer>();
  for (let at = 0; at + BLOCK <= tar.length; ) {
    const header = tar.subarray(at, at + BLOCK);
    if (isZero(header)) {
      // Tools fill up to 10 KiB; more is not worth looking through.
      if (tar.length - at > MAX_PADDING || !isZero(tar.subarray(at)))
        throw refused('has something behind its end mark');
      return files;
    }
    const { name, size, kind } = readHeader(header);
    const start = at + BLOCK;
    if (start + size > tar.length) throw refused(`ends in the middle of ${name}`);
    if (kind === 'file') addFile(files, name, tar.subarray(start, start + size));
    at = start + Math.ceil(size / BLOCK) * BLOCK;
  }
  throw refused('has no end mark: it is not whole');
}

const isZero = (bytes: Buffer): boolean => bytes.every((byte) => byte === 0);

interface Header {
  readonly name: string;
  readonly size: number;
  readonly kind: 'file' | 'directory';
}

const KINDS: Readonly<Record<string, string>> = {
  '1': 'a hard link',
  '2': 'a symbolic link',
  '3': 'a device',
  '4': 'a device',
  '6': 'a pipe',
  g: 'an extended header',
  x: 'an extended header',
  L: 'a long name',
  K: 'a long link',
  S: 'a sparse file',
};

function readHeader(header: Buffer): Header {
  checkSum(header);
  const plain = field(header, 0, 100);
  // GNU's own format keeps other things where ustar has the prefix.
  const prefix = header.toString('latin1', 257, 263) === 'ustar\0' ? field(header, 345, 155) : '';
  const raw = prefix === '' ? plain : `${prefix}/${plain}`;
  const size = octal(header, 124, 12);
  const type = String.fromCharCode(header[156] ?? 0);
  const isDirectory = type === '5';
  if (!isDirectory && type !== '0' && type !== '\0') {
    throw refused(
      `holds ${KINDS[type] ?? 'an entry of an unknown kind'} (${shown(raw)}): only plain files are allowed`,
    );
  }
  if (isDirectory && size !== 0) throw refused(`holds a directory with content (${shown(raw)})`);
  return {
    name: normalised(isDirectory ? raw.replace(/\/$/, '') : raw),
    size,
    kind: isDirectory ? 'directory' : 'file',
  };
}

function checkSum(header: Buffer): void {
  let sum = 8 * 0x20;
  for (let i = 0; i < BLOCK; i++) if (i < 148 || i >= 156) sum += header[i] ?? 0;
  if (sum !== octal(header, 148, 8)) throw refused('is damaged: the checksum of an entry is wrong');
}

function field(header: Buffer, start: number, length: number): string {
  const end = header.indexOf(0, start);
  return header.toString('latin1', start, end === -1 || end > start + length ? start + length : end);
}

function octal(header: Buffer, start: number, length: number): number {
  const text = field(header, start, length).trim();
  if (!/^[0-7]{1,12}$/.test(text)) throw refused('is damaged: an entry has no readable size');
  return Number.parseInt(text, 8);
}

/** As OPA writes them, names may begin with one slash; that is the only liberty. */
function normalised(raw: string): string {
  const name = raw.startsWith('/') ? raw.slice(1) : raw;
  if (!/^[\x21-\x7e]+(?: [\x21-\x7e]+)*$/.test(name))
    throw refused(`holds a name that is no plain text (${shown(raw)})`);
  if (name.startsWith('/')) throw refused(`holds an absolute name (${shown(raw)})`);
  if (name.includes('\\') || /^[A-Za-z]:/.test(name)) throw refused(`holds a name for another system (${shown(raw)})`);
  const steps = name.split('/');
  if (steps.includes('..')) throw refused(`holds a name that leads out of it (${shown(raw)})`);
  if (steps.includes('') || steps.includes('.'))
    throw refused(`holds a name that is not in its normal form (${shown(raw)})`);
  return name;
}

const shown = (name: string): string => JSON.stringify(name.slice(0, 120));

function addFile(files: Map<string, Buffer>, name: string, content: Buffer): void {
  if (files.has(name)) throw refused(`holds ${name} twice`);
  if (files.size >= MAX_FILES) throw refused(`holds more than ${MAX_FILES} files`);
  files.set(name, content);
}

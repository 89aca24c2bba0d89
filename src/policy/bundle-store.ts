/** The last good bundle on disk, so that a start needs no service. Only archives that were activated are kept. */
import { createHash } from 'node:crypto';
import { chmod, readFile, rename, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { z } from 'zod';
import { makeDirectory } from '../config/directories.ts';
import type { OrderMark } from './bundle-order.ts';
import { PolicyLoadError } from './wasm/program.ts';

export interface KeptBundle {
  readonly archive: Buffer;
  readonly etag: string | null;
}

interface State {
  /** Hex SHA-256 of the archive this is about. */
  readonly archive: string;
  readonly etag: string | null;
}

const NAME = 'bundle.tar.gz';
const BEFORE = 'previous.tar.gz';
const ORDER = 'order.json';

/** The last good bundle below a folder of a BundleStore. */
export const keptIn = (dir: string): string => join(dir, NAME);

/** Files are for the gateway's account alone: the folder is 0700, the files 0600. */
export class BundleStore {
  readonly #dir: string;
  #turn: Promise<unknown> = Promise.resolve();

  constructor(dir: string) {
    this.#dir = dir;
  }

  /** Null when there is none. */
  async load(): Promise<KeptBundle | null> {
    const archive = await readFile(join(this.#dir, NAME)).catch(() => null);
    if (archive === null) return null;
    const state = await this.#state();
    // The two files are written one after the other.
    return { archive, etag: state?.archive === sha256(archive) ? state.etag : null };
  }

  /** The archive before is kept beside it, for a rollback. */
  save(bundle: KeptBundle): Promise<void> {
    return this.#inTurn(() => this.#save(bundle));
  }

  async #save({ archive, etag }: KeptBundle): Promise<void> {
    makeDirectory(this.#dir, 0o700);
    await chmod(this.#dir, 0o700);
    const there = await readFile(join(this.#dir, NAME)).catch(() => null);
    if (there !== null && !there.equals(archive)) await this.#write(BEFORE, there);
    await this.#write(NAME, archive);
    await this.#write('state.json', JSON.stringify({ archive: sha256(archive), etag } satisfies State));
  }

  /**
   * Makes the archive with this digest the one to start from: it is that already, or it was saved before. Where it is
   * neither (or null is given) there is nothing to start from any more.
   */
  takeBack(archive: string | null): Promise<void> {
    return this.#inTurn(async () => {
      const [name, before, aside] = [NAME, BEFORE, `.${NAME}.aside`].map((file) => join(this.#dir, file)) as Three;
      const digestOf = (path: string) => readFile(path).then(sha256, () => null);
      const now = await digestOf(name);
      if (now === null || now === archive) return;
      const isBefore = archive !== null && (await digestOf(before)) === archive;
      // What is taken back is kept too: a second rollback asks for it again.
      await rename(name, aside);
      if (isBefore) await rename(before, name);
      await rename(aside, before);
    });
  }

  /** Content that was rolled back, or null. */
  async pinned(): Promise<string | null> {
    const text = await readFile(join(this.#dir, 'pinned'), 'utf8').catch(() => '');
    return /^[0-9a-f]{64}$/.test(text) ? text : null;
  }

  pin(content: string | null): Promise<void> {
    return this.#inTurn(async () => {
      if (content === null) await rm(join(this.#dir, 'pinned'), { force: true });
      else {
        makeDirectory(this.#dir, 0o700);
        await this.#write('pinned', content);
      }
    });
  }

  /** What was in force lately, in the order of bundles; null at first. Throws PolicyLoadError for what is not ours. */
  async order(): Promise<OrderMark | null> {
    const path = join(this.#dir, ORDER);
    try {
      return orderSchema.parse(JSON.parse(await readFile(path, 'utf8')));
    } catch (cause) {
      if ((cause as NodeJS.ErrnoException).code === 'ENOENT') return null;
      // Going on as if nothing were known would let everything old in again.
      throw new PolicyLoadError(`${path} cannot be read: remove it to take whatever bundle is served`, { cause });
    }
  }

  saveOrder(mark: OrderMark): Promise<void> {
    return this.#inTurn(async () => {
      makeDirectory(this.#dir, 0o700);
      await this.#write(ORDER, JSON.stringify(mark));
    });
  }

  /** Resolves when all that was asked for is on the disk. */
  async idle(): Promise<void> {
    await this.#turn;
  }

  /** One change at a time, in the order they were asked for. */
  #inTurn(change: () => Promise<void>): Promise<void> {
    const mine = this.#turn.then(change);
    this.#turn = mine.catch(() => undefined);
    return mine;
  }

  async #state(): Promise<State | null> {
    try {
      return JSON.parse(await readFile(join(this.#dir, 'state.json'), 'utf8')) as State;
    } catch {
      return null;
    }
  }

  async #write(name: string, content: Buffer | string): Promise<void> {
    const partial = join(this.#dir, `.${name}.${process.pid}`);
    await writeFile(partial, content, { mode: 0o600 });
    await rename(partial, join(this.#dir, name));
  }
}

const place = z.int().min(0).nullable();
const orderSchema = z.strictObject({ newest: place, kept: place });

type Three = [string, string, string];

/** Hex SHA-256, by which the store tells archives apart. */
export const sha256 = (bytes: Buffer): string => createHash('sha256').update(bytes).digest('hex');

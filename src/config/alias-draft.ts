/** The configuration while environment variables are written into it, and how values are read. */
import { isJsonObject } from '../core/json.ts';
import type { Path, Place, Places } from './problem.ts';
import type { SecretFiles } from './references.ts';

export type Tree = Record<string, unknown>;

/** The value of the variable does not fit; the message says what would. */
export class AliasError extends Error {}

/** The configuration while variables are written into it. */
export class Draft {
  readonly root: Tree;
  readonly #places: Places;
  readonly #place: Place;
  readonly files: SecretFiles;

  constructor(root: Tree, places: Places, place: Place, files: SecretFiles) {
    this.root = root;
    this.#places = places;
    this.#place = place;
    this.files = files;
  }

  get(path: Path): unknown {
    let value: unknown = this.root;
    for (const part of path) value = typeof value === 'object' && value !== null ? Reflect.get(value, part) : undefined;
    return value;
  }

  set(path: Path, value: unknown): void {
    let holder = this.root;
    for (const [index, part] of path.slice(0, -1).entries()) {
      const next = holder[part];
      if (typeof next === 'object' && next !== null) holder = next as Tree;
      else {
        const made: Tree = {};
        holder[part] = made;
        this.#places.set(path.slice(0, index + 1), this.#place);
        holder = made;
      }
    }
    holder[String(path.at(-1))] = value;
    this.#places.set(path, this.#place, this.#place);
  }
}

/** One row of the table in docs/configuration.md. */
export interface Alias {
  readonly env: string;
  /** The setting, dotted; for the reader. */
  readonly setting: string;
  readonly note: string;
  apply(value: string, draft: Draft): void;
}

/** The spelling of ours for one of these words, any case. */
export function oneOf(value: string, choices: Readonly<Record<string, string>>): string {
  const found = choices[value.toLowerCase()];
  if (found === undefined) throw new AliasError(`expected one of ${Object.keys(choices).join(', ')}`);
  return found;
}

/** Yes or no as people write it. */
export function flag(value: string): boolean {
  if (/^(?:1|true|yes|on)$/i.test(value)) return true;
  if (/^(?:0|false|no|off)$/i.test(value)) return false;
  throw new AliasError('expected true or false');
}

/** A port number as text. */
export function port(value: string): string {
  if (!/^\d{1,5}$/.test(value) || Number(value) > 65_535) throw new AliasError('expected a port number');
  return value;
}

/** `listen.data` is a text or an object with an address. */
export function dataAddress(draft: Draft): { path: Path; address: string } {
  const value = draft.get(['listen', 'data']);
  if (isJsonObject(value)) return { path: ['listen', 'data', 'address'], address: String(value.address) };
  return { path: ['listen', 'data'], address: typeof value === 'string' ? value : '127.0.0.1:8080' };
}

/** The host of HOST:PORT. */
export const hostPart = (address: string): string =>
  address.slice(0, Math.max(address.lastIndexOf(':'), 0)) || '127.0.0.1';

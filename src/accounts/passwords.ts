/**
 * Argon2id (RFC 9106) with a bound on how many run at once: each takes its memory for itself, so that many logins at
 * the same time would otherwise be an attack on it. Source: security 2.10, acceptance VF-16.
 */
import { type Argon2Parameters, argon2, randomBytes, timingSafeEqual } from 'node:crypto';
import { promisify } from 'node:util';
import { GatewayError } from '../core/errors.ts';

const derive = promisify(argon2) as (algorithm: 'argon2id', parameters: Argon2Parameters) => Promise<Buffer>;

const SALT_BYTES = 16;
const TAG_BYTES = 32;

export interface HashCost {
  readonly memory_kib: number;
  readonly passes: number;
}

export interface PasswordsOptions extends HashCost {
  /** Hashes at the same time. */
  readonly concurrency: number;
  /** Hashes that may wait. */
  readonly queue: number;
}

interface Stored {
  readonly memory: number;
  readonly passes: number;
  readonly parallelism: number;
  readonly nonce: Buffer;
  readonly tag: Buffer;
}

const ENCODED =
  /^\$argon2id\$v=19\$m=(\d{1,8}),t=(\d{1,3}),p=(\d{1,2})\$([A-Za-z0-9+/]{8,86})\$([A-Za-z0-9+/]{16,128})$/;

/** The parts of an encoded hash (PHC string format); null for anything else. */
function decode(encoded: string): Stored | null {
  const [, memory, passes, parallelism, nonce = '', tag = ''] = ENCODED.exec(encoded) ?? [];
  if (memory === undefined) return null;
  return {
    memory: Number(memory),
    passes: Number(passes),
    parallelism: Number(parallelism),
    nonce: Buffer.from(nonce, 'base64'),
    tag: Buffer.from(tag, 'base64'),
  };
}

/** True for a hash that `Passwords` can check: what an import brings has to be one. */
export function isPasswordHash(encoded: string): boolean {
  const stored = decode(encoded);
  return stored !== null && stored.memory >= 8 * stored.parallelism && stored.memory <= 1_048_576 && stored.passes >= 1;
}

const bare = (bytes: Buffer): string => bytes.toString('base64').replace(/=+$/, '');

/** Makes and checks hashes. Every check of a login costs the same, whether there is such an account or not. */
export class Passwords {
  readonly #options: PasswordsOptions;
  readonly #dummy: string;
  readonly #waiting: (() => void)[] = [];
  #running = 0;

  constructor(options: PasswordsOptions) {
    this.#options = options;
    this.#dummy = this.#encode(randomBytes(SALT_BYTES), randomBytes(TAG_BYTES));
  }

  #encode(nonce: Buffer, tag: Buffer): string {
    const { memory_kib, passes } = this.#options;
    return `$argon2id$v=19$m=${memory_kib},t=${passes},p=1$${bare(nonce)}$${bare(tag)}`;
  }

  /** A hash that no password fits, and that takes the same time as any: for accounts that log in elsewhere. */
  unusable(): string {
    return this.#encode(randomBytes(SALT_BYTES), randomBytes(TAG_BYTES));
  }

  async hash(password: string): Promise<string> {
    const nonce = randomBytes(SALT_BYTES);
    const { memory_kib, passes } = this.#options;
    const tag = await this.#run(password, { nonce, memory: memory_kib, passes, parallelism: 1 }, TAG_BYTES);
    return this.#encode(nonce, tag);
  }

  /** Null stands for an account that is not there: the same work, never true. Rejects with OVERLOADED. */
  async verify(password: string, encoded: string | null): Promise<boolean> {
    const stored = decode(encoded ?? this.#dummy);
    if (stored === null) throw new Error('a stored password hash cannot be read');
    const tag = await this.#run(password, stored, stored.tag.length);
    return timingSafeEqual(tag, stored.tag) && encoded !== null;
  }

  /** Whether a hash was made with other costs than new ones are. */
  isDated(encoded: string): boolean {
    const stored = decode(encoded);
    return stored?.memory !== this.#options.memory_kib || stored.passes !== this.#options.passes;
  }

  async #run(password: string, cost: Omit<Stored, 'tag'>, tagLength: number): Promise<Buffer> {
    await this.#enter();
    try {
      // The same characters in another composition are the same password (NIST SP 800-63B-4, 3.1.1.2).
      const message = Buffer.from(password.normalize('NFC'));
      return await derive('argon2id', { ...cost, message, tagLength });
    } finally {
      this.#running -= 1;
      this.#waiting.shift()?.();
    }
  }

  async #enter(): Promise<void> {
    if (this.#running >= this.#options.concurrency) {
      if (this.#waiting.length >= this.#options.queue) throw new GatewayError('OVERLOADED', { retryAfter: 1 });
      await new Promise<void>((resolve) => this.#waiting.push(resolve));
    }
    this.#running += 1;
  }
}

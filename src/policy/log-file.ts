/** The decision log in a file: one JSON event a line, readable by the owner only. */
import { type FileHandle, open } from 'node:fs/promises';
import type { Logger } from '../core/module.ts';

export class FileSink {
  readonly #file: string;
  readonly #logger: Logger;
  readonly #onLost: (events: number) => void;
  #handle: FileHandle | null = null;

  constructor(file: string, logger: Logger, onLost: (events: number) => void) {
    this.#file = file;
    this.#logger = logger;
    this.#onLost = onLost;
  }

  /** Never rejects: lines that cannot be written are lost, and the log says why. */
  async append(lines: readonly string[]): Promise<void> {
    if (lines.length === 0) return;
    try {
      this.#handle ??= await open(this.#file, 'a', 0o600);
      await this.#handle.appendFile(`${lines.join('\n')}\n`);
    } catch (cause) {
      this.#onLost(lines.length);
      const reason = (cause as Error).message;
      this.#logger.error({ file: this.#file, reason }, 'the decision log cannot be written');
      await this.release();
    }
  }

  /** Between bursts the file is not held open: whoever moves it away gets a new one. */
  async release(): Promise<void> {
    const handle = this.#handle;
    this.#handle = null;
    await handle?.close().catch(() => undefined);
  }
}

/**
 * Asks the generic SQL parsers, synchronously: they are large, young and written for friendly text, so they live in a
 * process of their own and no text can hurt the gateway through them. A thread stands between, because only a thread can
 * wake a caller who sleeps. The parsers are not in that thread: ending a thread while V8 compiles WASM for it brings the
 * whole process down. Source: security 4.3.
 */
import { MessageChannel, type MessagePort, receiveMessageOnPort, Worker } from 'node:worker_threads';
import type { Finding } from '../classifier.ts';
import type { SqlExaminer } from './sql-reading.ts';
import { sqlFinding, TOO_LONG } from './sql-reading.ts';
import type { Answer, Question, RelayStart } from './sql-wire.ts';
import { CELLS } from './sql-wire.ts';

/**
 * Milliseconds the caller waits in the worst case. What bounds the time is the size of the statements that are let
 * through (sql-size.ts); this is for a machine that has no time and for what nobody foresaw.
 */
const WAIT_MS = 500;
/** Milliseconds to wait at exit for each process to be gone. */
const CLOSE_MS = 200;
const NOT_READY: readonly Finding[] = [sqlFinding('admin', 'sql:unknown-dialect')];

/** The relay, from outside. */
class Relay {
  readonly #worker: Worker;
  readonly #port: MessagePort;
  readonly #cells = new Int32Array(new SharedArrayBuffer(4 * CELLS.count));
  readonly loaded = new Map<string, Promise<boolean>>();
  #asked = 0;
  isOver = false;

  constructor() {
    const { port1, port2 } = new MessageChannel();
    this.#port = port1;
    const file = import.meta.url.endsWith('.ts') ? './sql-relay.ts' : './sql-relay.js';
    const workerData: RelayStart = { port: port2, cells: this.#cells };
    this.#worker = new Worker(new URL(file, import.meta.url), { workerData, transferList: [port2] });
    const end = (): void => {
      this.isOver = true;
    };
    this.#worker.once('exit', end).once('error', end);
    process.once('exit', () => this.#close());
    port1.unref();
    this.#worker.unref();
  }

  /** Nothing that was started outlives this process; what the relay has not reaped yet would, for a moment. */
  #close(): void {
    if (this.isOver) return;
    Atomics.store(this.#cells, CELLS.isClosing, 1);
    for (let cell = CELLS.pids; cell < CELLS.count; cell++) {
      const pid = Atomics.load(this.#cells, cell);
      if (pid === 0) continue;
      try {
        process.kill(pid, 'SIGKILL');
      } catch {
        continue;
      }
      Atomics.wait(this.#cells, cell, pid, CLOSE_MS);
    }
  }

  /** True when the dialect's parsers are there; false when they cannot be loaded or the thread died. */
  load(dialect: string): Promise<boolean> {
    const known = this.loaded.get(dialect);
    if (known !== undefined) return known;
    const loading = this.#load(dialect);
    this.loaded.set(dialect, loading);
    return loading;
  }

  #load(dialect: string): Promise<boolean> {
    const { promise, resolve } = Promise.withResolvers<boolean>();
    const onMessage = (message: { readonly dialect: string; readonly loaded: boolean }): void => {
      if (message.dialect === dialect) finish(message.loaded);
    };
    const onEnd = (): void => finish(false);
    const finish = (loaded: boolean): void => {
      this.#worker.off('message', onMessage).off('exit', onEnd).off('error', onEnd);
      this.#worker.unref();
      resolve(loaded);
    };
    // While something waits for it, the thread keeps the process alive; a process with nothing else to do may end.
    this.#worker.ref();
    this.#worker.on('message', onMessage).on('exit', onEnd).on('error', onEnd);
    this.#worker.postMessage(dialect);
    return promise;
  }

  /** The answer, or null when the time is up or an earlier statement still has the parsers. Blocks the caller meanwhile. */
  ask(dialect: string, sql: string): Answer | null {
    const before = this.#asked;
    if (Atomics.load(this.#cells, CELLS.answered) !== before) return null;
    this.#asked = (before + 1) | 0;
    const question: Question = { id: this.#asked, dialect, sql };
    this.#port.postMessage(question);
    Atomics.wait(this.#cells, CELLS.answered, before, WAIT_MS);
    if (Atomics.load(this.#cells, CELLS.answered) !== this.#asked) return null;
    // Answers that came too late stand before this one.
    for (;;) {
      const answer = receiveMessageOnPort(this.#port)?.message as Answer | undefined;
      if (answer === undefined || answer.id === this.#asked) return answer ?? null;
    }
  }
}

/** One for the process: the parsers keep nothing between statements, so registries share them. */
let current: Relay | null = null;

function ask(dialect: string, sql: string): readonly Finding[] {
  if (current === null) return NOT_READY;
  if (current.isOver) {
    const { loaded } = current;
    current = new Relay();
    for (const name of loaded.keys()) void current.load(name);
    return NOT_READY;
  }
  const answer = current.ask(dialect, sql);
  return answer === null ? TOO_LONG : (answer.findings ?? NOT_READY);
}

/** Loads a dialect's parsers in their process; the examiner it returns blocks until they have answered. */
export async function loadInThread(dialect: string): Promise<SqlExaminer> {
  current ??= new Relay();
  if (!(await current.load(dialect))) throw new Error(`the SQL parser of ${dialect} cannot be loaded`);
  return (sql) => ask(dialect, sql);
}

/**
 * Asks the generic SQL parsers in a thread of their own, synchronously: they are large, young and written for friendly
 * text. What takes too long is refused and the thread replaced; so is a thread whose parser trapped often.
 * Source: security 4.3.
 */
import { MessageChannel, type MessagePort, receiveMessageOnPort, Worker } from 'node:worker_threads';
import type { Finding } from '../classifier.ts';
import type { SqlExaminer } from './sql-reading.ts';
import { sqlFinding, TOO_LONG } from './sql-reading.ts';
import type { Answer, Question, WorkerStart } from './sql-worker.ts';

/** Milliseconds a statement may take in all; the second opinion has its own, shorter limit. */
const BUDGET_MS = 1000;
/** A trap leaks a part of the parser's stack, which lasts for thousands of them. */
const MAX_TRAPS = 200;
const NOT_READY: readonly Finding[] = [sqlFinding('admin', 'sql:unknown-dialect')];

/** One running thread. */
class Thread {
  readonly #worker: Worker;
  readonly #port: MessagePort;
  readonly #answered = new Int32Array(new SharedArrayBuffer(4));
  readonly loaded = new Map<string, Promise<boolean>>();
  #asked = 0;
  traps = 0;

  constructor() {
    const { port1, port2 } = new MessageChannel();
    this.#port = port1;
    const file = import.meta.url.endsWith('.ts') ? './sql-worker.ts' : './sql-worker.js';
    const workerData: WorkerStart = { port: port2, answered: this.#answered };
    this.#worker = new Worker(new URL(file, import.meta.url), { workerData, transferList: [port2] });
    port1.unref();
    this.#worker.unref();
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

  /** The answer, or null when the time is up. Blocks the caller meanwhile. */
  ask(dialect: string, sql: string): Answer | null {
    const before = this.#asked;
    this.#asked = (before + 1) | 0;
    const question: Question = { id: this.#asked, dialect, sql };
    this.#port.postMessage(question);
    Atomics.wait(this.#answered, 0, before, BUDGET_MS);
    if (Atomics.load(this.#answered, 0) !== this.#asked) return null;
    return (receiveMessageOnPort(this.#port)?.message as Answer | undefined) ?? null;
  }

  stop(): void {
    this.#port.close();
    // Whoever stopped it does not wait for its end.
    this.#worker.terminate().catch(() => {});
  }
}

/** One thread for the process: its parsers keep nothing between statements, so registries share it. */
let current: Thread | null = null;
let replacing = false;

async function replace(old: Thread): Promise<void> {
  if (replacing || current !== old) return;
  replacing = true;
  const next = new Thread();
  try {
    await Promise.all([...old.loaded.keys()].map((dialect) => next.load(dialect)));
  } finally {
    current = next;
    replacing = false;
    old.stop();
  }
}

function ask(dialect: string, sql: string): readonly Finding[] {
  const thread = current;
  if (thread === null) return NOT_READY;
  const answer = thread.ask(dialect, sql);
  if (answer === null) {
    // It is still busy with this statement and would be late for the next: stop it now, refuse until the next is up.
    const { loaded } = thread;
    thread.stop();
    current = new Thread();
    for (const name of loaded.keys()) void current.load(name);
    return TOO_LONG;
  }
  if (answer.trapped && ++thread.traps >= MAX_TRAPS) void replace(thread);
  return answer.findings ?? NOT_READY;
}

/** Loads a dialect in the thread; the examiner it returns blocks until the thread has answered. */
export async function loadInThread(dialect: string): Promise<SqlExaminer> {
  current ??= new Thread();
  if (!(await current.load(dialect))) throw new Error(`the SQL parser of ${dialect} cannot be loaded`);
  return (sql) => ask(dialect, sql);
}

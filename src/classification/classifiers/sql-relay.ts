/**
 * The thread between a caller who sleeps and the process of the parsers (see sql-thread.ts). It runs no parser itself:
 * the event loop of the gateway may be stopped for a moment, but never by something that cannot be stopped in turn.
 */
import { type ChildProcess, fork } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { parentPort, workerData } from 'node:worker_threads';
import type { Finding } from '../classifier.ts';
import type { ChildOrder, ChildReport } from './sql-child.ts';
import { TOO_LONG } from './sql-reading.ts';
import type { Answer, Question, RelayStart } from './sql-wire.ts';
import { CELLS } from './sql-wire.ts';

/** Milliseconds after which a process that has not answered is killed; more while it loads a dialect besides. */
const HANG_MS = 1000;
const LOADING_MS = 30_000;
/** A trap leaks a part of the parser's stack, which lasts for thousands of them. */
const MAX_TRAPS = 200;
/** Milliseconds before a process that died is replaced; doubled with each death until one answers. */
const RESTART_MS = 10;
const MAX_RESTART_MS = 10_000;
const HEAP_MB = 256;

const { port, cells } = workerData as RelayStart;

/** Every dialect that was ever asked for: a new process loads them all. */
const wanted = new Set<string>();
let current: Parsers | null = null;
let next: Parsers | null = null;
let deaths = 0;

/** One running process. */
class Parsers {
  readonly #process: ChildProcess;
  readonly #cell: number;
  readonly #loading = new Map<string, PromiseWithResolvers<boolean>>();
  readonly #ready = new Set<string>();
  #asked: Question | null = null;
  #timer: NodeJS.Timeout | null = null;
  #traps = 0;

  constructor() {
    const file = import.meta.url.endsWith('.ts') ? './sql-child.ts' : './sql-child.js';
    this.#process = fork(fileURLToPath(new URL(file, import.meta.url)), [], {
      env: {},
      execArgv: ['--disable-warning=ExperimentalWarning', `--max-old-space-size=${HEAP_MB}`],
      stdio: ['ignore', 'ignore', 'ignore', 'ipc'],
    });
    this.#cell = Math.max(cells.indexOf(0, CELLS.pids), CELLS.pids);
    Atomics.store(cells, this.#cell, this.#process.pid ?? 0);
    this.#process.on('message', (message) => this.#heard(message as ChildReport));
    this.#process.once('exit', () => this.#ended()).once('error', () => this.#ended());
  }

  load(dialect: string): Promise<boolean> {
    const known = this.#loading.get(dialect);
    if (known !== undefined) return known.promise;
    const loading = Promise.withResolvers<boolean>();
    this.#loading.set(dialect, loading);
    this.#tell({ load: dialect });
    return loading.promise;
  }

  /** A dialect that is not loaded yet is not waited for. */
  ask(question: Question): void {
    if (!this.#ready.has(question.dialect)) {
      answer(question, null);
      return;
    }
    this.#asked = question;
    const isLoading = this.#ready.size < this.#loading.size;
    this.#timer = setTimeout(() => this.stop(), isLoading ? LOADING_MS : HANG_MS);
    this.#tell(question);
  }

  stop(): void {
    this.#process.kill('SIGKILL');
  }

  #tell(order: ChildOrder): void {
    // A channel that is closed already is followed by `exit`, which settles everything.
    this.#process.send(order, () => {});
  }

  #heard(message: ChildReport): void {
    if ('loaded' in message) {
      const loading = this.#loading.get(message.dialect);
      if (message.loaded) this.#ready.add(message.dialect);
      else this.#loading.delete(message.dialect);
      loading?.resolve(message.loaded);
      return;
    }
    deaths = 0;
    if (message.trapped && ++this.#traps % MAX_TRAPS === 0) void replace(this);
    this.#settle(message.findings);
  }

  #settle(findings: readonly Finding[] | null): void {
    const question = this.#asked;
    if (question === null) return;
    this.#asked = null;
    if (this.#timer !== null) clearTimeout(this.#timer);
    answer(question, findings);
  }

  /** Killed, or brought down by a defect of its parsers: the gateway goes on. */
  #ended(): void {
    if (Atomics.compareExchange(cells, this.#cell, this.#process.pid ?? 0, 0) !== 0) Atomics.notify(cells, this.#cell);
    this.#settle(TOO_LONG);
    for (const { resolve } of this.#loading.values()) resolve(false);
    if (next === this) next = null;
    if (current !== this) return;
    current = null;
    if (Atomics.load(cells, CELLS.isClosing) === 1) return;
    setTimeout(open, Math.min(RESTART_MS * 2 ** deaths, MAX_RESTART_MS));
    deaths++;
  }
}

function answer({ id }: Question, findings: readonly Finding[] | null): void {
  port.postMessage({ id, findings } satisfies Answer);
  Atomics.store(cells, CELLS.answered, id);
  Atomics.notify(cells, CELLS.answered);
}

/** Starts the process that takes the next questions. */
function open(): Parsers {
  if (current !== null) return current;
  current = new Parsers();
  for (const dialect of wanted) void current.load(dialect);
  return current;
}

/** Lets another process take over, once it is ready. */
async function replace(old: Parsers): Promise<void> {
  if (current !== old || next !== null) return;
  const fresh = new Parsers();
  next = fresh;
  const loaded = await Promise.all([...wanted].map((dialect) => fresh.load(dialect)));
  if (next !== fresh) return;
  next = null;
  if (!loaded.every(Boolean)) {
    fresh.stop();
    return;
  }
  current = fresh;
  old.stop();
  // Some may have been asked for meanwhile.
  for (const dialect of wanted) void fresh.load(dialect);
}

/** Once more when the process was replaced meanwhile. */
async function load(dialect: string): Promise<boolean> {
  wanted.add(dialect);
  const parsers = open();
  return (await parsers.load(dialect)) || (parsers !== current && open().load(dialect));
}

port.on('message', (question: Question) => {
  if (current === null) answer(question, null);
  else current.ask(question);
});
parentPort?.on('message', async (dialect: string) => {
  parentPort?.postMessage({ dialect, loaded: await load(dialect) });
});

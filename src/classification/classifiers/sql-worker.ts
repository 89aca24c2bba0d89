/**
 * The thread in which the generic parsers live (see sql-thread.ts). It loads dialects when told to and answers one
 * statement at a time over a port, waking the caller, who sleeps meanwhile.
 */
import { type MessagePort, parentPort, workerData } from 'node:worker_threads';
import type { Finding } from '../classifier.ts';
import { type GenericExaminer, loadGeneric } from './sql-generic.ts';

/** What a thread is started with. */
export interface WorkerStart {
  readonly port: MessagePort;
  /** One 32-bit cell: the number of the last question that was answered. */
  readonly answered: Int32Array;
}

/** One question. */
export interface Question {
  readonly id: number;
  readonly dialect: string;
  readonly sql: string;
}

/** The answer; null when the dialect is not loaded. */
export interface Answer {
  readonly id: number;
  readonly findings: readonly Finding[] | null;
  readonly trapped: boolean;
}

// A trap of the parser is told by its result; its own printing of stack traces would only fill the log.
console.error = () => {};

const { port, answered } = workerData as WorkerStart;
const examiners = new Map<string, GenericExaminer>();

parentPort?.on('message', (dialect: string) => {
  loadGeneric(dialect).then(
    (examiner) => {
      examiners.set(dialect, examiner);
      parentPort?.postMessage({ dialect, loaded: true });
    },
    () => parentPort?.postMessage({ dialect, loaded: false }),
  );
});

port.on('message', ({ id, dialect, sql }: Question) => {
  const reading = examiners.get(dialect)?.(sql);
  const answer: Answer = { id, findings: reading?.findings ?? null, trapped: reading?.trapped ?? false };
  port.postMessage(answer);
  Atomics.store(answered, 0, id);
  Atomics.notify(answered, 0);
});

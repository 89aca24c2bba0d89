/** What passes between the caller of the SQL parsers (sql-thread.ts) and the thread before their process (sql-relay.ts). */
import type { MessagePort } from 'node:worker_threads';
import type { Finding } from '../classifier.ts';

/** Places in the memory that the caller and the thread share. */
export const CELLS = {
  /** The number of the last question that was answered. */
  answered: 0,
  /** 1 once the caller's process ends: no further process is started. */
  isClosing: 1,
  /** From here on: ids of the running processes, 0 where there is none. */
  pids: 2,
  count: 6,
} as const;

/** What the thread is started with. */
export interface RelayStart {
  readonly port: MessagePort;
  readonly cells: Int32Array;
}

/** One question. */
export interface Question {
  readonly id: number;
  readonly dialect: string;
  readonly sql: string;
}

/** The answer; null when no process has the dialect loaded. */
export interface Answer {
  readonly id: number;
  readonly findings: readonly Finding[] | null;
}

/** Threads whose work can wait. */
import { setPriority } from 'node:os';

/** Nice values go from -20 to 19: with the last one a thread gets what the others leave. */
const LAST = 19;

/**
 * Puts the calling thread behind all others of the machine, so that requests are served first where there are few
 * cores. Only Linux knows priorities of single threads; elsewhere this would be the whole process, so nothing is done.
 */
export function stepBack(): void {
  if (process.platform !== 'linux') return;
  try {
    setPriority(0, LAST);
  } catch {
    // A sandbox may forbid it; then the thread is one among others.
  }
}

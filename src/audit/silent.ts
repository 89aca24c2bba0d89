/** The recorder of `audit.mode: off`: it writes nothing, and says so once where operators look. */
import type { AuditRecorderOptions, FileAuditRecorder } from './recorder.ts';

export function createSilentRecorder({ logger }: AuditRecorderOptions): FileAuditRecorder {
  logger.warn({}, 'audit is off: no request will be recorded');
  return {
    record() {},
    flush: () => Promise.resolve(),
    status: () => ({ healthy: true, dropped: 0, buffered: 0, last_error: null }),
    reopen() {},
    [Symbol.asyncDispose]: () => Promise.resolve(),
  };
}

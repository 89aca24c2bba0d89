/**
 * One JSON line per event on standard error, at a level that can be set per component. Secrets are taken out here, by
 * name and by look, whatever the caller logs. The one user of pino. Source: acceptance D-61, X-07.
 */
import { type DestinationStream, destination, type LevelWithSilent, type Logger as Pino, pino } from 'pino';
import type { Logger } from '../core/module.ts';
import { isSensitiveName, REDACTED, scrubText } from '../core/redaction.ts';
import { Secret } from '../core/secret.ts';

export type LogLevel = 'debug' | 'info' | 'warn' | 'error';

export interface LoggingOptions {
  readonly level: LogLevel;
  /** Level by component name, e.g. `{ identity: 'debug' }`. */
  readonly levels: Readonly<Record<string, LogLevel>>;
  /** Where lines go; standard error when absent. Tests collect. */
  readonly write?: (line: string) => void;
}

export interface Logging {
  /** The logger of one part of the gateway; the name is on each of its lines. Same name, same logger. */
  component(name: string): Logger;
  /** Changes a level while running; without a component: the default of all that have no level of their own. */
  setLevel(level: LogLevel, component?: string): void;
  /** Writes out what is buffered. */
  flush(): void;
}

const MAX_TEXT = 8192;
const MAX_DEPTH = 6;

function cleanText(text: string): string {
  return scrubText(text.length > MAX_TEXT ? `${text.slice(0, MAX_TEXT)}…` : text);
}

function cleanError(error: Error, depth: number): object {
  const fields: Record<string, unknown> = { type: error.name, message: cleanText(error.message) };
  if ('code' in error) fields.code = clean(error.code, depth + 1);
  if (error.stack !== undefined) fields.stack = cleanText(error.stack);
  if (error.cause !== undefined) fields.cause = clean(error.cause, depth + 1);
  return fields;
}

function clean(value: unknown, depth: number): unknown {
  if (typeof value === 'string') return cleanText(value);
  if (typeof value === 'bigint') return String(value);
  if (typeof value !== 'object' || value === null) return value;
  if (value instanceof Secret) return REDACTED;
  if (depth >= MAX_DEPTH) return '[too deep]';
  if (value instanceof Error) return cleanError(value, depth);
  if (Buffer.isBuffer(value)) return `[${value.length} bytes]`;
  if (Array.isArray(value)) return value.slice(0, 100).map((item) => clean(item, depth + 1));
  if (value instanceof Date || value instanceof URL) return cleanText(String(value));
  return cleanFields(value, depth);
}

/** A copy of the fields without secrets. Exported for the test that feeds it every kind of value. */
export function cleanFields(fields: object, depth = 0): Record<string, unknown> {
  const copy: Record<string, unknown> = {};
  for (const [name, value] of Object.entries(fields)) {
    const hide = isSensitiveName(name) && value !== null && value !== undefined && typeof value !== 'boolean';
    copy[name] = hide ? REDACTED : clean(value, depth + 1);
  }
  return copy;
}

function wrap(target: Pino): Logger {
  const at = (level: LogLevel) => (fields: object, message: string) => {
    // Asked first: fields are only cleaned for lines that are written.
    if (!target.isLevelEnabled(level)) return;
    target[level](cleanFields(fields), cleanText(message));
  };
  return { debug: at('debug'), info: at('info'), warn: at('warn'), error: at('error') };
}

/** Builds the process's logging. Lines are buffered by pino and written synchronously in order. */
export function createLogging(options: LoggingOptions): Logging {
  const write = options.write;
  const sink: DestinationStream & { flushSync?: () => void } =
    write === undefined ? destination({ dest: 2, sync: true }) : { write };
  const root = pino(
    {
      level: 'debug' satisfies LevelWithSilent,
      base: null,
      timestamp: () => `,"time":"${new Date().toISOString()}"`,
      formatters: { level: (label) => ({ level: label }) },
      messageKey: 'message',
    },
    sink,
  );
  let fallback = options.level;
  const own = new Map<string, LogLevel>(Object.entries(options.levels));
  const made = new Map<string, { pino: Pino; logger: Logger }>();
  const levelOf = (name: string) => own.get(name) ?? fallback;
  return {
    component(name) {
      const known = made.get(name);
      if (known !== undefined) return known.logger;
      const child = root.child({ component: name }, { level: levelOf(name) });
      const logger = wrap(child);
      made.set(name, { pino: child, logger });
      return logger;
    },
    setLevel(level, component) {
      if (component === undefined) fallback = level;
      else own.set(component, level);
      for (const [name, entry] of made) entry.pino.level = levelOf(name);
    },
    flush: () => sink.flushSync?.(),
  };
}

/** A logger that writes nothing: for tests and one-shot commands. */
export const silentLogger: Logger = { debug() {}, info() {}, warn() {}, error() {} };

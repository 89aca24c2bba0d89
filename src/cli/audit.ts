/** `portcullis audit tail`: the end of the audit file, and what is added to it. */
import { closeSync, existsSync, fstatSync, openSync, readSync, statSync, watch } from 'node:fs';
import { basename, dirname, resolve } from 'node:path';
import { StringDecoder } from 'node:string_decoder';
import type { AuditEvent } from '../audit/event.ts';
import { suggestion } from '../config/problem.ts';
import { isJsonObject, type JsonObject } from '../core/json.ts';
import { configFile, requireConfig } from './config-file.ts';
import { requireReadable } from './input-file.ts';
import { CommandError, EXIT, type Io, line, UnreachableError, UsageError } from './io.ts';
import { printable } from './printable.ts';
import { readArguments, USUAL_OPTIONS } from './usual-options.ts';

export const AUDIT_HELP = `Usage: portcullis audit tail [-f] [-n N] [--type TYPE] [--json] [-c FILE | --file PATH]

Prints the last events of the audit file, oldest first.

  -n, --lines N       how many (default 20)
  -f, --follow        go on with new events until interrupted
  --type TYPE         only events of this type, e.g. tool_invocation, policy_violation;
                      another word prints all there are
  --json              the events as they stand in the file, one JSON object per line
  -c, --config FILE   the configuration that names the file
      --file PATH     the audit file itself
`;

/** Every type there is: the compiler says when one is missing. */
const TYPES = Object.keys({
  tool_invocation: 0,
  authorization_decision: 0,
  data_access: 0,
  policy_violation: 0,
  request_refused: 0,
  rate_limit_exceeded: 0,
  delegation_request: 0,
  suspicious_activity: 0,
  admin_action: 0,
  approval_requested: 0,
  approval_approved: 0,
  approval_rejected: 0,
  approval_expired: 0,
  approval_used: 0,
  user_registered: 0,
  login_succeeded: 0,
  login_failed: 0,
  password_changed: 0,
  permission_denied: 0,
  api_key_created: 0,
  api_key_revoked: 0,
  oauth_client_registered: 0,
  oauth_authorization_granted: 0,
  oauth_authorization_denied: 0,
  oauth_token_issued: 0,
  token_revoked: 0,
  mfa_enrolled: 0,
  mfa_removed: 0,
  mfa_verified: 0,
  mfa_failed: 0,
  mfa_codes_renewed: 0,
  reported_event: 0,
} satisfies Record<AuditEvent['event_type'], 0>);

const CHUNK = 65_536;

/** The lines of a file from its end to its beginning, without reading more than is asked for. */
function* linesFromEnd(fd: number, end: number): Generator<string> {
  let position = end;
  let rest: Buffer = Buffer.alloc(0);
  while (position > 0) {
    const size = Math.min(CHUNK, position);
    position -= size;
    const chunk = Buffer.alloc(size);
    readSync(fd, chunk, 0, size, position);
    let block = Buffer.concat([chunk, rest]);
    for (let at = block.lastIndexOf(10); at !== -1; at = block.lastIndexOf(10)) {
      if (at < block.length - 1) yield block.toString('utf8', at + 1);
      block = block.subarray(0, at);
    }
    rest = block;
  }
  if (rest.length > 0) yield rest.toString('utf8');
}

function parseEvent(text: string): JsonObject | null {
  try {
    const value: unknown = JSON.parse(text);
    return isJsonObject(value) ? value : null;
  } catch {
    // A line cut off by a crash is not an event.
    return null;
  }
}

function summary(event: JsonObject): string {
  const word = (name: string) =>
    typeof event[name] === 'string' || typeof event[name] === 'number' ? String(event[name]) : null;
  const named = [word('server_name'), word('tool_name')].filter((part) => part !== null).join('/');
  const path = word('action')?.startsWith('http:') ? word('path') : null;
  const target = named === '' ? (word('model') ?? path) : named;
  const reasons = Array.isArray(event.reasons)
    ? event.reasons.map((reason) => (isJsonObject(reason) ? String(reason.message) : '')).join('; ')
    : '';
  const level = word('sensitivity_level') === null ? null : `${word('tool_type')}/${word('sensitivity_level')}`;
  const parts = [
    word('timestamp'),
    word('event_type'),
    word('outcome') ?? word('severity'),
    word('status'),
    word('user_id') ?? '-',
    word('action') ?? word('operation') ?? `${word('method') ?? ''} ${word('path') ?? ''}`.trim(),
    target,
    level,
    word('code'),
    word('violation_reason') ?? (reasons === '' ? null : reasons),
  ];
  return printable(parts.filter((part) => part !== null && part !== '').join('  '));
}

class Printer {
  readonly #type: string | undefined;
  readonly #json: boolean;
  readonly #io: Io;
  /** Lines that are an event, of whatever type. */
  #events = 0;

  constructor(type: string | undefined, json: boolean, io: Io) {
    this.#type = type;
    this.#json = json;
    this.#io = io;
  }

  /** The text to print for a line of the file; null when it is not wanted. */
  render(text: string): string | null {
    const event = parseEvent(text);
    if (event !== null) this.#events++;
    if (event === null || (this.#type !== undefined && event.event_type !== this.#type)) return null;
    return this.#json ? text : summary(event);
  }

  print(text: string): void {
    const rendered = this.render(text);
    if (rendered !== null) line(this.#io, rendered);
  }

  /** The last `count` wanted lines before `end`, oldest first. Gives how many there are, and how many of other types it saw. */
  last(fd: number, end: number, count: number): { readonly found: number; readonly others: number } {
    const found: string[] = [];
    if (count === 0) return { found: 0, others: 0 };
    for (const text of linesFromEnd(fd, end)) {
      const rendered = this.render(text);
      if (rendered !== null && found.push(rendered) === count) break;
    }
    for (const text of found.reverse()) line(this.#io, text);
    return { found: found.length, others: this.#events - found.length };
  }
}

/** Prints what is appended, also after the file was rotated or emptied, until the signal. */
function follow(file: string, from: number, printer: Printer, signal: AbortSignal): Promise<void> {
  let fd = openSync(file, 'r');
  let offset = from;
  let decoder = new StringDecoder('utf8');
  let rest = '';
  const drain = () => {
    const buffer = Buffer.alloc(CHUNK);
    for (let got = readSync(fd, buffer, 0, CHUNK, offset); got > 0; got = readSync(fd, buffer, 0, CHUNK, offset)) {
      offset += got;
      const pieces = (rest + decoder.write(buffer.subarray(0, got))).split('\n');
      rest = pieces.pop() ?? '';
      for (const piece of pieces) printer.print(piece);
    }
  };
  const look = () => {
    drain();
    const now = statSync(file, { throwIfNoEntry: false });
    if (now === undefined || (now.ino === fstatSync(fd).ino && now.size >= offset)) return;
    closeSync(fd);
    fd = openSync(file, 'r');
    offset = 0;
    decoder = new StringDecoder('utf8');
    rest = '';
    drain();
  };
  return new Promise((done) => {
    const watcher = watch(dirname(file), (_event, name) => {
      if (name === null || name === basename(file)) look();
    });
    // What was written between the first look and the watch.
    look();
    const stop = () => {
      watcher.close();
      closeSync(fd);
      done();
    };
    if (signal.aborted) stop();
    else signal.addEventListener('abort', stop, { once: true });
  });
}

async function auditFile(values: { file?: string | undefined; config?: string | undefined }, io: Io): Promise<string> {
  if (values.file !== undefined) return resolve(io.cwd, values.file);
  const { config, baseDir } = await requireConfig(configFile(values.config, io), io);
  return resolve(baseDir, config.audit.file);
}

export async function auditCommand(argv: readonly string[], io: Io): Promise<number> {
  const { values, positionals } = readArguments(argv, {
    ...USUAL_OPTIONS,
    follow: { type: 'boolean', short: 'f' },
    lines: { type: 'string', short: 'n' },
    type: { type: 'string' },
    file: { type: 'string' },
  });
  if (values.help === true) {
    io.out(AUDIT_HELP);
    return EXIT.ok;
  }
  if (positionals.length !== 1 || positionals[0] !== 'tail') throw new UsageError('expected tail');
  const count = values.lines ?? '20';
  if (!/^\d{1,9}$/.test(count)) throw new UsageError('-n takes a number');
  const { type } = values;
  if (type !== undefined && !TYPES.includes(type)) {
    throw new UsageError(`--type is one of ${TYPES.join(', ')}${suggestion(type, TYPES)}`);
  }
  const file = await auditFile(values, io);
  if (!existsSync(file)) throw new UnreachableError(`there is no audit file ${file} yet`);
  requireReadable(file);
  const printer = new Printer(type, values.json === true, io);
  const fd = openSync(file, 'r');
  const end = fstatSync(fd).size;
  const { found, others } = printer.last(fd, end, Number(count));
  closeSync(fd);
  if (found === 0 && Number(count) > 0) {
    const isOther = others === 0 && end > 0 && values.follow !== true;
    if (isOther) throw new CommandError(`${file} is no audit file: no line of it is an event`);
    io.err(`${file} holds no event${others === 0 ? ' yet' : ` of type ${type}`}\n`);
  }
  if (values.follow === true) await follow(file, end, printer, io.signal);
  return EXIT.ok;
}

/** `portcullis policy shadow`: where a candidate policy decides otherwise than the one in force. */
import { isJsonObject, type JsonObject, type JsonValue } from '../core/json.ts';
import { adminOf, callAdmin } from './gateway-address.ts';
import type { Io } from './io.ts';
import { CommandError, EXIT, line } from './io.ts';
import { printable } from './printable.ts';

interface ShadowArguments {
  readonly config?: string | undefined;
  readonly url?: string | undefined;
  readonly json?: boolean | undefined;
}

/** Exit code 0 also when there are differences: they are what was asked for. */
export async function shadowCommand(values: ShadowArguments, io: Io): Promise<number> {
  const answer = await callAdmin(await adminOf(values, io), 'GET', '/policy/shadow', io);
  if (answer.status >= 300 || !isJsonObject(answer.body)) {
    throw new CommandError('no candidate is tried out: name one at policy.shadow in the configuration');
  }
  if (values.json === true) line(io, JSON.stringify(answer.body));
  else for (const text of describe(answer.body)) line(io, text);
  return EXIT.ok;
}

const text = (value: JsonValue | undefined): string =>
  printable(typeof value === 'string' ? value : JSON.stringify(value ?? null));
const pairs = (value: JsonValue | undefined): [string, JsonValue][] =>
  isJsonObject(value) ? Object.entries(value) : [];

function* describe(status: JsonObject): Generator<string> {
  yield `candidate  ${text(status.revision)}${status.last_error === null ? '' : ` (${text(status.last_error)})`}`;
  yield `compared   ${text(status.compared)} decisions, ${text(status.same)} the same, p99 ${text(status.p99_us)} us`;
  for (const [kind, count] of pairs(status.differences)) if (count !== 0) yield `${kind.padEnd(14)}  ${text(count)}`;
  for (const [code, change] of pairs(status.codes)) {
    if (isJsonObject(change)) yield `  ${text(code)}: ${text(change.added)} more, ${text(change.removed)} fewer`;
  }
  for (const [reason, count] of pairs(status.dropped)) yield `not asked, ${reason}: ${text(count)}`;
  const recent = Array.isArray(status.recent) ? (status.recent as readonly JsonValue[]) : [];
  for (const one of recent) if (isJsonObject(one)) yield difference(one);
}

function difference(one: JsonObject): string {
  const what = [one.action, one.server_name, one.tool_name].filter((part) => typeof part === 'string').map(text);
  const candidate = isJsonObject(one.candidate) ? one.candidate : {};
  const live = isJsonObject(one.live) ? one.live : {};
  const codes = `${text(live.codes)} -> ${text(candidate.codes)}`;
  const failure = typeof candidate.failure === 'string' ? ` ${text(candidate.failure)}` : '';
  return `${text(one.decision_id)}  ${text(one.kind)}  ${what.join(' ')}  ${text(one.user_id)}  ${codes}${failure}`;
}

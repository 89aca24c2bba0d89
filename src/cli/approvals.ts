/** `portcullis approvals`: what waits for a person's yes, and saying it. Source: contracts 7, acceptance TW-07. */
import { suggestion } from '../config/problem.ts';
import { isJsonObject, type JsonObject, type JsonValue } from '../core/json.ts';
import type { AdminAnswer } from './gateway-address.ts';
import { callGateway, type KeyedGateway, keyedGateway } from './gateway-calls.ts';
import { CommandError, EXIT, type Io, line, UsageError } from './io.ts';
import { printable } from './printable.ts';
import { table } from './table.ts';
import { KEYED_OPTIONS, readArguments } from './usual-options.ts';

export const APPROVALS_HELP = `Usage: portcullis approvals list [--state STATE] [--json]
       portcullis approvals show ID [--json]
       portcullis approvals approve ID... [--reason TEXT]
       portcullis approvals reject ID... --reason TEXT

Reads requests for approval and decides on them, in your own name. Who decides
holds the permission approvals:decide and proved a second factor: with a token
(JWT), as an API key proves none, unless approvals.require_mfa is false in both
the configuration and the policy's data. Nobody decides on requests of their own.

      --state STATE   pending (default), approved, rejected, expired, used or all
      --reason TEXT   what the requester will read; a rejection needs one
      --url URL       the gateway (default: $PORTCULLIS_URL, $PORTCULLIS_PORT,
                      the demo's, http://127.0.0.1:8080)
      --key KEY       an API key or a JWT; better: $PORTCULLIS_API_KEY or
                      $PORTCULLIS_API_KEY_FILE, or "portcullis auth login";
                      without one the demo's approver key is used for the demo
      --json          print JSON
`;

const OPTIONS = {
  ...KEYED_OPTIONS,
  state: { type: 'string' },
  reason: { type: 'string' },
} as const;

const parse = (argv: readonly string[]) => readArguments(argv, OPTIONS);
type Values = ReturnType<typeof parse>['values'];

/** Runs one `approvals` command; resolves with the exit code. */
export async function approvalsCommand(argv: readonly string[], io: Io): Promise<number> {
  const { values, positionals } = parse(argv);
  if (values.help === true) {
    io.out(APPROVALS_HELP);
    return EXIT.ok;
  }
  const [command, ...ids] = positionals;
  switch (command) {
    case 'list':
      if (ids.length > 0) throw new UsageError('approvals list takes no argument');
      return list(await keyedGateway(values, io, 'approver'), values, io);
    case 'show':
      if (ids.length !== 1) throw new UsageError('approvals show needs one id');
      return show(await keyedGateway(values, io, 'approver'), ids[0] ?? '', values, io);
    case 'approve':
    case 'reject':
      if (ids.length === 0) throw new UsageError(`approvals ${command} needs an id`);
      if (command === 'reject' && !values.reason?.trim()) throw new UsageError('approvals reject needs --reason');
      return decide(await keyedGateway(values, io, 'approver'), command, ids, values, io);
    default:
      throw new UsageError(`approvals needs list, show, approve or reject${suggestion(command ?? '', COMMANDS)}`);
  }
}

const COMMANDS = ['list', 'show', 'approve', 'reject'];
const STATES = ['pending', 'approved', 'rejected', 'expired', 'used', 'all'];

async function list(gateway: KeyedGateway, values: Values, io: Io): Promise<number> {
  const state = values.state ?? 'pending';
  if (!STATES.includes(state)) throw new UsageError(`--state is one of ${STATES.join(', ')}`);
  const query = state === 'all' ? '' : `?state=${encodeURIComponent(state)}`;
  const answer = good(await callGateway(gateway, 'GET', `/approvals${query}`, io));
  const items = Array.isArray(answer.items) ? answer.items.filter(isJsonObject) : [];
  if (values.json === true) line(io, JSON.stringify({ items }));
  else if (items.length === 0) io.err(`No request${state === 'all' ? '' : ` is ${state}`} that this key may see.\n`);
  else table([['ID', 'STATE', 'CALL', 'CLASS', 'REQUESTER', 'UNTIL'], ...items.map(summary)], io);
  return EXIT.ok;
}

const text = (value: unknown): string => (typeof value === 'string' ? value : '-');

function summary(item: JsonObject): readonly string[] {
  const requester = isJsonObject(item.requester) ? text(item.requester.id) : '-';
  const target = item.tool_name === null ? text(item.resource) : `${text(item.server_name)}/${text(item.tool_name)}`;
  const level = `${text(item.tool_type)}/${text(item.sensitivity_level)}`;
  return [text(item.approval_id), text(item.state), target, level, requester, text(item.expires_at)].map(printable);
}

async function show(gateway: KeyedGateway, id: string, values: Values, io: Io): Promise<number> {
  // The token is for the requester's program, not for a screen.
  const answer = await callGateway(gateway, 'GET', pathOf(id), io);
  if (answer.status === 404) throw new CommandError(`there is no request ${printable(id)} that this key may see`);
  const { token: _token, ...item } = good(answer);
  if (values.json === true) {
    line(io, JSON.stringify(item));
    return EXIT.ok;
  }
  const width = Math.max(...Object.keys(item).map((name) => name.length));
  for (const [name, value] of Object.entries(item)) {
    line(io, printable(`${name.padEnd(width)}  ${name === 'requester' ? personText(value) : shownText(value)}`));
  }
  return EXIT.ok;
}

/** A value in words. What the call says itself is shown as it is, as JSON: nothing of it may be told otherwise. */
function shownText(value: JsonValue): string {
  if (value === null) return '-';
  if (typeof value === 'string') return value;
  if (!Array.isArray(value)) return JSON.stringify(value);
  return value.length === 0 ? '-' : value.map(itemText).join('; ');
}

function itemText(item: JsonValue): string {
  if (isJsonObject(item) && typeof item.code === 'string' && typeof item.message === 'string') {
    return `${item.message} (${item.code})`;
  }
  return typeof item === 'string' ? item : JSON.stringify(item);
}

/** Who asks: the id first, then what is known of the rest. */
function personText(person: JsonValue): string {
  if (!isJsonObject(person)) return shownText(person);
  const { id, ...rest } = person;
  const known = Object.entries(rest).filter(([, value]) => value !== null && !(Array.isArray(value) && !value.length));
  return [
    text(id),
    ...known.map(
      ([name, value]) => `${name} ${Array.isArray(value) ? value.map(itemText).join(', ') : shownText(value)}`,
    ),
  ].join('; ');
}

async function decide(
  gateway: KeyedGateway,
  action: 'approve' | 'reject',
  ids: readonly string[],
  values: Values,
  io: Io,
): Promise<number> {
  const reason = values.reason === undefined ? {} : { reason: values.reason };
  const decisions = ids.map((approval_id) => ({ approval_id, action, ...reason }));
  const { results } = good(await callGateway(gateway, 'POST', '/approvals/decide', io, { decisions }));
  let isGood = true;
  for (const result of Array.isArray(results) ? results.filter(isJsonObject) : []) {
    const { error } = result;
    if (isJsonObject(error)) isGood = false;
    if (values.json === true) line(io, JSON.stringify(result));
    else {
      const what = isJsonObject(error) ? `${text(error.code)}: ${text(error.message)}` : text(result.state);
      line(io, printable(`${text(result.approval_id)}  ${what}`));
    }
  }
  return isGood ? EXIT.ok : EXIT.failed;
}

const pathOf = (id: string): string => `/approvals/${encodeURIComponent(id)}`;

/** The body of a good answer. Throws CommandError with what the gateway said otherwise. */
function good({ status, body }: AdminAnswer): JsonObject {
  if (status === 200 && isJsonObject(body)) return body;
  const error = isJsonObject(body) && isJsonObject(body.error) ? body.error : null;
  throw new CommandError(
    error === null ? `the gateway answered with status ${status}` : `${text(error.code)}: ${text(error.message)}`,
  );
}

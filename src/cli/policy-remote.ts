/** `portcullis policy status`, `reload` and `rollback`: the policy of a running gateway. Source: contracts 5, policy-engine 7. */
import { isJsonObject, type JsonObject, type JsonValue } from '../core/json.ts';
import { type AdminAnswer, adminOf, callAdmin } from './gateway-address.ts';
import type { Io } from './io.ts';
import { EXIT, line } from './io.ts';
import { routeLines } from './policy-routes.ts';
import { printable } from './printable.ts';

export interface RemoteArguments {
  readonly url?: string | undefined;
  readonly config?: string | undefined;
  readonly json?: boolean | undefined;
}

/** Asks a gateway for its policy's status, or to load the policy again. */
export async function remoteCommand(verb: 'reload' | 'status', values: RemoteArguments, io: Io): Promise<number> {
  const address = await adminOf(values, io);
  const answer = await callAdmin(address, verb === 'reload' ? 'POST' : 'GET', `/policy/${verb}`, io);
  print(answer, values, io);
  const failed = isJsonObject(answer.body) && verb === 'reload' && answer.body.last_error !== null;
  if (failed) io.err('portcullis policy: not activated, the policy before stays; the last error says why\n');
  return answer.status < 300 && !failed ? EXIT.ok : EXIT.failed;
}

/** Takes the last activation of a running gateway back. */
export async function rollbackCommand(values: RemoteArguments, io: Io): Promise<number> {
  const answer = await callAdmin(await adminOf(values, io), 'POST', '/policy/rollback', io);
  // What a refusal says is said below, once.
  if (answer.status !== 409 || values.json === true) print(answer, values, io);
  if (answer.status < 300) {
    const { revision, bundle_revision: name } = isJsonObject(answer.body) ? answer.body : {};
    io.err(`in force: ${String(name ?? revision)}; "portcullis policy reload" takes what is served now\n`);
    return EXIT.ok;
  }
  if (answer.status === 409) {
    io.err('portcullis policy: not rolled back: it was already, or there is no policy before this one\n');
  }
  return EXIT.failed;
}

function print({ status, body }: AdminAnswer, { json }: RemoteArguments, io: Io): void {
  if (json === true) line(io, JSON.stringify(body));
  else if (isJsonObject(body) && 'revision' in body) for (const row of rows(body)) line(io, printable(row));
  else io.err(`portcullis policy: the gateway answered ${status}${reasonOf(body)}\n`);
}

/** The sentence of an error document, where there is one. */
function reasonOf(body: unknown): string {
  const error = isJsonObject(body) ? (body.error ?? body) : null;
  const message = isJsonObject(error) ? (error.message ?? error.detail ?? error.title) : undefined;
  return typeof message === 'string' ? `: ${printable(message)}` : '';
}

const row = (name: string, text: string): string => `${name.padEnd(14)}${text}`;
const text = (value: JsonValue | undefined): string =>
  typeof value === 'string' ? value.replaceAll('\n', '; ') : JSON.stringify(value ?? null);
const time = (value: JsonValue | undefined): string =>
  typeof value === 'number' ? new Date(value).toISOString() : 'never';
const texts = (value: JsonValue | undefined): readonly string[] =>
  Array.isArray(value) ? (value as readonly JsonValue[]).map(text) : [];

/** What there is to say, the important first. */
function* rows(status: JsonObject): Generator<string> {
  const { revision, bundle_revision: name } = status;
  yield row('in force', revision === null ? 'no policy: everything is denied' : named(name, revision));
  if (typeof status.activated_at === 'number') yield row('since', time(status.activated_at));
  if (typeof status.last_error === 'string') yield row('last error', text(status.last_error));
  if (status.stale === true) yield row('stale', 'the bundle service has not been heard of for too long');
  if (status.pinned === true) yield row('pinned', 'what was taken back stays out until there is another, or a reload');
  if (typeof status.previous_revision === 'string') yield row('before', status.previous_revision);
  if (isJsonObject(status.source)) yield* sourceRows(status.source);
  const reportOnly = texts(status.report_only);
  if (reportOnly.length > 0) yield row('report only', reportOnly.join(', '));
  const { hits, misses, cached } = status;
  if (typeof hits === 'number')
    yield row('remembered', `${text(cached)} decisions, ${hits} hits, ${text(misses)} misses`);
  if (isJsonObject(status.host)) yield* hostRows(status.host);
  if (isJsonObject(status.decision_log)) yield* logRows(status.decision_log);
  yield* latencyRows(status.latency);
  for (const one of routeLines(status.routes, status.unknown_routes)) yield row('route', one);
  const entrypoints = texts(status.entrypoints);
  if (entrypoints.length > 0) yield row('entrypoints', entrypoints.join(', '));
}

const named = (name: JsonValue | undefined, revision: JsonValue | undefined): string =>
  typeof name === 'string' ? `${name} (${text(revision)})` : text(revision);

function* sourceRows(source: JsonObject): Generator<string> {
  yield row('source', `${text(source.kind)} ${text(source.name)}`);
  if (source.kind === 'service') yield row('last answer', time(source.last_successful_request));
  if (source.code !== null && source.code !== undefined) {
    const failures = `${text(source.errors)} ${source.errors === 1 ? 'failure' : 'failures in a row'}`;
    yield row('source error', `${text(source.message)} (${failures})`);
  }
}

function* hostRows({ failures, discarded }: JsonObject): Generator<string> {
  const found = isJsonObject(failures) ? Object.entries(failures).map(([kind, count]) => `${kind} ${text(count)}`) : [];
  if (found.length > 0) yield row('failures', `${found.join(', ')}; set back ${text(discarded)} times`);
}

function* logRows(log: JsonObject): Generator<string> {
  const dropped = isJsonObject(log.dropped) ? Object.entries(log.dropped).filter(([, count]) => count !== 0) : [];
  const lost =
    dropped.length === 0 ? 'nothing dropped' : `dropped: ${dropped.map((each) => each.join(' ')).join(', ')}`;
  yield row('decision log', `${text(log.waiting)} waiting, ${lost}`);
  if (typeof log.last_upload_error === 'string') yield row('log error', log.last_upload_error);
}

function* latencyRows(latency: JsonValue | undefined): Generator<string> {
  for (const [entrypoint, figures] of latency !== undefined && isJsonObject(latency) ? Object.entries(latency) : []) {
    if (!isJsonObject(figures)) continue;
    const { evaluations, p50_us, p99_us } = figures;
    yield row('decided', `${entrypoint}: ${text(evaluations)}, p50 ${text(p50_us)} µs, p99 ${text(p99_us)} µs`);
  }
}

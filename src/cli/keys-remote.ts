/** `portcullis keys` at an external key service. Source: acceptance H-10 to H-12, H-17, HW-09, HF-11, HF-16. */
import type { JsonObject, JsonValue } from '../core/json.ts';
import { Secret } from '../core/secret.ts';
import { CommandError, EXIT, type Io, line, UsageError } from './io.ts';
import { callKeyService, type ServiceReply, secretFor } from './key-service-calls.ts';
import type { KeysValues } from './keys.ts';
import { printable } from './printable.ts';
import { table } from './table.ts';

const DAY_MS = 86_400_000;
const PAGE = 1000;
/** What a key is good for when nothing is said. */
const USUAL_SCOPES = ['model:read', 'model:write', 'mlflow:access'];
const ENVIRONMENTS = ['production', 'staging', 'test', 'development'];
/** Facts of principals in our own database; a service decides them itself. */
const LOCAL_ONLY = ['type', 'tenant', 'team', 'grace-hours'] as const;

interface Service {
  readonly url: string;
  readonly token: Secret;
}

/** Runs one command; resolves with the exit code. */
export async function remoteKeys(
  url: string,
  command: 'create' | 'list' | 'rotate' | 'revoke',
  id: string,
  values: KeysValues,
  io: Io,
): Promise<number> {
  const unknown = LOCAL_ONLY.find(
    (name) => values[name] !== undefined && !(name === 'grace-hours' && command === 'rotate'),
  );
  if (unknown !== undefined) throw new UsageError(`--${unknown} means nothing to a key service`);
  const body = command === 'create' ? creation(values) : null;
  const token = secretFor(values, 'admin_token', 'HOKUSAI_ADMIN_TOKEN', io);
  if (token === undefined) {
    io.err('Error: HOKUSAI_ADMIN_TOKEN required\n');
    return EXIT.failed;
  }
  const service = { url, token: new Secret(token) };
  if (body !== null) return print(await ask(service, 'POST', '', io, { body }), values, io);
  if (command === 'list') return list(service, values, io);
  const path = `/${encodeURIComponent(id)}`;
  if (command === 'rotate') {
    const hours = values['grace-hours'];
    if (hours !== undefined && !/^\d{1,4}$/.test(hours)) throw new UsageError('--grace-hours must be a whole number');
    const grace = hours === undefined ? {} : { grace_hours: Number(hours) };
    return print(await ask(service, 'POST', `${path}/rotate`, io, { body: grace }), values, io);
  }
  await ask(service, 'DELETE', path, io);
  io.err(`Key ${printable(id)} is revoked.\n`);
  return EXIT.ok;
}

function creation(values: KeysValues): object {
  const name = values.name?.trim() ?? '';
  if (name === '') throw new UsageError('keys create needs --name');
  const environment = values.environment ?? 'production';
  if (!ENVIRONMENTS.includes(environment)) throw new UsageError(`--environment is one of ${ENVIRONMENTS.join(', ')}`);
  const days = wholeNumber(values, 'expires-in-days');
  const limit = wholeNumber(values, 'rate-limit');
  return {
    name,
    service_id: values['service-id'] ?? 'ml-platform',
    environment,
    scopes: values.scope ?? USUAL_SCOPES,
    ...(values.role === undefined ? {} : { roles: values.role }),
    ...(values.permission === undefined ? {} : { permissions: values.permission }),
    ...(values['allowed-ip'] === undefined ? {} : { allowed_ips: values['allowed-ip'] }),
    ...(values.owner === undefined ? {} : { owner_id: values.owner }),
    ...(limit === null ? {} : { rate_limit_per_hour: limit }),
    ...(days === null ? {} : { expires_at: new Date(Date.now() + days * DAY_MS).toISOString() }),
  };
}

function wholeNumber(values: KeysValues, name: 'expires-in-days' | 'rate-limit'): number | null {
  const text = values[name];
  if (text === undefined) return null;
  if (/^[1-9]\d{0,5}$/.test(text)) return Number(text);
  throw new UsageError(`--${name} must be a whole number from 1 to 999999`);
}

/** A good answer's body, or a CommandError in the words of the service. */
async function ask(
  { url, token }: Service,
  method: 'GET' | 'POST' | 'DELETE',
  path: string,
  io: Io,
  options: { readonly body?: object; readonly again?: boolean } = {},
): Promise<JsonObject> {
  const reply = await callKeyService(url, token, method, `/api/v1/keys${path}`, io, options);
  if (reply.status >= 200 && reply.status < 300) return reply.body ?? {};
  if (reply.status === 401) throw new CommandError(`the key service at ${url} refuses HOKUSAI_ADMIN_TOKEN`);
  throw new CommandError(`the key service at ${url} says ${reply.status}${wordsOf(reply)}`);
}

function wordsOf({ body }: ServiceReply): string {
  const words = body?.detail ?? body?.message ?? body?.error;
  return typeof words === 'string' ? `: ${printable(words.slice(0, 500))}` : '';
}

/** The text of the key goes to standard output, this once; all there is to say about it to standard error. */
function print(issued: JsonObject, values: KeysValues, io: Io): number {
  const key = issued.api_key ?? issued.key;
  if (typeof key !== 'string' || key === '') throw new CommandError('the key service gave no key');
  const id = issued.key_id ?? issued.id;
  if (isJson(values)) {
    line(io, JSON.stringify({ ...issued, api_key: key, key_id: id ?? null }));
    return EXIT.ok;
  }
  line(io, printable(key));
  io.err(`Key ${cell(id)} (${cell(issued.name)}) is shown this once; keep it safe.\n`);
  io.err(
    `Scopes: ${cell(issued.scopes)}. Expires: ${issued.expires_at === null ? 'never' : cell(issued.expires_at)}.\n`,
  );
  return EXIT.ok;
}

const isJson = (values: KeysValues): boolean => values.json === true || values.format === 'json';

async function list(service: Service, values: KeysValues, io: Io): Promise<number> {
  const items: JsonObject[] = [];
  for (let after: string | null = null; ; ) {
    const query = after === null ? '' : `&after=${encodeURIComponent(after)}`;
    const page = await ask(service, 'GET', `?limit=${PAGE}${query}`, io, { again: true });
    const found = page.items ?? page.keys;
    if (!Array.isArray(found)) throw new CommandError('the key service gave no list');
    items.push(...(found as readonly JsonObject[]));
    const next = page.next;
    if (typeof next !== 'string' || next === after || found.length === 0) break;
    after = next;
  }
  if (isJson(values)) line(io, JSON.stringify({ items }));
  else printKeys(items, io);
  return EXIT.ok;
}

function printKeys(items: readonly JsonObject[], io: Io): void {
  const rows = [
    ['ID', 'NAME', 'ENV', 'SCOPES', 'EXPIRES', 'REVOKED', 'LAST USED'],
    ...items.map((item) => [
      cell(item.key_id ?? item.id),
      cell(item.name),
      cell(item.environment),
      cell(item.scopes),
      cell(item.expires_at),
      cell(item.revoked_at),
      cell(item.last_used_at),
    ]),
  ];
  table(rows, io);
}

/** What a service calls things must not be able to steer the operator's terminal. */
function cell(value: JsonValue | undefined): string {
  if (value === undefined || value === null) return '-';
  const text = Array.isArray(value) ? value.join(',') : String(value);
  return text === '' ? '-' : printable(text);
}

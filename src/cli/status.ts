/** `portcullis status`: asks the administration listener how the gateway is. */
import { isJsonObject } from '../core/json.ts';
import { adminOf, callAdmin } from './gateway-address.ts';
import { EXIT, type Io, line } from './io.ts';
import { printable } from './printable.ts';
import { readOptions, USUAL_OPTIONS } from './usual-options.ts';

export const STATUS_HELP = `Usage: portcullis status [-c FILE] [--url URL] [--json]

Asks the administration listener of a running gateway. Exit code 0: ready,
1: it answers but is not ready, 3: nobody answers.

  -c, --config FILE   the configuration of the gateway: its address and token
                      (default: $PORTCULLIS_CONFIG, where no address is named)
      --url URL       the administration listener (default: $PORTCULLIS_ADMIN_URL,
                      $PORTCULLIS_ADMIN_PORT, the demo's, http://127.0.0.1:9090)
      --json          print JSON

Without -c the token comes from $PORTCULLIS_ADMIN_TOKEN (or _FILE), or from the
demo's file. Without a token only readiness is asked.
`;

/** Numbers of these names are epoch milliseconds. */
const TIME = /(?:_at|\blast_\w+)$/;

const timeText = (ms: number): string => (ms > 0 && ms <= 8.64e15 ? new Date(ms).toISOString() : 'never');
const plainText = (value: unknown): string => (value === null ? '-' : String(value).replaceAll('\n', '; '));

/** What `portcullis policy status` tells better. */
const TOLD_ELSEWHERE = new Set(['policy.entrypoints', 'policy.routes']);

/** `a.b: value` lines of a JSON document, for people. */
function* rows(value: unknown, name = ''): Generator<string> {
  if (TOLD_ELSEWHERE.has(name)) return;
  if (isJsonObject(value)) {
    for (const [key, inner] of Object.entries(value)) yield* rows(inner, name === '' ? key : `${name}.${key}`);
  } else if (Array.isArray(value)) {
    if (value.every((item) => typeof item !== 'object')) yield `${name}: ${value.join(', ') || 'none'}`;
    else for (const [index, item] of value.entries()) yield* rows(item, `${name}[${index}]`);
  } else {
    const text = typeof value === 'number' && TIME.test(name) ? timeText(value) : plainText(value);
    yield name === '' ? text : `${name}: ${text}`;
  }
}

export async function statusCommand(argv: readonly string[], io: Io): Promise<number> {
  const values = readOptions(argv, { ...USUAL_OPTIONS, url: { type: 'string' } });
  if (values.help === true) {
    io.out(STATUS_HELP);
    return EXIT.ok;
  }
  const address = await adminOf(values, io);
  const ready = await callAdmin(address, 'GET', '/readyz', io);
  const detail = address.token === null ? ready : await callAdmin(address, 'GET', '/health/detailed', io);
  const ok = ready.status === 200;
  if (values.json === true) line(io, JSON.stringify({ url: address.url, ready: ok, status: detail.body }));
  else {
    line(io, `${address.url}: ${ok ? 'ready' : 'not ready'}`);
    for (const row of rows(detail.body)) line(io, `  ${printable(row)}`);
    if (isJsonObject(detail.body) && isJsonObject(detail.body.policy)) {
      io.err('Which entrypoint decides where: portcullis policy status\n');
    }
  }
  return ok ? EXIT.ok : EXIT.failed;
}

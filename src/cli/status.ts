/** `portcullis status`: asks the administration listener how the gateway is. */
import { parseArgs } from 'node:util';
import { isJsonObject } from '../core/json.ts';
import { callAdmin, findAdmin } from './gateway-address.ts';
import { CommandError, EXIT, type Io, line } from './io.ts';
import { printable } from './printable.ts';

export const STATUS_HELP = `Usage: portcullis status [--url URL] [--json]

Asks the administration listener of a running gateway. Exit code 0: ready,
1: it answers but is not ready, 3: nobody answers.

  --url URL   the administration listener (default: $PORTCULLIS_ADMIN_URL,
              $PORTCULLIS_ADMIN_PORT, the demo's, http://127.0.0.1:9090)
  --json      print JSON

The token comes from $PORTCULLIS_ADMIN_TOKEN (or _FILE), or from the demo's file.
Without one only readiness is asked.
`;

/** `a.b: value` lines of a JSON document, for people. */
function* rows(value: unknown, name = ''): Generator<string> {
  if (isJsonObject(value)) {
    for (const [key, inner] of Object.entries(value)) yield* rows(inner, name === '' ? key : `${name}.${key}`);
  } else if (Array.isArray(value)) {
    if (value.every((item) => typeof item !== 'object')) yield `${name}: ${value.join(', ')}`;
    else for (const [index, item] of value.entries()) yield* rows(item, `${name}[${index}]`);
  } else {
    yield name === '' ? String(value) : `${name}: ${String(value)}`;
  }
}

export async function statusCommand(argv: readonly string[], io: Io): Promise<number> {
  const { values } = parseArgs({
    args: [...argv],
    options: { url: { type: 'string' }, json: { type: 'boolean' }, help: { type: 'boolean', short: 'h' } },
  });
  if (values.help === true) {
    io.out(STATUS_HELP);
    return EXIT.ok;
  }
  const address = findAdmin(values.url, io);
  const ready = await callAdmin(address, 'GET', '/readyz', io);
  const detail = address.token === null ? ready : await callAdmin(address, 'GET', '/health/detailed', io);
  if (detail.status === 401) throw new CommandError(`the gateway at ${address.url} refuses the administration token`);
  const ok = ready.status === 200;
  if (values.json === true) line(io, JSON.stringify({ url: address.url, ready: ok, status: detail.body }));
  else {
    line(io, `${address.url}: ${ok ? 'ready' : 'not ready'}`);
    for (const row of rows(detail.body)) line(io, `  ${printable(row)}`);
  }
  return ok ? EXIT.ok : EXIT.failed;
}

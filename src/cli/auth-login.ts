/** `portcullis auth login`: a token for an account of the gateway. */
import { parseArgs } from 'node:util';
import { isLoopbackHost } from '../config/checks.ts';
import { isJsonObject } from '../core/json.ts';
import { findGateway } from './gateway-address.ts';
import { CommandError, EXIT, type Io, line, UnreachableError, UsageError } from './io.ts';
import { printable } from './printable.ts';

const TIMEOUT_MS = 10_000;
const OPTIONS = {
  url: { type: 'string' },
  username: { type: 'string' },
  json: { type: 'boolean' },
} as const;

function parse(argv: readonly string[]) {
  try {
    return parseArgs({ args: [...argv], options: OPTIONS }).values;
  } catch (error) {
    throw new UsageError(error instanceof Error ? error.message : 'unreadable arguments');
  }
}

/** The password comes from standard input: arguments and the environment can be read by others. */
export async function authLogin(argv: readonly string[], io: Io): Promise<number> {
  const { url: given, username, json } = parse(argv);
  if (username === undefined) throw new UsageError('auth login needs --username');
  const url = findGateway(given, io);
  const { protocol, hostname } = new URL(url);
  if (protocol === 'http:' && !isLoopbackHost(hostname)) {
    throw new CommandError('a password is not sent over plain HTTP to another machine: use https');
  }
  let password = '';
  for await (const chunk of io.stdin) password += String(chunk);
  password = password.replace(/\r?\n$/, '');
  if (password === '') throw new UsageError('there is no password on standard input');
  const response = await fetch(`${url}/auth/login`, {
    method: 'POST',
    redirect: 'error',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify({ username, password }),
    signal: AbortSignal.any([io.signal, AbortSignal.timeout(TIMEOUT_MS)]),
  }).catch((error: unknown) => {
    throw new UnreachableError(`no gateway answers at ${url}`, { cause: error });
  });
  const body: unknown = await response.json().catch(() => null);
  if (!isJsonObject(body) || response.status !== 200 || typeof body.access_token !== 'string') {
    const detail = isJsonObject(body) && typeof body.detail === 'string' ? printable(body.detail) : 'no detail';
    throw new CommandError(`${response.status}: ${detail}`);
  }
  line(io, json ? JSON.stringify(body) : body.access_token);
  return EXIT.ok;
}

/** `portcullis auth login`: for an account of the gateway with its password, else at the issuer of its tokens. */
import { isLoopbackHost } from '../config/checks.ts';
import { isJsonObject } from '../core/json.ts';
import { oauthLogin } from './auth-oauth.ts';
import { findGateway, whyNoAnswer } from './gateway-address.ts';
import { CommandError, EXIT, type Io, line, UnreachableError, UsageError } from './io.ts';
import { printable } from './printable.ts';
import { readOptions } from './usual-options.ts';

const TIMEOUT_MS = 10_000;
const OPTIONS = {
  url: { type: 'string' },
  username: { type: 'string' },
  otp: { type: 'string' },
  json: { type: 'boolean' },
  provider: { type: 'string' },
  issuer: { type: 'string' },
  'client-id': { type: 'string' },
  scope: { type: 'string' },
  resource: { type: 'string' },
  config: { type: 'string', short: 'c' },
  device: { type: 'boolean' },
  'no-browser': { type: 'boolean' },
  'assume-pkce': { type: 'boolean' },
} as const;

/** With `--username` by password, and the token is printed; without it at an issuer, and the tokens are kept. */
export async function authLogin(argv: readonly string[], io: Io): Promise<number> {
  const values = readOptions(argv, OPTIONS);
  const { url, username, otp, json, ...others } = values;
  if (username === undefined) {
    if (otp !== undefined) throw new UsageError('--otp goes with --username');
    return oauthLogin(values, io);
  }
  const [other] = Object.keys(others);
  if (other !== undefined) throw new UsageError(`--${other} does not go with --username`);
  return byPassword(findGateway(url, io), otp === undefined ? { username } : { username, otp }, json === true, io);
}

/**
 * The password comes from standard input: arguments and the environment can be read by others. A code of an app is good
 * once, and gone when they have read it.
 */
async function byPassword(
  url: string,
  who: { readonly username: string; readonly otp?: string },
  json: boolean,
  io: Io,
): Promise<number> {
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
    body: JSON.stringify({ ...who, password }),
    signal: AbortSignal.any([io.signal, AbortSignal.timeout(TIMEOUT_MS)]),
  }).catch((error: unknown) => {
    throw new UnreachableError(`no gateway answers at ${url} (${whyNoAnswer(error)})`);
  });
  const body: unknown = await response.json().catch(() => null);
  if (!isJsonObject(body) || response.status !== 200 || typeof body.access_token !== 'string') {
    const detail = isJsonObject(body) && typeof body.detail === 'string' ? printable(body.detail) : 'no detail';
    throw new CommandError(`${response.status}: ${detail}${adviceOn(response, body)}`);
  }
  line(io, json ? JSON.stringify(body) : body.access_token);
  return EXIT.ok;
}

function adviceOn({ headers }: Response, body: unknown): string {
  const error = isJsonObject(body) && isJsonObject(body.error) ? body.error.code : undefined;
  if (error === 'SECOND_FACTOR_REQUIRED') return ' (here: add --otp CODE)';
  const seconds = headers.get('retry-after');
  return seconds !== null && /^\d{1,6}$/.test(seconds) ? `; try again in ${seconds} s` : '';
}

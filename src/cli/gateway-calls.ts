/** Calls to the data listener with an API key or a token, for commands that a person runs in their own name. */
import { readFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { isLoopbackHost } from '../config/checks.ts';
import { isJsonObject } from '../core/json.ts';
import type { Secret } from '../core/secret.ts';
import { type AdminAnswer, findGateway, sendable, whyNoAnswer } from './gateway-address.ts';
import { variable } from './input-file.ts';
import { CommandError, type Io, UnreachableError } from './io.ts';
import { validToken } from './kept-login.ts';

export interface KeyedGateway {
  readonly url: string;
  readonly key: Secret;
  /** The key is an access token, whatever it looks like. */
  readonly isToken: boolean;
}

/**
 * Where the gateway is and who asks: `--key`, then `PORTCULLIS_API_KEY` (or `_FILE`), then who logged in at this gateway
 * (`auth login`), then the demo's key of `who`, which is only used for the demo's own address.
 */
export async function keyedGateway(
  options: { readonly url?: string | undefined; readonly key?: string | undefined },
  io: Io,
  who: 'admin' | 'approver' = 'admin',
): Promise<KeyedGateway> {
  const url = findGateway(options.url, io);
  const given = options.key ?? variable('PORTCULLIS_API_KEY', io);
  const token = given === undefined ? await validToken(url, io) : null;
  if (token !== null) return { url, key: token, isToken: true };
  const key = given ?? demoKey(url, io, who);
  if (key === undefined) {
    throw new CommandError(
      'who asks? set PORTCULLIS_API_KEY or PORTCULLIS_API_KEY_FILE, or use "portcullis auth login"',
    );
  }
  return { url, key: sendable(key, 'the key'), isToken: JWT.test(key.trim()) };
}

function demoKey(url: string, io: Io, who: 'admin' | 'approver'): string | undefined {
  try {
    const home = resolve(io.cwd, io.env.PORTCULLIS_HOME ?? '.portcullis');
    const demo: unknown = JSON.parse(readFileSync(join(home, 'demo.json'), 'utf8'));
    if (!isJsonObject(demo) || demo.gateway !== url || !isJsonObject(demo.keys)) return undefined;
    const key = demo.keys[who];
    return typeof key === 'string' ? key : undefined;
  } catch {
    return undefined;
  }
}

const TIMEOUT_MS = 10_000;

const JWT = /^[\w-]+\.[\w-]+\.[\w-]+$/;

/** A token goes where identity providers look for one; it alone proves a second factor. */
function credential({ key, isToken }: KeyedGateway): Record<string, string> {
  return isToken ? { authorization: `Bearer ${key.reveal()}` } : { 'x-api-key': key.reveal() };
}

/** One call; `body` is sent as JSON, or as the form that it is. Throws UnreachableError (exit 3) when nobody answers, CommandError when the key is refused. */
export async function callGateway(
  gateway: KeyedGateway,
  method: 'GET' | 'POST',
  path: string,
  io: Io,
  body?: object | URLSearchParams,
): Promise<AdminAnswer> {
  const { url } = gateway;
  const { protocol, hostname } = new URL(url);
  if (protocol === 'http:' && !isLoopbackHost(hostname)) {
    throw new CommandError('a key is not sent over plain HTTP to another machine: use https');
  }
  const isJson = body !== undefined && !(body instanceof URLSearchParams);
  const response = await fetch(url + path, {
    method,
    redirect: 'error',
    headers: { ...credential(gateway), ...(isJson ? { 'content-type': 'application/json' } : {}) },
    ...(body === undefined ? {} : { body: isJson ? JSON.stringify(body) : (body as URLSearchParams) }),
    signal: AbortSignal.any([io.signal, AbortSignal.timeout(TIMEOUT_MS)]),
  }).catch((error: unknown) => {
    throw new UnreachableError(`no gateway answers at ${url} (${whyNoAnswer(error)})`);
  });
  const text = await response.text();
  if (response.status === 401) {
    const why = text.includes('"TOKEN_EXPIRED"') ? ': it has expired' : '';
    throw new CommandError(`the gateway at ${url} refuses the key${why}`);
  }
  try {
    return { status: response.status, body: JSON.parse(text) as unknown };
  } catch {
    return { status: response.status, body: text };
  }
}

/** How client commands find a gateway: `--url`, then the environment, then the demo's file. Source: contracts 5. */
import { readFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { isLoopbackHost } from '../config/checks.ts';
import { isJsonObject, type JsonObject } from '../core/json.ts';
import { Secret } from '../core/secret.ts';
import { configFile, requireConfig } from './config-file.ts';
import { variable } from './input-file.ts';
import { CommandError, type Io, UnreachableError, UsageError } from './io.ts';

export interface GatewayAddress {
  /** Without a slash at the end. */
  readonly url: string;
  /** Bearer token of the administration listener, when one is known. */
  readonly token: Secret | null;
}

function demoFile(io: Io): JsonObject | null {
  const file = join(resolve(io.cwd, io.env.PORTCULLIS_HOME ?? '.portcullis'), 'demo.json');
  let text: string;
  try {
    text = readFileSync(file, 'utf8');
  } catch {
    return null;
  }
  try {
    const parsed: unknown = JSON.parse(text);
    return isJsonObject(parsed) ? parsed : null;
  } catch {
    throw new CommandError(`${file} is not readable as JSON`);
  }
}

function checked(url: string, from: string): string {
  if (!URL.canParse(url) || !/^https?:$/.test(new URL(url).protocol)) {
    throw new UsageError(`${from} is not an http or https address`);
  }
  return url.replace(/\/+$/, '');
}

function resolveAddress(
  kind: { option: string | undefined; env: string; port: string; demo: 'admin' | 'gateway'; preset: string },
  io: Io,
): string {
  if (kind.option !== undefined) return checked(kind.option, '--url');
  const named = variable(kind.env, io);
  if (named !== undefined) return checked(named, kind.env);
  const port = variable(kind.port, io);
  if (port !== undefined) return checked(`http://127.0.0.1:${port}`, kind.port);
  const demo = demoFile(io)?.[kind.demo];
  return checked(typeof demo === 'string' ? demo : kind.preset, 'the address in demo.json');
}

/** The data listener. */
export function findGateway(url: string | undefined, io: Io): string {
  return resolveAddress(
    { option: url, env: 'PORTCULLIS_URL', port: 'PORTCULLIS_PORT', demo: 'gateway', preset: 'http://127.0.0.1:8080' },
    io,
  );
}

/**
 * The administration listener and its token. The demo's token is only used for the demo's address: a token is for one
 * gateway.
 */
export function findAdmin(url: string | undefined, io: Io): GatewayAddress {
  const found = resolveAddress(
    {
      option: url,
      env: 'PORTCULLIS_ADMIN_URL',
      port: 'PORTCULLIS_ADMIN_PORT',
      demo: 'admin',
      preset: 'http://127.0.0.1:9090',
    },
    io,
  );
  const token = variable('PORTCULLIS_ADMIN_TOKEN', io);
  if (token !== undefined) return { url: found, token: sendable(token, 'PORTCULLIS_ADMIN_TOKEN') };
  const demo = demoFile(io);
  const same = demo?.admin === found && typeof demo.admin_token === 'string';
  return { url: found, token: same ? new Secret(String(demo.admin_token)) : null };
}

export interface AdminOptions {
  readonly url?: string | undefined;
  /** A configuration that names the address and the token. */
  readonly config?: string | undefined;
}

/**
 * Like `findAdmin`; a configuration given with `-c`, or by PORTCULLIS_CONFIG where no address is named, says where its
 * gateway listens and what it asks for: a command that changes something must not reach another gateway by chance.
 */
export async function adminOf({ url, config }: AdminOptions, io: Io): Promise<GatewayAddress> {
  const isNamed = [url, io.env.PORTCULLIS_ADMIN_URL, io.env.PORTCULLIS_ADMIN_PORT].some((place) => !!place);
  const file = config ?? (isNamed ? undefined : io.env.PORTCULLIS_CONFIG);
  if (file === undefined || file === '') return findAdmin(url, io);
  const { address, tls, token } = (await requireConfig(configFile(file, io), io)).config.listen.admin;
  // What listens on every address is asked on this machine.
  const reachable = address.replace(/^(?:0\.0\.0\.0|\[::\])(?=:\d+$)/, '127.0.0.1');
  const own = `${tls === undefined ? 'http' : 'https'}://${reachable}`;
  return { url: url === undefined ? own : checked(url, '--url'), token: token ?? null };
}

export interface AdminAnswer {
  readonly status: number;
  /** The parsed JSON body, or its text. */
  readonly body: unknown;
}

const TIMEOUT_MS = 10_000;

/** A credential that a header can hold: `fetch` would refuse another one as if nobody answered. Throws CommandError. */
export function sendable(credential: string, name: string): Secret {
  const text = credential.trim();
  if (!/^[\x21-\x7e]+$/.test(text)) throw new CommandError(`${name} holds characters that no credential has`);
  return new Secret(text);
}

/** Why `fetch` failed: the system's code where there is one. */
export function whyNoAnswer(error: unknown): string {
  const cause = error instanceof Error && error.cause instanceof Error ? error.cause : error;
  if (!(cause instanceof Error)) return 'no answer';
  if (cause.name === 'TimeoutError') return 'no answer in time';
  return 'code' in cause && typeof cause.code === 'string' ? cause.code : cause.message;
}

/** One call to the administration listener. Throws UnreachableError (exit 3) when nobody answers, CommandError when it refuses us. */
export async function callAdmin(address: GatewayAddress, method: string, path: string, io: Io): Promise<AdminAnswer> {
  const { protocol, hostname } = new URL(address.url);
  if (address.token !== null && protocol === 'http:' && !isLoopbackHost(hostname)) {
    throw new CommandError('the administration token is not sent over plain HTTP to another machine: use https');
  }
  let response: Response;
  try {
    response = await fetch(address.url + path, {
      method,
      redirect: 'error',
      headers: address.token === null ? {} : { authorization: `Bearer ${address.token.reveal()}` },
      signal: AbortSignal.any([io.signal, AbortSignal.timeout(TIMEOUT_MS)]),
    });
  } catch (error) {
    throw new UnreachableError(`no gateway answers at ${address.url} (${whyNoAnswer(error)})`);
  }
  if (response.status === 401) {
    const fault = address.token === null ? 'asks for the administration token' : 'refuses the administration token';
    const advice = 'name its configuration with -c, or set PORTCULLIS_ADMIN_TOKEN or PORTCULLIS_ADMIN_TOKEN_FILE';
    throw new CommandError(`the gateway at ${address.url} ${fault}: ${advice}`);
  }
  const text = await response.text();
  try {
    return { status: response.status, body: JSON.parse(text) as unknown };
  } catch {
    return { status: response.status, body: text };
  }
}

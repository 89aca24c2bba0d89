/** Calls to an external key service, for `keys` and `auth validate`. Source: acceptance H-02, H-07, H-11, HF-07, HF-10. */
import { type Profile, readProfile } from '../client.ts';
import { isLoopbackHost } from '../config/checks.ts';
import { isJsonObject, type JsonObject } from '../core/json.ts';
import type { Secret } from '../core/secret.ts';
import { whyNoAnswer } from './gateway-address.ts';
import { variable } from './input-file.ts';
import { CommandError, type Io, UnreachableError, UsageError } from './io.ts';

const TIMEOUT_MS = 5000;
const MAX_TRIES = 3;

export interface ServiceOptions {
  readonly service?: string | undefined;
  readonly profile?: string | undefined;
}

/** `--profile`, then `HOKUSAI_PROFILE`: a section of `~/.hokusai/config`; null: none is named. */
function profileOf({ profile }: ServiceOptions, io: Io): Profile | null {
  const name = profile ?? variable('HOKUSAI_PROFILE', io);
  if (name === undefined) return null;
  try {
    return readProfile(name, io.env.HOME ?? '');
  } catch (error) {
    throw error instanceof TypeError ? new CommandError(error.message) : error;
  }
}

/** The variable, or what the profile says. A profile's secrets are for the service of the profile. */
export function secretFor(
  options: ServiceOptions,
  setting: 'admin_token' | 'api_key',
  name: string,
  io: Io,
): string | undefined {
  const profile = options.service === undefined ? profileOf(options, io) : null;
  return profile?.[setting] ?? variable(name, io);
}

/** `--service`, the profile, then `HOKUSAI_AUTH_SERVICE_URL`; null: none. Keys go to nobody by default. */
export function findKeyService(options: ServiceOptions, io: Io): string | null {
  const { service: option } = options;
  const named = option ?? profileOf(options, io)?.auth_service_url ?? variable('HOKUSAI_AUTH_SERVICE_URL', io);
  if (named === undefined) return null;
  const from = option === undefined ? 'the address of the key service' : '--service';
  const url = URL.parse(named);
  if (url === null || !/^https?:$/.test(url.protocol) || url.username !== '' || url.search !== '' || url.hash !== '') {
    throw new UsageError(`${from} is not an http or https address`);
  }
  if (url.protocol === 'http:' && !isLoopbackHost(url.hostname)) {
    throw new CommandError('credentials are not sent over plain HTTP to another machine: use https');
  }
  return named.replace(/\/+$/, '');
}

export interface ServiceReply {
  readonly status: number;
  /** Null: the body is no JSON object. */
  readonly body: JsonObject | null;
}

/**
 * One call. Reading is tried again when nobody answers; what changes something is sent once. Throws UnreachableError when
 * nobody answers.
 */
export async function callKeyService(
  url: string,
  credential: Secret,
  method: 'GET' | 'POST' | 'DELETE',
  path: string,
  io: Io,
  options: { readonly body?: object; readonly again?: boolean } = {},
): Promise<ServiceReply> {
  const tries = options.again === true ? MAX_TRIES : 1;
  for (let tried = 1; ; tried++) {
    try {
      const response = await fetch(url + path, {
        method,
        redirect: 'error',
        headers: {
          authorization: `Bearer ${credential.reveal()}`,
          ...(options.body === undefined ? {} : { 'content-type': 'application/json' }),
        },
        ...(options.body === undefined ? {} : { body: JSON.stringify(options.body) }),
        signal: AbortSignal.any([io.signal, AbortSignal.timeout(TIMEOUT_MS)]),
      });
      return { status: response.status, body: objectIn(await response.text()) };
    } catch (error) {
      if (tried < tries && !io.signal.aborted) continue;
      throw new UnreachableError(`no key service answers at ${url} (${whyNoAnswer(error)})`);
    }
  }
}

function objectIn(text: string): JsonObject | null {
  try {
    const value: unknown = JSON.parse(text);
    return isJsonObject(value) ? value : null;
  } catch {
    return null;
  }
}

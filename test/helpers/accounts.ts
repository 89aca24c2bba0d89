/** Calls to `/auth` as a client makes them, and a gateway that keeps accounts. */
import type { PartialConfig } from './gateway.ts';

/** Good by both rules. */
export const PASSWORD = 'Quiet-Harbour-Lamp-42';

export interface AuthAnswer {
  readonly status: number;
  readonly headers: Headers;
  // Each test knows what it asked for.
  // biome-ignore lint/suspicious/noExplicitAny: the shape is what the test is about
  readonly body: any;
}

export type Auth = (
  method: string,
  path: string,
  json?: unknown,
  headers?: Readonly<Record<string, string>>,
) => Promise<AuthAnswer>;

/** Speaks to one base URL. */
export function authClient(base: string): Auth {
  return async (method, path, json, headers = {}) => {
    const response = await fetch(`${base}${path}`, {
      method,
      headers: { ...(json === undefined ? {} : { 'content-type': 'application/json' }), ...headers },
      ...(json === undefined ? {} : { body: JSON.stringify(json) }),
    });
    const text = await response.text();
    return { status: response.status, headers: response.headers, body: text === '' ? null : JSON.parse(text) };
  };
}

export const bearer = (token: string): Readonly<Record<string, string>> => ({ authorization: `Bearer ${token}` });

/** Accounts with cheap hashes: what they cost is not what these tests are about. */
export const ACCOUNTS = {
  enabled: true,
  self_registration: true,
  password: { memory_kib: 8192, passes: 1 },
  limits: { login_per_minute: 1000, register_per_hour: 1000, verify_per_minute: 1000 },
} as const satisfies PartialConfig['accounts'];

export const IDENTITY = {
  accounts: { kind: 'local' },
  keys: { kind: 'api-key', prefixes: ['pc', 'vllm'] },
} as const satisfies PartialConfig['identity'];

/** The middle of a minute, so that a window does not end between two attempts. */
export function steppedClock(start = Date.parse('2026-11-22T10:30:10Z')) {
  let now = start;
  return {
    now: () => now,
    advance(ms: number) {
      now += ms;
    },
  };
}

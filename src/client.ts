/**
 * A client for programs that go through a gateway: it adds the credential, keeps a session alive and manages keys. Uses
 * nothing but `fetch`. `import { PortcullisClient } from 'portcullis/client'`. Source: acceptance H-07, H-08, H-16, V-32,
 * VF-25.
 */

import type { KeyUsage, KeyView, NewKey, NewKeyView } from './core/key-views.ts';

export type { KeyUsage, KeyView, NewKey, NewKeyView } from './core/key-views.ts';

export interface ClientOptions {
  /** Base address of the gateway. Default: `PORTCULLIS_URL`, then `HOKUSAI_AUTH_SERVICE_URL`. */
  readonly url?: string;
  /** Default: `PORTCULLIS_API_KEY`, then `HOKUSAI_API_KEY`; not read when there is a username. */
  readonly apiKey?: string;
  /** An account of the gateway, with `password`; logged in when first needed. */
  readonly username?: string;
  readonly password?: string;
  /** Where `/auth` is, when that is another listener than `url`. Default: `url`. */
  readonly authUrl?: string;
  /** Keeps the session beyond this process; with it a session that is kept needs no password. */
  readonly sessions?: SessionStore;
  /**
   * A section of `~/.hokusai/config` with `auth_service_url` and `api_key`; default: `HOKUSAI_PROFILE`. Options win over it,
   * and it wins over the other variables.
   */
  readonly profile?: string;
  /** Milliseconds for one request. Default 30,000; the client's own questions take 5,000 at most. */
  readonly timeoutMs?: number;
  /** Instead of the global one. */
  readonly fetch?: typeof globalThis.fetch;
}

/** What a login gives. */
export interface Session {
  readonly access_token: string;
  readonly refresh_token: string;
  readonly expires_in: number;
  readonly user_id: string;
  readonly username: string;
  readonly role: string;
}

/**
 * Where a program keeps its session, e.g. a file that only its owner reads: it holds the tokens. Several processes may
 * share one; what a call rejects with ends the request that needed it.
 */
export interface SessionStore {
  load(): Promise<Session | null> | Session | null;
  /** Null: there is none any more. */
  save(session: Session | null): Promise<void> | void;
}

/** The gateway refused, could not do it, or does not answer. */
export class PortcullisError extends Error {
  override readonly name = 'PortcullisError';
  /** 0 where nobody answers; `cause` is what `fetch` says of that then. */
  readonly status: number;
  /** Of the gateway's catalogue of errors, e.g. `POLICY_DENIED`; null when the answer names none. */
  readonly code: string | null;
  readonly requestId: string | null;
  /** Seconds after which it may be tried again, when the gateway says so. */
  readonly retryAfter: number | null;

  constructor(message: string, response: Response | null, code: string | null, options?: ErrorOptions) {
    super(message, options);
    this.status = response?.status ?? 0;
    this.code = code;
    this.requestId = response?.headers.get('x-request-id') ?? null;
    const seconds = Number(response?.headers.get('retry-after') ?? Number.NaN);
    this.retryAfter = Number.isFinite(seconds) ? seconds : null;
  }
}

const TIMEOUT_MS = 30_000;
const OWN_TIMEOUT_MS = 5000;
const KEYS = '/api/v1/keys';
/** Of refusals to refresh that say nothing of the session. */
const PASSING: ReadonlySet<number> = new Set([408, 409, 429]);

export class PortcullisClient {
  readonly #url: URL;
  readonly #authUrl: URL;
  readonly #sessions: SessionStore | null;
  readonly #apiKey: string | null;
  readonly #account: { readonly username: string; readonly password: string } | null;
  readonly #timeoutMs: number;
  readonly #fetch: typeof globalThis.fetch;
  #session: Session | null = null;
  /** One login or refresh for everyone who needs it at the same time. */
  #renewing: Promise<Session> | null = null;

  /** Throws TypeError without an address or a credential, and for plain http to another machine. */
  constructor(options: ClientOptions = {}) {
    const name = options.profile ?? variable('HOKUSAI_PROFILE');
    const profile = name === undefined ? null : readProfile(name, variable('HOME') ?? '');
    const named = options.url ?? profile?.auth_service_url;
    this.#url = checkedUrl(named ?? variable('PORTCULLIS_URL') ?? variable('HOKUSAI_AUTH_SERVICE_URL'));
    this.#authUrl = options.authUrl === undefined ? this.#url : checkedUrl(options.authUrl);
    this.#sessions = options.sessions ?? null;
    const { username, password } = options;
    // The key of a profile is for the service of the profile.
    const kept = options.url === undefined ? profile?.api_key : undefined;
    if ((username === undefined) !== (password === undefined)) throw new TypeError('give a username and a password');
    this.#account = username === undefined || password === undefined ? null : { username, password };
    const hasSession = this.#account !== null || this.#sessions !== null;
    if (hasSession && options.apiKey !== undefined) throw new TypeError('give either an API key or an account');
    const key = options.apiKey ?? kept ?? variable('PORTCULLIS_API_KEY') ?? variable('HOKUSAI_API_KEY') ?? null;
    this.#apiKey = hasSession ? null : (key?.trim() ?? null);
    if (!hasSession && key === null) throw new TypeError('give an API key or an account');
    // What `fetch` says of a header that cannot be sent has all of it.
    if (this.#apiKey !== null && !isSendable(this.#apiKey)) throw new TypeError('the API key has characters of no key');
    this.#timeoutMs = options.timeoutMs ?? TIMEOUT_MS;
    this.#fetch = options.fetch ?? globalThis.fetch;
  }

  /**
   * `fetch` with the credential, for addresses of the gateway only; redirects are not followed, for the credential must
   * not go elsewhere. A session that ended is renewed once, and the request sent again when its body can be. Throws where no
   * answer comes.
   */
  async fetch(path: string | URL, init: RequestInit = {}): Promise<Response> {
    return this.#authorized(this.#target(path), init, this.#timeoutMs);
  }

  async #authorized(target: URL, init: RequestInit, timeoutMs: number): Promise<Response> {
    if (this.#apiKey !== null) return this.#send(target, init, timeoutMs, null);
    // Which one was refused, not which one there is when the refusal arrives.
    const used = this.#session ?? (await this.#renew(null));
    const response = await this.#send(target, init, timeoutMs, used);
    if (response.status !== 401 || !isRepeatable(init.body)) return response;
    await response.body?.cancel();
    return this.#send(target, init, timeoutMs, await this.#renew(used));
  }

  /** Whether the credential is good: true for 200, false when it is refused. Throws PortcullisError when nobody can say. */
  async validate(): Promise<boolean> {
    const response = await this.#validation();
    const { status } = response;
    if (status === 200) {
      // Whatever stands between may answer 200 to everything.
      const said = (await read<{ is_valid?: unknown; id?: unknown } | undefined>(response)) ?? {};
      if (this.#apiKey === null && typeof said.id === 'string') return true;
      if (this.#apiKey !== null && typeof said.is_valid === 'boolean') return said.is_valid;
    } else await response.body?.cancel();
    if (status === 401 || status === 402 || status === 403) return false;
    throw new PortcullisError(`The gateway cannot say (status ${status})`, response, null);
  }

  async #validation(): Promise<Response> {
    if (this.#apiKey === null) {
      try {
        return await this.#authorized(at(this.#authUrl, '/auth/me'), {}, OWN_TIMEOUT_MS);
      } catch (error) {
        // Refused at login: that is an answer too.
        if (error instanceof PortcullisError && error.status === 401) return new Response(null, { status: 401 });
        throw error;
      }
    }
    const headers = { 'content-type': 'application/json', authorization: `Bearer ${this.#apiKey}` };
    return this.#plain(this.#target(`${KEYS}/validate`), { method: 'POST', headers, body: '{}' });
  }

  /** Logs in with the account. Otherwise it happens when first needed. */
  async login(): Promise<Session> {
    if (this.#account === null) throw new TypeError('a client without an account cannot log in');
    return this.#keep(await this.#ask('/auth/login', this.#account));
  }

  /** Ends the session, also for whoever may have copied its tokens. */
  async logout(): Promise<void> {
    const session = this.#session ?? (await this.#sessions?.load()) ?? null;
    if (session === null) return;
    const response = await this.#send(at(this.#authUrl, '/auth/logout'), { method: 'POST' }, OWN_TIMEOUT_MS, session);
    await response.body?.cancel();
    await this.#forget();
  }

  /** Keys of a gateway that issues them; what the caller may do there is decided by permissions `keys:*`. */
  readonly keys = {
    /** The text of the key is in this answer only. */
    create: (wanted: NewKey): Promise<NewKeyView> => this.#json('POST', KEYS, wanted),
    /** All that the caller may see. */
    list: (): Promise<readonly KeyView[]> => this.#list(),
    /** A new key with the same settings; the old one stays good for the grace time, 24 hours when nothing is said. */
    rotate: (id: string, graceHours?: number): Promise<NewKeyView> =>
      this.#json(
        'POST',
        `${KEYS}/${encodeURIComponent(id)}/rotate`,
        graceHours === undefined ? {} : { grace_hours: graceHours },
      ),
    revoke: async (id: string): Promise<void> => {
      await this.#json('DELETE', `${KEYS}/${encodeURIComponent(id)}`);
    },
    usage: (id: string): Promise<KeyUsage> => this.#json('GET', `${KEYS}/${encodeURIComponent(id)}/usage`),
  };

  async #list(): Promise<readonly KeyView[]> {
    const items: KeyView[] = [];
    for (let after: string | null = null; ; ) {
      const more = after === null ? '' : `&after=${encodeURIComponent(after)}`;
      const page: { items: readonly KeyView[]; next: string | null } = await this.#json(
        'GET',
        `${KEYS}?limit=1000${more}`,
      );
      items.push(...page.items);
      if (page.next === null) return items;
      after = page.next;
    }
  }

  /** The JSON of a good answer. Throws PortcullisError otherwise. */
  async #json<T>(method: string, path: string, body?: object): Promise<T> {
    const content =
      body === undefined ? {} : { body: JSON.stringify(body), headers: { 'content-type': 'application/json' } };
    return read<T>(await this.fetch(path, { method, ...content }));
  }

  #target(path: string | URL): URL {
    const target = typeof path === 'string' && path.startsWith('/') ? at(this.#url, path) : new URL(path);
    // A credential is for one gateway.
    if (target.origin !== this.#url.origin) throw new TypeError(`${target.origin} is not the gateway of this client`);
    return target;
  }

  #send(target: URL, init: RequestInit, timeoutMs: number, session: Session | null): Promise<Response> {
    const headers = new Headers(init.headers);
    if (session !== null) headers.set('authorization', `Bearer ${session.access_token}`);
    else if (this.#apiKey !== null) headers.set('x-api-key', this.#apiKey);
    return this.#plain(target, { ...init, headers }, timeoutMs);
  }

  #plain(target: URL, init: RequestInit, timeoutMs = OWN_TIMEOUT_MS): Promise<Response> {
    const limit = AbortSignal.timeout(timeoutMs);
    const signal = init.signal === undefined || init.signal === null ? limit : AbortSignal.any([init.signal, limit]);
    return this.#fetch(target, { ...init, signal, redirect: 'manual' }).catch((error: unknown) => {
      // A signal of the caller's ends it as the caller says.
      if (limit.aborted && init.signal?.aborted !== true) throw unanswered(target, error, ` within ${timeoutMs} ms`);
      throw error instanceof TypeError && error.message === 'fetch failed' ? unanswered(target, error.cause) : error;
    });
  }

  /** @param ended the session that was refused; another one that came meanwhile is used instead */
  #renew(ended: Session | null): Promise<Session> {
    if (this.#session !== null && this.#session !== ended) return Promise.resolve(this.#session);
    this.#renewing ??= this.#open(ended).finally(() => {
      this.#renewing = null;
    });
    return this.#renewing;
  }

  /** By what is kept, then by the refresh token while that is good, else with the password. */
  async #open(ended: Session | null): Promise<Session> {
    const kept = await this.#renewedElsewhere(ended);
    if (kept !== null) return kept;
    const refreshed = ended === null ? null : await this.#ask('/auth/refresh', { refresh_token: ended.refresh_token });
    if (refreshed?.ok === false) {
      // Its question and ours may have crossed; what it kept is not ours to throw away.
      const other = await this.#renewedElsewhere(ended);
      if (other !== null) await refreshed.body?.cancel();
      if (other !== null) return other;
    }
    // Only a refusal ends a session: neither a service that is away for a moment, nor another refresh under way (409).
    if (refreshed?.ok === true || (refreshed !== null && (refreshed.status >= 500 || PASSING.has(refreshed.status)))) {
      return this.#keep(refreshed);
    }
    if (this.#account !== null) {
      await refreshed?.body?.cancel();
      await this.#forget();
      return this.login();
    }
    if (refreshed === null) throw new TypeError('no session is kept, and there is no account to log in with');
    await this.#forget();
    return read<Session>(refreshed);
  }

  /** By another process that keeps the session in the same place: the token we have is used up then. */
  async #renewedElsewhere(ended: Session | null): Promise<Session | null> {
    const kept = (await this.#sessions?.load()) ?? null;
    if (kept === null || kept.access_token === ended?.access_token) return null;
    this.#session = kept;
    return kept;
  }

  async #keep(response: Response): Promise<Session> {
    const session = await read<Session | undefined>(response);
    if (!isSendable(session?.access_token) || typeof session?.refresh_token !== 'string') {
      throw new PortcullisError('The answer is no session', response, null);
    }
    this.#session = session;
    await this.#sessions?.save(session);
    return session;
  }

  async #forget(): Promise<void> {
    this.#session = null;
    await this.#sessions?.save(null);
  }

  #ask(path: string, body: object): Promise<Response> {
    const headers = { 'content-type': 'application/json' };
    return this.#plain(at(this.#authUrl, path), { method: 'POST', headers, body: JSON.stringify(body) });
  }
}

/** What `fetch` says of a gateway that is not there names neither it nor the reason. */
function unanswered({ origin }: URL, cause: unknown, within = ''): PortcullisError {
  const how = within === '' && cause instanceof Error && 'code' in cause ? ` (${String(cause.code)})` : within;
  const message = `No gateway answers at ${origin}${how}: is it running, and is this its address?`;
  return new PortcullisError(message, null, null, { cause });
}

const at = (base: URL, path: string): URL => new URL(base.href.replace(/\/+$/, '') + path);

/** Node's environment, where there is one. */
function variable(name: string): string | undefined {
  const value = typeof process === 'undefined' ? undefined : process.env[name];
  return value === '' ? undefined : value;
}

/** Settings of one profile; others in the file are left unread. */
export interface Profile {
  readonly auth_service_url?: string;
  readonly api_key?: string;
  readonly admin_token?: string;
}

const PROFILE_SETTINGS: ReadonlySet<string> = new Set(['auth_service_url', 'api_key', 'admin_token']);

/**
 * One section of `.hokusai/config` in the home directory: `[name]`, then lines `setting = value`. Throws TypeError when the
 * file or the section is not there, or others than its owner may read the file: it holds secrets.
 */
export function readProfile(name: string, home: string): Profile {
  const files = process.getBuiltinModule('node:fs');
  const path = `${home}/.hokusai/config`;
  let text: string;
  try {
    if ((files.statSync(path).mode & 0o077) !== 0) throw new TypeError(`${path}: others may read it; chmod 600 it`);
    text = files.readFileSync(path, 'utf8');
  } catch (error) {
    throw error instanceof TypeError ? error : new TypeError(`${path}: cannot be read`);
  }
  const found = new Map<string, string>();
  let isOurs = false;
  let isThere = false;
  for (const line of text.split(/\r?\n/)) {
    const section = /^\s*\[([^\]]+)\]\s*$/.exec(line)?.[1];
    if (section !== undefined) {
      isOurs = section.trim() === name;
      isThere ||= isOurs;
    }
    const [, setting = '', value = ''] = /^\s*([a-z_]+)\s*=\s*(.*?)\s*$/.exec(line) ?? [];
    if (isOurs && PROFILE_SETTINGS.has(setting) && value !== '') found.set(setting, value);
  }
  if (!isThere) throw new TypeError(`${path}: there is no profile [${name}]`);
  return Object.fromEntries(found);
}

function checkedUrl(text: string | undefined): URL {
  if (text === undefined) throw new TypeError('give the url of the gateway; there is no default');
  const url = new URL(text);
  const isLocal = ['localhost', '127.0.0.1', '[::1]'].includes(url.hostname);
  if (url.protocol !== 'https:' && !(url.protocol === 'http:' && isLocal)) {
    throw new TypeError('credentials are not sent over plain HTTP to another machine: use https');
  }
  if (url.username !== '' || url.password !== '' || url.search !== '' || url.hash !== '') {
    throw new TypeError('the url must have no credentials, query or fragment');
  }
  return url;
}

const isSendable = (secret: unknown): boolean => typeof secret === 'string' && /^[\x21-\x7e]+$/.test(secret);

/** A stream is gone once it was sent. */
function isRepeatable(body: RequestInit['body']): boolean {
  return !(
    typeof body === 'object' &&
    body !== null &&
    (body instanceof ReadableStream || Symbol.asyncIterator in body)
  );
}

async function read<T>(response: Response): Promise<T> {
  const text = await response.text().catch((cause: unknown) => {
    throw new PortcullisError(`The answer of ${response.url} broke off`, response, null, { cause });
  });
  let body: unknown;
  try {
    body = JSON.parse(text);
  } catch {
    // Nothing, or no JSON.
  }
  if (response.ok) return body as T;
  const { detail, error } = (body ?? {}) as { detail?: unknown; error?: { code?: unknown } };
  const message = typeof detail === 'string' ? detail : `The gateway answered with status ${response.status}`;
  throw new PortcullisError(message, response, typeof error?.code === 'string' ? error.code : null);
}

/** An agent and a browser without scripts, one request at a time, so that a test can change any of them on the way. */
import { createHash, randomBytes } from 'node:crypto';

/** Keeps cookies as a browser does: by name and path. */
export class PlainBrowser {
  readonly #cookies = new Map<string, { name: string; value: string; path: string }>();
  readonly #base: string;

  constructor(base: string) {
    this.#base = base;
  }

  get cookies(): readonly string[] {
    return [...this.#cookies.values()].map(({ name, value, path }) => `${name}=${value}; path=${path}`);
  }

  async go(
    url: string,
    form?: Readonly<Record<string, string>>,
    headers: Readonly<Record<string, string>> = {},
  ): Promise<Response> {
    const target = new URL(url, this.#base);
    const cookie = [...this.#cookies.values()]
      .filter(({ path }) => target.pathname.startsWith(path))
      .map(({ name, value }) => `${name}=${value}`)
      .join('; ');
    const response = await fetch(target, {
      redirect: 'manual',
      headers: {
        ...(cookie === '' ? {} : { cookie }),
        ...(form === undefined ? {} : { origin: this.#base }),
        ...headers,
      },
      ...(form === undefined ? {} : { method: 'POST', body: new URLSearchParams(form) }),
    });
    for (const line of response.headers.getSetCookie()) this.#keep(line);
    return response;
  }

  #keep(line: string): void {
    const [pair = '', ...attributes] = line.split('; ');
    const at = pair.indexOf('=');
    const path = attributes.find((one) => one.startsWith('path='))?.slice(5) ?? '/';
    const name = pair.slice(0, at);
    const value = pair.slice(at + 1);
    if (value === '') this.#cookies.delete(`${name}@${path}`);
    else this.#cookies.set(`${name}@${path}`, { name, value, path });
  }
}

export interface RegisteredClient {
  readonly client_id: string;
  readonly client_secret?: string;
}

export const CALLBACK = 'http://127.0.0.1:9/callback';

/** Registers a client; a public one unless said otherwise. */
export async function registerClient(base: string, more: Readonly<Record<string, unknown>> = {}): Promise<Response> {
  const metadata = {
    ...{ client_name: 'agent', redirect_uris: [CALLBACK], token_endpoint_auth_method: 'none' },
    ...{ grant_types: ['authorization_code', 'refresh_token'], response_types: ['code'] },
    ...more,
  };
  const headers = { 'content-type': 'application/json' };
  return fetch(`${base}/oauth/register`, { method: 'POST', headers, body: JSON.stringify(metadata) });
}

/** An authorization request, and what has to be shown for its code. */
export function authorization(base: string, client_id: string, resource: string) {
  const verifier = randomBytes(32).toString('base64url');
  const query: Record<string, string> = {
    ...{ client_id, redirect_uri: CALLBACK, response_type: 'code', state: 'st', resource },
    ...{ code_challenge: createHash('sha256').update(verifier).digest('base64url'), code_challenge_method: 'S256' },
  };
  return { verifier, query, url: `${base}/oauth/authorize?${new URLSearchParams(query)}` };
}

/** The value of a hidden field of a page. */
export const hidden = (page: string, name: string): string =>
  new RegExp(`name="${name}" value="([^"]*)"`).exec(page)?.[1] ?? '';

/** Goes to a page, fills its form and sends it; gives the answer to that. */
export async function fill(
  browser: PlainBrowser,
  url: string,
  form: Readonly<Record<string, string>>,
): Promise<Response> {
  const page = await (await browser.go(url)).text();
  return browser.go(url, { csrf: hidden(page, 'csrf'), ...form });
}

export const locationOf = (response: Response): string => response.headers.get('location') ?? '';

/** From the authorization request to the consent page; gives its address. */
export async function toConsent(browser: PlainBrowser, url: string, username: string, password: string) {
  const login = locationOf(await browser.go(url));
  const sent = await fill(browser, login, { action: 'login', username, password });
  if (sent.status !== 303) throw new Error(`the login was answered with ${sent.status}`);
  return locationOf(await browser.go(locationOf(sent)));
}

/** The whole way; gives where the client is sent. */
export async function toCallback(browser: PlainBrowser, url: string, username: string, password: string): Promise<URL> {
  const consent = await toConsent(browser, url, username, password);
  const sent = await fill(browser, consent, { action: 'allow' });
  return new URL(locationOf(await browser.go(locationOf(sent))));
}

/** The tokens of an agent that is let in by whoever gets to the consent page in this way, and what the access token says. */
export async function letIn(
  browser: PlainBrowser,
  { base, client, resource }: { readonly base: string; readonly client: string; readonly resource: string },
  getThere: (url: string) => Promise<string>,
) {
  const { url, verifier, query } = authorization(base, client, resource);
  const sent = await fill(browser, await getThere(url), { action: 'allow' });
  const landed = new URL(locationOf(await browser.go(locationOf(sent))));
  const { redirect_uri = '' } = query;
  const { body } = await postForm(base, '/oauth/token', {
    ...{ grant_type: 'authorization_code', client_id: client, code: landed.searchParams.get('code') ?? '' },
    ...{ redirect_uri, code_verifier: verifier },
  });
  const { access_token = '', refresh_token = '' } = body;
  const claims = JSON.parse(Buffer.from(access_token.split('.')[1] ?? '', 'base64url').toString());
  return { access_token, refresh_token, claims };
}

/** A request to the token endpoint, or another one that takes forms. */
export async function postForm(
  base: string,
  path: string,
  form: Readonly<Record<string, string>> | URLSearchParams,
  headers: Readonly<Record<string, string>> = {},
) {
  const response = await fetch(`${base}${path}`, { method: 'POST', headers, body: new URLSearchParams(form) });
  const text = await response.text();
  const body = text === '' ? {} : (JSON.parse(text) as Readonly<Record<string, string>>);
  return { status: response.status, body };
}

/** Keeps what an MCP client keeps, and hands the address to visit to the test. Both generations of the SDK take it. */
export class Wallet {
  readonly redirectUrl: string;
  visited: URL | null = null;
  // Each generation has types of its own for the same documents.
  // biome-ignore lint/suspicious/noExplicitAny: what is kept is given back as it came
  readonly kept = new Map<string, any>();
  readonly #state = crypto.randomUUID();

  constructor(redirectUrl: string) {
    this.redirectUrl = redirectUrl;
  }
  get clientMetadata() {
    return {
      ...{ client_name: 'scenario', redirect_uris: [this.redirectUrl], token_endpoint_auth_method: 'none' },
      ...{ grant_types: ['authorization_code', 'refresh_token'], response_types: ['code'] },
    };
  }
  state() {
    return this.#state;
  }
  clientInformation() {
    return this.kept.get('client');
  }
  saveClientInformation(client: unknown) {
    this.kept.set('client', client);
  }
  tokens() {
    return this.kept.get('tokens');
  }
  saveTokens(tokens: unknown) {
    this.kept.set('tokens', tokens);
  }
  redirectToAuthorization(url: URL) {
    this.visited = url;
  }
  saveCodeVerifier(verifier: string) {
    this.kept.set('verifier', verifier);
  }
  codeVerifier() {
    return this.kept.get('verifier');
  }
}

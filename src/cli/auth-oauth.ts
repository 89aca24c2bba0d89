/** `portcullis auth login` at an authorization server, with a browser here or on another device. Source: RFC 8252, RFC 8628. */
import { spawn } from 'node:child_process';
import { setTimeout as delay } from 'node:timers/promises';
import { beginDeviceLogin } from '../identity/oauth/device-login.ts';
import { openLoopback } from '../identity/oauth/loopback.ts';
import {
  beginCodeLogin,
  type GrantedTokens,
  LoginFault,
  openIssuer,
  registerClient,
} from '../identity/oauth/native-client.ts';
import { discoverResource } from '../identity/oauth/resource-discovery.ts';
import { configFile, namedProvider, requireConfig } from './config-file.ts';
import { findGateway } from './gateway-address.ts';
import { CommandError, EXIT, type Io, line, UsageError } from './io.ts';
import { asCommandError, keptOf, loginName } from './kept-login.ts';
import { printable } from './printable.ts';
import { changeLogins, type KeptLogin } from './token-file.ts';

export interface OAuthLoginOptions {
  readonly url?: string | undefined;
  readonly provider?: string | undefined;
  readonly issuer?: string | undefined;
  readonly 'client-id'?: string | undefined;
  readonly scope?: string | undefined;
  readonly resource?: string | undefined;
  readonly config?: string | undefined;
  readonly device?: boolean | undefined;
  readonly 'no-browser'?: boolean | undefined;
  readonly 'assume-pkce'?: boolean | undefined;
  readonly json?: boolean | undefined;
}

/** Where to log in, and for what. */
interface Plan {
  readonly gateway: string;
  readonly issuer: string;
  /** Null: the program registers itself. */
  readonly clientId: string | null;
  /** Null: what the issuer is known to have. */
  readonly scope: string | null;
  readonly resource: string | null;
  readonly assumePkce: boolean;
}

const clock = { now: () => Date.now() };
/** Milliseconds a person may take in the browser. */
const PATIENCE_MS = 600_000;

/** Logs in and keeps the tokens. Prints no token. */
export async function oauthLogin(options: OAuthLoginOptions, io: Io): Promise<number> {
  if (options.provider !== undefined && options.issuer !== undefined) {
    throw new UsageError('give --provider or --issuer, not both');
  }
  try {
    const plan = await planOf(options, io);
    const { granted, clientId, scope } = await (options.device === true
      ? byDevice(plan, io)
      : byBrowser(plan, options, io));
    const { issuer, resource } = plan;
    const kept = keptOf(granted, { issuer, client_id: clientId, scope, resource });
    await changeLogins(io, async (now) => ({ ...now, [plan.gateway]: kept }));
    tell(plan.gateway, kept, options.json === true, io);
    return EXIT.ok;
  } catch (error) {
    throw asCommandError(error);
  }
}

/** What may be seen of a login. */
export function viewOf(gateway: string, { issuer, subject, scope, expires_at, refresh_token }: KeptLogin) {
  const until = expires_at === null ? null : new Date(expires_at).toISOString();
  return { gateway, issuer, subject, scope, expires_at: until, renewable: refresh_token !== null };
}

function tell(gateway: string, kept: KeptLogin, isJson: boolean, io: Io): void {
  const { subject } = kept;
  if (isJson) line(io, JSON.stringify(viewOf(gateway, kept)));
  else io.err(`${printable(`Logged in at ${gateway}${subject === null ? '' : ` as ${subject}`}.`)}\n`);
}

async function planOf(options: OAuthLoginOptions, io: Io): Promise<Plan> {
  if (options.provider !== undefined) return planOfProvider(options.provider, options, io);
  const gateway = loginName(findGateway(options.url, io));
  const base = {
    gateway,
    clientId: options['client-id'] ?? null,
    scope: options.scope ?? null,
    assumePkce: options['assume-pkce'] === true,
  };
  if (options.issuer !== undefined) return { ...base, issuer: options.issuer, resource: options.resource ?? null };
  const { resource, issuers, scopes } = await discoverResource(options.resource ?? gateway);
  const [issuer = '', ...others] = issuers;
  if (others.length > 0)
    throw new CommandError(`${gateway} takes several issuers: name --issuer, one of ${issuers.join(', ')}`);
  // The issuer says itself whether it has these two; the others are what the gateway asks for.
  const scope = base.scope ?? (scopes.length === 0 ? null : ['openid', 'offline_access', ...scopes].join(' '));
  return { ...base, issuer, resource, scope };
}

async function planOfProvider(name: string, options: OAuthLoginOptions, io: Io): Promise<Plan> {
  const { config } = await requireConfig(configFile(options.config, io), io);
  const provider = namedProvider(config, name);
  const { issuer, client_id, client_secret, private_key, audience } = provider as unknown as Record<string, unknown>;
  if (typeof issuer !== 'string')
    throw new UsageError(`the provider "${name}" (${provider.kind}) is no login in a browser`);
  // The gateway's own client has a secret, which is none of ours; a public one may be anybody's.
  const isPublic = typeof client_id === 'string' && client_secret === undefined && private_key === undefined;
  const [first]: readonly unknown[] = Array.isArray(audience) ? audience : [];
  const gateway = loginName(findGateway(options.url ?? config.public_url, io));
  const known = typeof first === 'string' && URL.canParse(first) ? first : (config.public_url ?? null);
  return {
    gateway,
    issuer,
    clientId: options['client-id'] ?? (isPublic ? client_id : null),
    scope: options.scope ?? null,
    resource: options.resource ?? (known === null ? null : loginName(known)),
    assumePkce: options['assume-pkce'] === true || JSON.stringify(provider).includes('"pkce":"assumed"'),
  };
}

interface Done {
  readonly granted: GrantedTokens;
  readonly clientId: string;
  readonly scope: string;
}

const OPENID: ReadonlySet<string> = new Set(['openid', 'offline_access']);

/** Who logged in, and to stay logged in, are asked for only where the issuer knows these words. */
function scopeOf(plan: Plan, supported: readonly string[] | undefined): string {
  const words = (plan.scope ?? 'openid offline_access').split(/\s+/).filter((word) => word !== '');
  const isLeftOut = (word: string) => OPENID.has(word) && supported !== undefined && !supported.includes(word);
  return words.filter((word) => !isLeftOut(word)).join(' ');
}

async function byBrowser(plan: Plan, options: OAuthLoginOptions, io: Io): Promise<Done> {
  await using loopback = await openLoopback();
  const { redirectUri } = loopback;
  const clientId = plan.clientId ?? (await registerClient(plan.issuer, redirectUri, clock));
  const configuration = await openIssuer(plan.issuer, clientId, clock);
  const scope = scopeOf(plan, configuration.serverMetadata().scopes_supported);
  const { resource, assumePkce } = plan;
  const login = await beginCodeLogin(configuration, { scope, resource, redirectUri, assumePkce }, clock);
  const landed = loopback.landing(login.state);
  io.err(`Log in at ${plan.issuer} with a browser on this machine:\n\n  ${printable(login.url)}\n\n`);
  if (options['no-browser'] !== true) openBrowser(login.url, io);
  const patience = AbortSignal.any([io.signal, AbortSignal.timeout(PATIENCE_MS)]);
  const landing = await Promise.race([landed, aborted(patience)]);
  try {
    const granted = await login.finish(landing.url);
    await landing.reply(true);
    return { granted, clientId, scope };
  } catch (error) {
    await landing.reply(false);
    throw error;
  }
}

function aborted(signal: AbortSignal): Promise<never> {
  return new Promise((_done, fail) => {
    const end = () => fail(new LoginFault('nobody came back from the browser'));
    if (signal.aborted) end();
    else signal.addEventListener('abort', end, { once: true });
  });
}

async function byDevice(plan: Plan, io: Io): Promise<Done> {
  // A redirect URI that is never used: a client has to have one to be registered.
  const clientId = plan.clientId ?? (await registerClient(plan.issuer, 'http://127.0.0.1/callback', clock));
  const configuration = await openIssuer(plan.issuer, clientId, clock);
  const scope = scopeOf(plan, configuration.serverMetadata().scopes_supported);
  const login = await beginDeviceLogin(configuration, { scope, resource: plan.resource }, clock);
  const minutes = Math.max(1, Math.round(login.expiresInSeconds / 60));
  io.err(
    `Open ${printable(login.verificationUri)} on any device and enter the code\n\n  ${printable(login.userCode)}\n\n`,
  );
  if (login.completeUri !== null) io.err(`or open ${printable(login.completeUri)}\n`);
  io.err(`The code is good for ${minutes} minutes. Waiting …\n`);
  const granted = await login
    .finish((ms) => delay(ms, undefined, { signal: io.signal }))
    .catch((error: unknown) => {
      throw io.signal.aborted ? new LoginFault('given up') : error;
    });
  return { granted, clientId, scope };
}

const OPENERS: Readonly<Partial<Record<NodeJS.Platform, readonly [string, ...string[]]>>> = {
  darwin: ['open'],
  win32: ['rundll32', 'url.dll,FileProtocolHandler'],
};

/** Tries; the address was printed, so nothing is lost when there is no browser. No shell reads the address. */
function openBrowser(url: string, io: Io): void {
  const [program, ...first] = io.env.BROWSER ? [io.env.BROWSER] : (OPENERS[process.platform] ?? ['xdg-open']);
  try {
    const child = spawn(program, [...first, url], { stdio: 'ignore', detached: true });
    child.on('error', () => {});
    child.unref();
  } catch {
    // As above.
  }
}

/** The access token of a kept login, renewed when it is about to end. */
import { Secret } from '../core/secret.ts';
import {
  type GrantedTokens,
  LoginFault,
  openIssuer,
  refreshLogin,
  revokeToken,
} from '../identity/oauth/native-client.ts';
import { resourceUri } from '../identity/oauth/resource.ts';
import { CommandError, type Io, UnreachableError } from './io.ts';
import { printable } from './printable.ts';
import { changeLogins, type KeptLogin, readLogins } from './token-file.ts';

/** A token that ends so soon is renewed first: it has to arrive. */
const MARGIN_MS = 30_000;
const clock = { now: () => Date.now() };

/** How an address is written as a name of a login. */
export const loginName = (gateway: string): string => resourceUri(gateway, '');

/** What the fault is for a command: exit 3 when nobody could be asked, else 1. */
export function asCommandError(error: unknown): unknown {
  if (!(error instanceof LoginFault)) return error;
  const message = printable(error.message);
  return error.isOutage ? new UnreachableError(message) : new CommandError(message);
}

/** An entry for the file. `before` has what an answer may leave out. */
export function keptOf(
  granted: GrantedTokens,
  before: Pick<KeptLogin, 'issuer' | 'client_id' | 'scope' | 'resource'> & Partial<KeptLogin>,
): KeptLogin {
  const { issuer, client_id, scope, resource, subject = null, refresh_token = null } = before;
  return {
    ...{ issuer, client_id, resource, scope: granted.scope ?? scope },
    subject: granted.subject ?? subject,
    access_token: granted.access.reveal(),
    // RFC 6749 6: no new one means that the old one stays.
    refresh_token: granted.refresh?.reveal() ?? refresh_token,
    expires_at: granted.expiresAt,
  };
}

const isFresh = ({ expires_at }: KeptLogin): boolean => expires_at === null || expires_at > clock.now() + MARGIN_MS;

/** Null when nobody logged in at this gateway. Throws CommandError when the login has ended, UnreachableError when the issuer is away. */
export async function validToken(gateway: string, io: Io): Promise<Secret | null> {
  const name = loginName(gateway);
  let login = readLogins(io)[name];
  if (login === undefined) return null;
  if (!isFresh(login)) {
    await changeLogins(io, async (now) => {
      login = now[name];
      if (login === undefined || isFresh(login)) return null;
      login = await renewed(name, login);
      return { ...now, [name]: login };
    });
  }
  return login === undefined ? null : new Secret(login.access_token);
}

async function renewed(name: string, login: KeptLogin): Promise<KeptLogin> {
  const again = `log in again: portcullis auth login --url ${name}`;
  const { refresh_token } = login;
  if (refresh_token === null) throw new CommandError(`the login at ${name} has ended; ${again}`);
  try {
    const configuration = await openIssuer(login.issuer, login.client_id, clock);
    return keptOf(await refreshLogin(configuration, new Secret(refresh_token), login.resource, clock), login);
  } catch (error) {
    const fault = asCommandError(error);
    throw fault instanceof CommandError ? new CommandError(`${fault.message}; ${again}`) : fault;
  }
}

/** Ends a login at its issuer: the refresh token first, which ends what came of it. True when the issuer did it. */
export async function endAtIssuer(login: KeptLogin): Promise<boolean> {
  const configuration = await openIssuer(login.issuer, login.client_id, clock);
  const { refresh_token, access_token } = login;
  const isEnded =
    refresh_token === null || (await revokeToken(configuration, new Secret(refresh_token), 'refresh_token'));
  // Signed tokens cannot be ended at every issuer (RFC 7009 2.2.1): they run out by themselves.
  const isAccess = await revokeToken(configuration, new Secret(access_token), 'access_token').catch(() => false);
  return refresh_token === null ? isAccess : isEnded;
}

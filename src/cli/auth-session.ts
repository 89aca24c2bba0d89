/** `portcullis auth status`, `token` and `logout`: what is kept of logins, and its end. */
import { viewOf } from './auth-oauth.ts';
import { findGateway } from './gateway-address.ts';
import { CommandError, EXIT, type Io, line, UnreachableError } from './io.ts';
import { asCommandError, endAtIssuer, loginName, validToken } from './kept-login.ts';
import { printable } from './printable.ts';
import { table } from './table.ts';
import { changeLogins, type KeptLogin, type KeptLogins, readLogins } from './token-file.ts';
import { readOptions } from './usual-options.ts';

const OPTIONS = { url: { type: 'string' }, json: { type: 'boolean' }, all: { type: 'boolean' } } as const;

/** Lists the kept logins; exit 1 when there is none (of the gateway named with --url). */
export async function authStatus(argv: readonly string[], io: Io): Promise<number> {
  const { url, json } = readOptions(argv, OPTIONS);
  const wanted = url === undefined ? null : loginName(findGateway(url, io));
  const views = Object.entries(readLogins(io))
    .filter(([gateway]) => wanted === null || gateway === wanted)
    .map(([gateway, login]) => viewOf(gateway, login));
  if (json === true) line(io, JSON.stringify({ logins: views }));
  const rows = views.map(({ gateway, issuer, subject, expires_at, renewable }) => {
    const isOver = expires_at !== null && Date.parse(expires_at) <= Date.now();
    const state = renewable
      ? 'renewed when needed'
      : isOver
        ? 'has ended'
        : `until ${expires_at ?? 'the issuer ends it'}`;
    return [gateway, subject ?? '-', state, issuer].map(printable);
  });
  if (json !== true && rows.length > 0) table([['GATEWAY', 'WHO', 'STATE', 'ISSUER'], ...rows], io);
  if (views.length === 0) io.err('Nobody is logged in.\n');
  return views.length === 0 ? EXIT.failed : EXIT.ok;
}

/** Prints an access token that is good now, for scripts. */
export async function authToken(argv: readonly string[], io: Io): Promise<number> {
  const gateway = findGateway(readOptions(argv, OPTIONS).url, io);
  const token = await validToken(gateway, io);
  if (token === null)
    throw new CommandError(`nobody is logged in at ${gateway}: portcullis auth login --url ${gateway}`);
  line(io, token.reveal());
  return EXIT.ok;
}

/** Forgets the login here in any case, then has the issuer end it. Throws UnreachableError when that could not be done. */
export async function authLogout(argv: readonly string[], io: Io): Promise<number> {
  const { url, all } = readOptions(argv, OPTIONS);
  const name = loginName(findGateway(url, io));
  const ended: [string, KeptLogin][] = [];
  await changeLogins(io, async (now) => {
    const left: Record<string, KeptLogin> = {};
    for (const [gateway, login] of Object.entries(now)) {
      if (all === true || gateway === name) ended.push([gateway, login]);
      else left[gateway] = login;
    }
    // Where nobody is logged in nothing changes, and no file comes to be.
    return ended.length === 0 ? null : (left satisfies KeptLogins);
  });
  if (ended.length === 0) throw new CommandError(`nobody is logged in at ${name}`);
  let trouble: unknown = null;
  for (const [gateway, login] of ended) {
    try {
      const isEnded = await endAtIssuer(login);
      io.err(`Logged out at ${gateway}.${isEnded ? '' : ' Its issuer ends no tokens: they run out by themselves.'}\n`);
    } catch (error) {
      trouble = asCommandError(error);
      io.err(`Logged out at ${gateway} here.\n`);
    }
  }
  if (trouble === null) return EXIT.ok;
  const why = trouble instanceof Error ? trouble.message : 'no answer';
  throw new UnreachableError(`the tokens are gone from here but were not ended at the issuer: ${why}`);
}

/** `portcullis delegate`: lends the rights behind a key to another principal, and takes them back. Source: acceptance S-42. */
import { isJsonObject, type JsonObject } from '../core/json.ts';
import type { AdminAnswer } from './gateway-address.ts';
import { callGateway, type KeyedGateway, keyedGateway } from './gateway-calls.ts';
import { CommandError, EXIT, type Io, line, UsageError } from './io.ts';
import { printable } from './printable.ts';
import { KEYED_OPTIONS, readOptions } from './usual-options.ts';

export const DELEGATE_HELP = `Usage: portcullis delegate --to ID [options]
       portcullis delegate --revoke TOKEN

Lends the rights of your key to another principal of your tenant and prints the
token. That principal sends it as X-Delegation-Token beside its own credential
and may then do what both of you may, in your name, until the token ends.

      --to ID             who is to act for you: the owner of its key, which is
                          owner_id in "portcullis keys list --json"
      --scope S           lend only these scopes; may be repeated, as the next two
      --permission P      lend only these permissions
      --role R            lend only these roles
      --expires-in N      seconds: 300 by default, 3600 at most
      --revoke TOKEN      take back a token and all that was made from it; exits
                          with 1 where there is nothing to take back
      --url URL           the gateway (default: $PORTCULLIS_URL, $PORTCULLIS_PORT,
                          the demo's, http://127.0.0.1:8080)
      --key KEY           an API key or a JWT; better: $PORTCULLIS_API_KEY or
                          $PORTCULLIS_API_KEY_FILE, or "portcullis auth login";
                          without one the demo's admin key is used for the demo
      --json              print JSON
`;

const OPTIONS = {
  ...KEYED_OPTIONS,
  to: { type: 'string' },
  scope: { type: 'string', multiple: true },
  permission: { type: 'string', multiple: true },
  role: { type: 'string', multiple: true },
  'expires-in': { type: 'string' },
  revoke: { type: 'string' },
} as const;

const parse = (argv: readonly string[]) => readOptions(argv, OPTIONS);
type Values = ReturnType<typeof parse>;

/** Runs the command; resolves with the exit code. Only the token goes to standard output. */
export async function delegateCommand(argv: readonly string[], io: Io): Promise<number> {
  const values = parse(argv);
  if (values.help === true) {
    io.out(DELEGATE_HELP);
    return EXIT.ok;
  }
  if ((values.to === undefined) === (values.revoke === undefined))
    throw new UsageError('delegate needs --to or --revoke');
  const gateway = await keyedGateway(values, io);
  return values.revoke === undefined ? lend(gateway, values, io) : takeBack(gateway, values.revoke, values, io);
}

async function lend(gateway: KeyedGateway, values: Values, io: Io): Promise<number> {
  const form = new URLSearchParams({
    grant_type: 'urn:ietf:params:oauth:grant-type:token-exchange',
    requested_actor: values.to ?? '',
  });
  const lists = { scope: values.scope, permissions: values.permission, roles: values.role };
  for (const [name, words] of Object.entries(lists)) if (words !== undefined) form.set(name, words.join(' '));
  if (values['expires-in'] !== undefined) form.set('expires_in', values['expires-in']);
  const answer = good(await callGateway(gateway, 'POST', '/api/v1/token/exchange', io, form));
  if (values.json === true) {
    line(io, JSON.stringify(answer));
    return EXIT.ok;
  }
  line(io, printable(String(answer.access_token)));
  io.err(`${printable(`good for ${String(answer.expires_in)} seconds, as ${String(answer.delegation_id)}`)}\n`);
  return EXIT.ok;
}

async function takeBack(gateway: KeyedGateway, token: string, values: Values, io: Io): Promise<number> {
  const answer = good(await callGateway(gateway, 'POST', '/api/v1/token/revoke', io, new URLSearchParams({ token })));
  if (values.json === true) line(io, JSON.stringify(answer));
  if (answer.revoked !== true) {
    if (values.json === true) return EXIT.failed;
    throw new CommandError('nothing was taken back: the token has ended, was changed, or is of another gateway');
  }
  const { delegation_id, delegator_id, actor_id } = answer;
  if (values.json !== true) {
    const what = `${String(delegation_id)}, with which ${String(actor_id)} acted for ${String(delegator_id)}`;
    io.err(`${printable(`taken back: ${what}, and all that was made from it`)}\n`);
  }
  return EXIT.ok;
}

/** The body of a good answer. Throws CommandError with what the gateway said otherwise. */
function good({ status, body }: AdminAnswer): JsonObject {
  if (status === 200 && isJsonObject(body)) return body;
  const error = isJsonObject(body) && isJsonObject(body.error) ? body.error : null;
  throw new CommandError(
    error === null ? `the gateway answered with status ${status}` : `${String(error.code)}: ${String(error.message)}`,
  );
}

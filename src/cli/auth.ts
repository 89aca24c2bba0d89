/** `portcullis auth`: what a person or a script asks in its own name. Each verb lives in a file of its own. */
import { authLogin } from './auth-login.ts';
import { authLogout, authStatus, authToken } from './auth-session.ts';
import { authValidate } from './auth-validate.ts';
import { EXIT, type Io, UsageError } from './io.ts';

export const AUTH_HELP = `Usage: portcullis auth login [--url URL] [--issuer URL | --provider NAME] [--device]
       portcullis auth login --username NAME [--otp CODE] [--url URL]
       portcullis auth status [--url URL] [--json]
       portcullis auth token [--url URL]
       portcullis auth logout [--url URL | --all]
       portcullis auth validate [--key KEY] [--service URL]

login: at the issuer whose tokens the gateway takes, in a browser on this machine. The
gateway says which issuer that is. The tokens are kept in a file of yours and renewed;
approvals and delegate use them.
  --url URL            the gateway, or one of its routes; default: $PORTCULLIS_URL, or
                       the demo's
  --issuer URL         instead of what the gateway says
  --provider NAME      the issuer of this provider of a configuration (-c FILE)
  --client-id ID       a public client of the issuer that may come back to
                       http://127.0.0.1 with any port; default: makes one there
  --scope WORDS        what to ask for; default: what the gateway says, and to stay
                       logged in
  --resource URL       whom the tokens are for (RFC 8707)
  --device             show a code to enter in a browser on another device
  --no-browser         print the address only
  --assume-pkce        for issuers that know PKCE and do not say so, as Entra ID
  --json               print what is known of the login

login --username: reads the password of an account of the gateway from standard input
and prints its access token; with --json both tokens and what is said of them.

status: lists logins; exit code 1 when there is none.
token: prints an access token that is good now, renewed when needed.
logout: forgets the tokens and ends them at the issuer; --all: of every gateway.
  $PORTCULLIS_CREDENTIALS   the file; default: portcullis/credentials.json below
                            $XDG_CONFIG_HOME or ~/.config

validate: asks a key service whether a key is good. Exit code 0: it is; 1: it is not;
3: nobody can say.
  --key KEY            default: $HOKUSAI_API_KEY, or the file $HOKUSAI_API_KEY_FILE names
  --service URL        default: $HOKUSAI_AUTH_SERVICE_URL
  --profile NAME       a section of ~/.hokusai/config (default: $HOKUSAI_PROFILE)
  --service-id NAME    what the key has to be for (default: ml-platform)
  --allow-unverified   exit 0, with a warning, when nobody can say
  --json               print the answer
`;

type Verb = (argv: readonly string[], io: Io) => Promise<number>;

const VERBS: Readonly<Record<string, Verb>> = {
  login: authLogin,
  status: authStatus,
  token: authToken,
  logout: authLogout,
  validate: authValidate,
};

/** Runs one verb; resolves with the exit code. */
export async function authCommand(argv: readonly string[], io: Io): Promise<number> {
  const [verb, ...rest] = argv;
  if (argv.includes('--help') || argv.includes('-h')) {
    io.out(AUTH_HELP);
    return EXIT.ok;
  }
  const run = verb !== undefined && Object.hasOwn(VERBS, verb) ? VERBS[verb] : undefined;
  if (run === undefined) throw new UsageError(`auth needs one of ${Object.keys(VERBS).join(', ')}`);
  return await run(rest, io);
}

/** `portcullis auth`: what a person or a script asks in its own name. Each verb lives in a file of its own. */
import { authLogin } from './auth-login.ts';
import { authValidate } from './auth-validate.ts';
import { EXIT, type Io, UsageError } from './io.ts';

export const AUTH_HELP = `Usage: portcullis auth validate [--key KEY] [--service URL]
       portcullis auth login --username NAME [--url URL]

validate: asks a key service whether a key is good. Exit code 0: it is; 1: it is not; 3: nobody can say.
  --key KEY            default: $HOKUSAI_API_KEY, or the file $HOKUSAI_API_KEY_FILE names
  --service URL        default: $HOKUSAI_AUTH_SERVICE_URL
  --profile NAME       a section of ~/.hokusai/config (default: $HOKUSAI_PROFILE)
  --service-id NAME    what the key has to be for (default: ml-platform)
  --allow-unverified   exit 0, with a warning, when nobody can say
  --json               print the answer

login: reads the password of an account from standard input and prints its access token.
  --username NAME
  --url URL            the gateway; default: $PORTCULLIS_URL, or the demo's
  --json               print both tokens and what is said of them
`;

type Verb = (argv: readonly string[], io: Io) => Promise<number>;

const VERBS: Readonly<Record<string, Verb>> = { login: authLogin, validate: authValidate };

/** Runs one verb; resolves with the exit code. */
export async function authCommand(argv: readonly string[], io: Io): Promise<number> {
  const [verb, ...rest] = argv;
  if (argv.includes('--help') || argv.includes('-h')) {
    io.out(AUTH_HELP);
    return EXIT.ok;
  }
  const run = verb !== undefined && Object.hasOwn(VERBS, verb) ? VERBS[verb] : undefined;
  if (run === undefined) throw new UsageError(`auth needs ${Object.keys(VERBS).join(' or ')}`);
  return await run(rest, io);
}

/** `portcullis auth validate`: whether a key is good, in the words of a script: exit 0, 1 or 3. Source: acceptance H-07, H-08, HF-19. */
import { Secret } from '../core/secret.ts';
import { CommandError, EXIT, type Io, line, UnreachableError, UsageError } from './io.ts';
import { callKeyService, findKeyService, secretFor } from './key-service-calls.ts';
import { readArguments } from './usual-options.ts';

const OPTIONS = {
  key: { type: 'string' },
  service: { type: 'string' },
  profile: { type: 'string' },
  'service-id': { type: 'string' },
  'allow-unverified': { type: 'boolean' },
  json: { type: 'boolean' },
} as const;

/** Resolves with 0 for a good key and 1 for another. Throws UnreachableError when nobody can say. */
export async function authValidate(argv: readonly string[], io: Io): Promise<number> {
  const { values, positionals } = readArguments(argv, OPTIONS);
  if (positionals.length > 0) throw new UsageError('auth validate takes no argument; name a key with --key');
  const url = findKeyService(values, io);
  if (url === null) throw new UsageError('which service? give --service or set HOKUSAI_AUTH_SERVICE_URL');
  const key = values.key ?? secretFor(values, 'api_key', 'HOKUSAI_API_KEY', io);
  if (key === undefined)
    throw new CommandError('which key? give --key, or set HOKUSAI_API_KEY or HOKUSAI_API_KEY_FILE');
  if (!/^[\w.~+/=-]{1,512}$/.test(key)) throw new CommandError('this cannot be a key');
  try {
    return await ask(url, new Secret(key), values['service-id'] ?? 'ml-platform', values.json === true, io);
  } catch (error) {
    if (!(error instanceof UnreachableError) || values['allow-unverified'] !== true) throw error;
    io.err(`warning: ${error.message}; the key was NOT checked (--allow-unverified)\n`);
    return EXIT.ok;
  }
}

async function ask(url: string, key: Secret, serviceId: string, isJson: boolean, io: Io): Promise<number> {
  const body = { service_id: serviceId };
  const reply = await callKeyService(url, key, 'POST', '/api/v1/keys/validate', io, { body, again: true });
  // An outage says nothing about the key, and neither does an answer that nobody can read.
  const isAnswer =
    reply.status === 200 ? typeof reply.body?.is_valid === 'boolean' : [401, 402, 403].includes(reply.status);
  if (!isAnswer) throw new UnreachableError(`the key service at ${url} cannot say (status ${reply.status})`);
  const isGood = reply.status === 200 && reply.body?.is_valid === true;
  if (isJson) line(io, JSON.stringify(reply.status === 200 ? reply.body : { is_valid: false, status: reply.status }));
  else io.err(isGood ? 'The key is good.\n' : 'The key is not good.\n');
  return isGood ? EXIT.ok : EXIT.failed;
}

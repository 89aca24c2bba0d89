/** What commands take alike, and how their arguments are read. */
import { parseArgs } from 'node:util';
import { suggestion } from '../config/problem.ts';

const HELP = { help: { type: 'boolean', short: 'h' } } as const;

/** Options that commands on a gateway's own files have in common. */
export const USUAL_OPTIONS = {
  config: { type: 'string', short: 'c' },
  json: { type: 'boolean' },
  ...HELP,
} as const;

/** Options of commands that ask a gateway in somebody's own name; `keyedGateway` reads `url` and `key`. */
export const KEYED_OPTIONS = {
  url: { type: 'string' },
  key: { type: 'string' },
  json: { type: 'boolean' },
  ...HELP,
} as const;

type Options = Readonly<
  Record<
    string,
    {
      readonly type: 'string' | 'boolean';
      readonly short?: string;
      readonly multiple?: boolean;
      readonly default?: string;
    }
  >
>;

/** Says in the error of `parseArgs` what was meant; its code stays, for the dispatcher. */
function explained(error: unknown, options: Options): unknown {
  if (!(error instanceof Error) || !('code' in error)) return error;
  const name = /'(?:-\w, )?(--[^' =]+)/.exec(error.message)?.[1];
  if (name === undefined) return error;
  if (error.code === 'ERR_PARSE_ARGS_UNKNOWN_OPTION') {
    const known = Object.keys(options).map((option) => `--${option}`);
    error.message = `Unknown option '${name}'${suggestion(name, known)}`;
  } else if (error.message.includes('ambiguous')) {
    error.message = `${name} needs a value; write ${name}=-… for one that begins with a dash`;
  }
  return error;
}

/** Options and arguments in any order. Throws for an unknown option or one without its value; the dispatcher says it. */
export function readArguments<const T extends Options>(argv: readonly string[], options: T) {
  try {
    return parseArgs({ args: [...argv], options, allowPositionals: true });
  } catch (error) {
    throw explained(error, options);
  }
}

/** The same for commands that take options alone. */
export function readOptions<const T extends Options>(argv: readonly string[], options: T) {
  try {
    return parseArgs({ args: [...argv], options, allowPositionals: false }).values;
  } catch (error) {
    throw explained(error, options);
  }
}

/** What commands take alike, and how their arguments are read. */
import { parseArgs } from 'node:util';

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

/** Options and arguments in any order. Throws for an unknown option or one without its value; the dispatcher says it. */
export function readArguments<const T extends Options>(argv: readonly string[], options: T) {
  return parseArgs({ args: [...argv], options, allowPositionals: true });
}

/** The same for commands that take options alone. */
export function readOptions<const T extends Options>(argv: readonly string[], options: T) {
  return parseArgs({ args: [...argv], options, allowPositionals: false }).values;
}

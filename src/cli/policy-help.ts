/** The help of `portcullis policy`: of all its commands, or of one. Source: contracts 5. */

interface Verb {
  readonly usage: readonly string[];
  /** What it does, in lines of at most 76 characters. */
  readonly text: string;
  readonly exits: string;
}

const REMOTE = '[-c FILE] [--url URL] [--json]';
/** The second line of a usage: how a signed bundle is read. */
const SIGNED = '           [--key FILE [--signing-alg ALG] [--keyid ID] [--scope SCOPE]]';
const NO_GATEWAY = '3 no gateway answers';

const VERBS: Readonly<Record<string, Verb>> = {
  build: {
    usage: [
      '[DIR] [--out DIR] [--bundle FILE [--revision NAME] [--sequence N]',
      '           [--signing-key FILE [--signing-alg ALG] [--keyid ID] [--scope SCOPE]]] [--json]',
    ],
    text: `compiles the .rego files of DIR (default: ./policies where there is one,
else the product's own) to DIR/bundle; --bundle also writes an archive
for a bundle service, signed with the private key of --signing-key (--signing-alg:
RS256 unless named, for verify as well); gateways do not go back to a bundle
with a smaller --sequence (default: the time in milliseconds)`,
    exits: '0 compiled, 1 the policies or the key are at fault, or there is no compiler',
  },
  verify: {
    usage: ['FILE [--key FILE [--signing-alg ALG] [--keyid ID] [--scope SCOPE]] [--json]'],
    text: 'opens a bundle archive as the gateway would, with the public key of --key',
    exits: '0 it would be taken, 1 it would be refused',
  },
  delta: {
    usage: [
      '--from FILE --to FILE --out FILE [--revision NAME] [--sequence N] [--key FILE]',
      '           [--signing-key FILE [--signing-alg ALG] [--keyid ID] [--scope SCOPE]] [--json]',
    ],
    text: `writes the changes of data from one bundle archive to another as a delta for a
bundle service; signed bundles are read with the public key of --key`,
    exits: '0 written, 1 they differ in more than data, or not at all, or a key is at fault',
  },
  check: {
    usage: ['[DIR] [-c FILE] [--json]'],
    text: `compiles without writing, against the schema of the input, and says
what is fragile: file:line:column, severity, code, what to do; with the
configuration that uses it (or -c), which entrypoint decides on each route`,
    exits: '0 no errors (there may be warnings), 1 errors, or there is no compiler',
  },
  test: {
    usage: ['[DIR] [--engine both|opa|wasm] [--coverage [--threshold PERCENT]] [--json]'],
    text: `runs the *_test.rego of DIR, as opa test does and again compiled, in the
host that decides in the gateway (--engine: one alone); --coverage says
which lines of the rules they do not reach`,
    exits: '0 all passed, 1 one failed, there are none, or less than --threshold is covered',
  },
  eval: {
    usage: [
      '[ENTRYPOINT] [FILE] [--jsonl FILE] [--data FILE] [--bundle DIR|FILE] [--clock TIME]',
      '           [--profile [--repeat N] [--json]]',
      SIGNED,
    ],
    text: `evaluates ENTRYPOINT (default: portcullis/main/decision) on the JSON
of FILE or standard input: a document or {"input": …, "clock": "…"};
--jsonl takes one per line; --clock (RFC 3339) sets the time; --profile
says on standard error which rules cost what over all documents`,
    exits: '0 there is a value, also when it is a deny, 1 there is none',
  },
  bench: {
    usage: ['[ENTRYPOINT] [FILE] [--data FILE] [--bundle DIR|FILE] [--seconds N] [--json]', SIGNED],
    text: `microseconds of one decision, decided and remembered, on the JSON of
FILE or a tool call of its own`,
    exits: '0 measured, 1 the policy does not load',
  },
  replay: {
    usage: [
      'LOG [--bundle DIR|FILE] [--data FILE] [--sample N]',
      '           [--jobs N | --profile [--repeat N]] [--json]',
      SIGNED,
    ],
    text: `decides what is in a decision log (JSON lines, or OPA's JSON arrays,
plain or gzip) again with the policy of --bundle, each event at its
own time, and says what changes, with the rules of the candidate that
changed it; a signed bundle is read with the public key of --key;
--sample takes one event in N, --jobs reads with N threads; --profile
says instead which rules cost what over these events, and which lines
they reach (times of the plan's interpreter, the median of --repeat runs
of each event, default 3)`,
    exits: '0 nothing changes (with --profile: profiled), 1 something does, or nothing could be decided again',
  },
  reload: {
    usage: [REMOTE],
    text: `makes a running gateway load its policy again, and says what is in force;
-c names the configuration with its address and token (default: that of
$PORTCULLIS_CONFIG, where no address is named)`,
    exits: `0 loaded, 1 not activated (the policy before stays), ${NO_GATEWAY}`,
  },
  rollback: {
    usage: [REMOTE],
    text: `makes a running gateway return to the policy before at once; what
was taken back stays out until there is another, or reload is asked for`,
    exits: `0 taken back, 1 it was already, or there is none before, ${NO_GATEWAY}`,
  },
  status: {
    usage: [REMOTE],
    text: 'shows the policy in force, where it comes from and how it does',
    exits: `0 answered, also where no policy is in force, 1 refused, ${NO_GATEWAY}`,
  },
  shadow: {
    usage: [REMOTE],
    text: 'shows where the candidate of policy.shadow decides otherwise',
    exits: `0 answered, also where there are differences, 1 there is no candidate, ${NO_GATEWAY}`,
  },
};

/** What can be asked for, in the order of the help. */
export const POLICY_VERBS: readonly string[] = Object.keys(VERBS);

const NEEDS = `build, check and test need a compiler: opa of the pinned version on PATH or in
$OPA_BIN, or Go. Everything else needs Node alone. All take --json.
`;
const COMMON_EXITS = '2 wrong usage, 3 a file that is named is not there';

const indented = (text: string, by: number): string => text.replaceAll('\n', `\n${' '.repeat(by)}`);
const usageOf = (name: string, { usage }: Verb, lead: string): string =>
  `${lead}portcullis policy ${name} ${usage.join('\n')}\n`;

/** The help of one command, or of all of them where it is none. */
export function policyHelp(name: string | undefined): string {
  const verb = name !== undefined && Object.hasOwn(VERBS, name) ? VERBS[name] : undefined;
  if (name === undefined || verb === undefined) return helpOfAll();
  const needs = ['build', 'check', 'test'].includes(name)
    ? '\nNeeds a compiler: opa of the pinned version on PATH or in $OPA_BIN, or Go.\n'
    : '';
  const codes = verb.exits.includes(NO_GATEWAY) ? '2 wrong usage' : COMMON_EXITS;
  return `${usageOf(name, verb, 'Usage: ')}\n${verb.text}\n${needs}\nExit codes: ${verb.exits}; ${codes}.\n`;
}

function helpOfAll(): string {
  const verbs = Object.entries(VERBS);
  const usages = verbs.map(([name, verb], at) => usageOf(name, verb, at === 0 ? 'Usage: ' : '       ')).join('');
  const texts = verbs.map(([name, { text }]) => `  ${name.padEnd(8)}  ${indented(text, 12)}\n`).join('');
  const exits = verbs.map(([name, verb]) => `  ${name.padEnd(8)}  ${verb.exits}\n`).join('');
  return `${usages}\n${texts}\n${NEEDS}\nExit codes; of all: ${COMMON_EXITS}\n${exits}`;
}

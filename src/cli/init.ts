/** `portcullis init`: a first configuration for one server, ready to serve. Overwrites nothing. */
import { randomBytes } from 'node:crypto';
import { cpSync, existsSync, writeFileSync } from 'node:fs';
import { join, relative, resolve } from 'node:path';
import { makeDirectory } from '../config/directories.ts';
import { loadConfigText } from '../config/load.ts';
import { suggestion } from '../config/problem.ts';
import { SERVER_TYPES } from '../core/call.ts';
import { IDENTITY_SCHEMA } from '../modules.ts';
import { clientSettings } from './client-settings.ts';
import { CommandError, EXIT, type Io, line, UsageError } from './io.ts';
import { readArguments } from './usual-options.ts';

export const INIT_HELP = `Usage: portcullis init [DIR] --server-url URL [options]

Writes DIR/portcullis.yaml, DIR/admin.token (mode 0600) and DIR/policies, and
prints what to put into the settings of common clients. Overwrites nothing.

  --server-url URL     the MCP endpoint to protect, e.g. http://127.0.0.1:7001/mcp
  --server-name NAME   default: tools
  --type TYPE          ${SERVER_TYPES.join(', ')} (default custom)
  --dialect DIALECT    of a sql server, e.g. sqlite (default postgres)
  --environment NAME   where the server's data lives, e.g. production
  --model-url URL      also protect an OpenAI-compatible API, e.g. http://127.0.0.1:7003/v1
  --model-name NAME    default: local
  --port PORT          of the data listener (default 8080)
  --admin-port PORT    of the administration listener (default 9090)
  --json               print JSON
`;

const OPTIONS = {
  'server-url': { type: 'string' },
  'server-name': { type: 'string', default: 'tools' },
  type: { type: 'string', default: 'custom' },
  dialect: { type: 'string' },
  environment: { type: 'string' },
  'model-url': { type: 'string' },
  'model-name': { type: 'string', default: 'local' },
  port: { type: 'string', default: '8080' },
  'admin-port': { type: 'string', default: '9090' },
  json: { type: 'boolean' },
  help: { type: 'boolean', short: 'h' },
} as const;

const PACKAGED_POLICIES = resolve(import.meta.dirname, '../../policies');
/** JSON strings are YAML strings: no value can break out of its quotes. */
const quoted = (text: string): string => JSON.stringify(text);

interface Answers {
  readonly serverUrl: string;
  readonly serverName: string;
  readonly type: string;
  readonly dialect: string | undefined;
  readonly environment: string | undefined;
  readonly modelUrl: string | undefined;
  readonly modelName: string;
  readonly port: string;
  readonly adminPort: string;
}

function serverLines(answers: Answers): string {
  const rows = [`type: ${quoted(answers.type)}`];
  if (answers.type === 'sql') rows.push(`dialect: ${quoted(answers.dialect ?? 'postgres')}`);
  rows.push(`url: ${quoted(answers.serverUrl)}`);
  if (answers.environment !== undefined) rows.push(`environment: ${quoted(answers.environment)}`);
  return rows.map((row) => `    ${row}`).join('\n');
}

function modelLines({ modelUrl, modelName }: Answers): { models: string; route: string } {
  if (modelUrl === undefined) return { models: '', route: '' };
  const models = `
models:
  ${quoted(modelName)}:
    url: ${quoted(modelUrl)}
    # The provider's key; callers never see it.
    # credential: "\${env:MODEL_KEY}"
`;
  return { models, route: `  - { match: "/v1", protocol: llm, model: ${quoted(modelName)}, identity: [keys] }\n` };
}

/** The commented configuration. Exported for the test that loads it. */
export function initialConfig(answers: Answers): string {
  const { models, route } = modelLines(answers);
  return `# Check it with "portcullis config check"; every setting is in docs/settings.md.
version: 1

# production refuses plain HTTP outside loopback, weak secrets and a test clock.
mode: development

listen:
  data: "127.0.0.1:${answers.port}"
  admin:
    address: "127.0.0.1:${answers.adminPort}"
    token: "\${file:./admin.token}"

# Who may call. Make a key: portcullis keys create --name me --role developer
identity:
  keys: { kind: api-key }

servers:
  ${quoted(answers.serverName)}:
${serverLines(answers)}
    # The gateway's own credential for the server; the caller's never reaches it.
    # credential: "\${env:SERVER_TOKEN}"
    # What cannot be classified is custom/high. Say what you know of such tools:
    # tools:
    #   echo: { type: query, sensitivity: low }
${models}
routes:
  - { match: ${quoted(`/mcp/${answers.serverName}`)}, protocol: mcp, server: ${quoted(answers.serverName)}, identity: [keys] }
${route}  # The same tools over plain HTTP: GET /tools, POST /tools/invoke
  - { match: "/tools", protocol: tools, identity: [keys] }

# Your copy of the policy. For production look at policies/profiles/strict.json.
policy: { bundle: ./policies }

audit: { file: ./audit.jsonl }
`;
}

function answersFrom(values: Record<string, string | boolean | undefined>): Answers {
  const text = (name: string) => (typeof values[name] === 'string' ? values[name] : undefined);
  const serverUrl = text('server-url');
  if (serverUrl === undefined) throw new UsageError('--server-url is needed');
  for (const name of ['port', 'admin-port']) {
    if (!/^\d{1,5}$/.test(text(name) ?? '')) throw new UsageError(`--${name} takes a port number`);
  }
  for (const name of ['server-name', 'model-name']) {
    if (!/^[A-Za-z0-9][\w.-]{0,63}$/.test(text(name) ?? ''))
      throw new UsageError(`--${name} is letters, digits, "_", "." and "-"`);
  }
  const type = text('type') ?? 'custom';
  if (!(SERVER_TYPES as readonly string[]).includes(type)) {
    throw new UsageError(`--type is one of ${SERVER_TYPES.join(', ')}${suggestion(type, SERVER_TYPES)}`);
  }
  return {
    serverUrl,
    serverName: text('server-name') ?? 'tools',
    type,
    dialect: text('dialect'),
    environment: text('environment'),
    modelUrl: text('model-url'),
    modelName: text('model-name') ?? 'local',
    port: text('port') ?? '8080',
    adminPort: text('admin-port') ?? '9090',
  };
}

/** Writes with `wx`, so that not even a race overwrites. */
function writeNew(file: string, text: string, mode: number): void {
  try {
    writeFileSync(file, text, { flag: 'wx', mode });
  } catch (error) {
    const code = error instanceof Error && 'code' in error ? String(error.code) : 'unknown error';
    throw new CommandError(
      code === 'EEXIST' ? `${file} exists; nothing is overwritten` : `cannot write ${file}: ${code}`,
    );
  }
}

function writeAll(directory: string, text: string): string[] {
  const config = join(directory, 'portcullis.yaml');
  const token = join(directory, 'admin.token');
  const policies = join(directory, 'policies');
  for (const file of [config, token]) {
    if (existsSync(file)) throw new CommandError(`${file} exists; nothing is overwritten`);
  }
  makeDirectory(directory);
  writeNew(token, `${randomBytes(32).toString('base64url')}\n`, 0o600);
  writeNew(config, text, 0o644);
  if (!existsSync(policies) && existsSync(PACKAGED_POLICIES)) cpSync(PACKAGED_POLICIES, policies, { recursive: true });
  return [config, token, ...(existsSync(policies) ? [policies] : [])];
}

/** Refuses answers that would not load, naming the option rather than a line of a file that does not exist yet. */
function refuseBad(text: string): void {
  const env = {};
  const trial = text.replace(`"\${file:./admin.token}"`, quoted(randomBytes(32).toString('base64url')));
  const loaded = loadConfigText(trial, 'portcullis.yaml', { env, providers: IDENTITY_SCHEMA });
  const [first] = loaded.problems;
  if (first !== undefined) throw new UsageError(`${first.path}: ${first.message}`);
}

export async function initCommand(argv: readonly string[], io: Io): Promise<number> {
  const { values, positionals } = readArguments(argv, OPTIONS);
  if (values.help === true) {
    io.out(INIT_HELP);
    return EXIT.ok;
  }
  if (positionals.length > 1) throw new UsageError(`unexpected argument ${positionals[1]}`);
  const answers = answersFrom(values);
  const text = initialConfig(answers);
  refuseBad(text);
  const directory = resolve(io.cwd, positionals[0] ?? '.');
  const files = writeAll(directory, text);
  const base = `http://127.0.0.1:${answers.port}`;
  const clients = clientSettings({
    server: answers.serverName,
    mcpUrl: `${base}/mcp/${answers.serverName}`,
    llmUrl: answers.modelUrl === undefined ? null : `${base}/v1`,
  });
  if (values.json === true) line(io, JSON.stringify({ files, gateway: base, clients }));
  else for (const { client, where, text: setting } of clients) io.out(`# ${client} (${where})\n${setting}\n\n`);
  const config = relative(io.cwd, join(directory, 'portcullis.yaml'));
  // In a clone the program is not on the PATH.
  const command = io.env.npm_lifecycle_event === 'portcullis' ? 'npm run -s portcullis --' : 'portcullis';
  io.err(`Wrote ${files.map((file) => relative(io.cwd, file)).join(', ')}.
Next:
  ${command} keys create --name me --role developer -c ${config}
  ${command} serve -c ${config}
`);
  return EXIT.ok;
}

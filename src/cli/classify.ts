/** `portcullis classify`: the class of a tool call, by the same registry the gateway uses. Source: contracts 5, acceptance S-14, S-23. */
import { existsSync } from 'node:fs';
import { z } from 'zod';
import type { ServerFacts } from '../classification/classifier.ts';
import { SQL_DIALECTS, sqlDialect } from '../classification/classifiers/sql.ts';
import type { OpenClassificationRegistry } from '../classification/registry.ts';
import { createClassificationRegistry } from '../classification/registry.ts';
import { serverFacts } from '../composition/routes.ts';
import type { Config } from '../config/schema.ts';
import type { Call, Classification } from '../core/call.ts';
import { SENSITIVITIES } from '../core/call.ts';
import { toGatewayError } from '../core/errors.ts';
import type { JsonObject, JsonValue } from '../core/json.ts';
import { isJsonObject } from '../core/json.ts';
import type { Logger } from '../core/module.ts';
import { parseStrict } from '../protocols/json.ts';
import { configFile, requireConfig } from './config-file.ts';
import { linesOf, openInput } from './input-file.ts';
import { EXIT, type Io, line, UsageError } from './io.ts';
import { readOptions, USUAL_OPTIONS } from './usual-options.ts';

export const CLASSIFY_HELP = `Usage: portcullis classify --server-type TYPE [--tool NAME] [--dialect D] [--param K=V]…
       portcullis classify --jsonl FILE

Says how dangerous a tool call is, and why. A read exits with 0, as everything else does: the class is the answer.

  --server-type TYPE   sql, api, file, k8s, custom or a type of the configuration's rules
  --tool NAME          default: query for sql, otherwise none
  --dialect D          of sql (default postgres): ${[...SQL_DIALECTS].join(' ')}
  --param K=V          an argument; V is JSON where it parses as an object, list or null, otherwise text
  --server NAME        a server of the configuration; gives type, dialect, environment and floors
  --environment E      environment of the server
  --list               classify without arguments, as tools/list does
  --jsonl FILE         one call per line ("-": standard input):
                       {server_type, tool_name, parameters, dialect?, server?, annotations?}
  -c, --config FILE    for server names, rules and sensitive names
  --json               print JSON
`;

const OPTIONS = {
  ...USUAL_OPTIONS,
  'server-type': { type: 'string' },
  tool: { type: 'string' },
  dialect: { type: 'string' },
  param: { type: 'string', multiple: true },
  server: { type: 'string' },
  environment: { type: 'string' },
  list: { type: 'boolean' },
  jsonl: { type: 'string' },
} as const;

const parse = (argv: readonly string[]) => readOptions(argv, OPTIONS);
type Values = ReturnType<typeof parse>;

const sensitivity = z.enum(SENSITIVITIES);
const tool = z.looseObject({
  type: z.string().optional(),
  sensitivity: sensitivity.optional(),
  floor: sensitivity.optional(),
});
/** An inline server: the parts of a configured one that matter here; others are let through unread. */
const inlineServer = z.looseObject({
  name: z.string().optional(),
  type: z.string().optional(),
  server_type: z.string().optional(),
  dialect: z.string().nullish(),
  environment: z.string().nullish(),
  sensitivity_level: sensitivity.nullish(),
  sensitivity_floor: sensitivity.nullish(),
  tools: z.record(z.string(), tool).optional(),
});
const request = z.strictObject({
  server_type: z.string().min(1).optional(),
  tool_name: z.string().optional(),
  parameters: z.custom<JsonObject>(isJsonObject, 'expected an object').nullish(),
  dialect: z.string().nullish(),
  server: z.union([z.string(), inlineServer]).nullish(),
  annotations: z.custom<JsonObject>(isJsonObject, 'expected an object').nullish(),
});
type Request = z.output<typeof request>;

class Refused extends Error {
  override readonly name = 'Refused';
}

const SILENT: Logger = { debug() {}, info() {}, warn() {}, error() {} };

interface Context {
  readonly registry: OpenClassificationRegistry;
  readonly config: Config | null;
}

async function openContext(values: Values, io: Io): Promise<Context> {
  const file = configFile(values.config, io);
  const wanted = values.config !== undefined || existsSync(file);
  const config = wanted ? (await requireConfig(file, io)).config : null;
  const registry = createClassificationRegistry({
    sensitiveResources: config?.classification.sensitive_resources ?? ['users', 'credentials', 'secrets', 'keys'],
    rules: config?.classification.rules ?? [],
    logger: SILENT,
  });
  return { registry, config };
}

function configured(name: string, config: Config | null): ServerFacts {
  const found = config !== null && Object.hasOwn(config.servers, name) ? config.servers[name] : undefined;
  if (found === undefined) throw new Refused(`no server of this name is configured: ${JSON.stringify(name)}`);
  return serverFacts(name, found);
}

/** The server a request speaks of: a configured one, or one made of what the request says. */
function serverOf(asked: Request, config: Config | null, fallback: string | undefined): ServerFacts {
  const named = typeof asked.server === 'string' ? configured(asked.server, config) : null;
  const inline = typeof asked.server === 'string' ? null : (asked.server ?? null);
  const type = named?.type ?? asked.server_type ?? inline?.type ?? inline?.server_type ?? fallback;
  if (type === undefined) throw new Refused('server_type is missing');
  if (named !== null && asked.server_type !== undefined && asked.server_type !== named.type)
    throw new Refused(`server ${named.name} is of type ${named.type}, not ${asked.server_type}`);
  return {
    name: named?.name ?? inline?.name ?? '',
    type,
    dialect: asked.dialect ?? named?.dialect ?? inline?.dialect ?? null,
    environment: named?.environment ?? inline?.environment ?? null,
    region: null,
    data_region: null,
    tags: [],
    owner_team: null,
    enabled: true,
    description: null,
    sensitivity_level: named?.sensitivity_level ?? inline?.sensitivity_level ?? null,
    sensitivity_floor: named?.sensitivity_floor ?? inline?.sensitivity_floor ?? null,
    tools: named?.tools ?? inline?.tools ?? {},
    allow: [],
  };
}

/** @param fallback type of servers about which the request says nothing */
async function classify(asked: Request, { registry, config }: Context, fallback?: string): Promise<Classification> {
  const server = serverOf(asked, config, fallback);
  if (server.type === 'sql') await registry.prepare([sqlDialect(server.dialect)]);
  const toolName = asked.tool_name ?? '';
  const call: Call = {
    action: asked.parameters === null ? 'gateway:tool:discover' : 'gateway:tool:invoke',
    server: server.name === '' ? null : server.name,
    tool: toolName,
    parameters: asked.parameters === undefined ? {} : asked.parameters,
    annotations: asked.annotations ?? null,
    schema_hash: null,
    resource: { type: 'tool', id: `${server.name}:${toolName}`, tenant_id: null, owner_id: null, permissions: null },
    llm: null,
  };
  return registry.classify(call, server);
}

function answer(found: Classification): string {
  const { tool_type, sensitivity_level, reasons, resources } = found;
  return JSON.stringify({ tool_type, sensitivity_level, reasons, resources });
}

function problemOf(thrown: unknown): { code: string; message: string } {
  if (thrown instanceof Refused) return { code: 'INVALID_REQUEST', message: thrown.message };
  if (thrown instanceof z.ZodError) {
    const [issue] = thrown.issues;
    const where = issue?.path.join('.') ?? '';
    return { code: 'INVALID_REQUEST', message: where === '' ? (issue?.message ?? '') : `${where}: ${issue?.message}` };
  }
  const error = toGatewayError(thrown);
  return { code: error.code, message: error.message };
}

/** One answer per line, in order; a bad line is answered with its number and the rest goes on. */
async function classifyLines(file: string, fallback: string | undefined, context: Context, io: Io): Promise<number> {
  let number = 0;
  let bad = 0;
  for await (const text of linesOf(openInput(file, io))) {
    number++;
    if (text.toString().trim() === '') continue;
    try {
      const asked = request.parse(parseStrict(text));
      line(io, answer(await classify(asked, context, fallback)));
    } catch (thrown) {
      bad++;
      line(io, JSON.stringify({ line: number, error: problemOf(thrown) }));
    }
  }
  return bad === 0 ? EXIT.ok : EXIT.failed;
}

function parameterValue(text: string): JsonValue {
  if (!/^\s*(?:[[{]|null\s*$)/.test(text)) return text;
  try {
    return parseStrict(Buffer.from(text));
  } catch {
    return text;
  }
}

function parametersOf(values: Values): JsonObject | null {
  if (values.list === true) return null;
  const entries = (values.param ?? []).map((pair): [string, JsonValue] => {
    const at = pair.indexOf('=');
    if (at < 1) throw new UsageError(`--param takes NAME=VALUE, got ${JSON.stringify(pair)}`);
    return [pair.slice(0, at), parameterValue(pair.slice(at + 1))];
  });
  const parameters: Record<string, JsonValue> = Object.create(null) as Record<string, JsonValue>;
  for (const [name, value] of entries) parameters[name] = value;
  return parameters;
}

function requestOf(values: Values, config: Config | null): Request {
  const server = values.server === undefined ? null : configured(values.server, config);
  const type = server?.type ?? values['server-type'];
  const dialect = values.dialect;
  if (dialect !== undefined && !SQL_DIALECTS.has(sqlDialect(dialect)))
    throw new UsageError(`unknown dialect ${dialect}`);
  return {
    server_type: type,
    tool_name: values.tool ?? (type === 'sql' ? 'query' : ''),
    parameters: parametersOf(values),
    dialect,
    server: values.server ?? (values.environment === undefined ? null : { environment: values.environment }),
    annotations: null,
  };
}

/** The command. Exit 0: classified; 1: some line could not be read; 2: usage; 3: no such file. */
export async function classifyCommand(argv: readonly string[], io: Io): Promise<number> {
  const values = parse(argv);
  if (values.help === true) {
    io.out(CLASSIFY_HELP);
    return EXIT.ok;
  }
  if (values.jsonl === undefined && values['server-type'] === undefined && values.server === undefined)
    throw new UsageError('--server-type, --server or --jsonl is needed');
  const context = await openContext(values, io);
  if (values.jsonl !== undefined) return classifyLines(values.jsonl, values['server-type'], context, io);
  let found: Classification;
  try {
    found = await classify(requestOf(values, context.config), context);
  } catch (thrown) {
    if (thrown instanceof Refused) throw new UsageError(thrown.message);
    throw thrown;
  }
  if (values.json === true) line(io, answer(found));
  else {
    line(io, `${found.tool_type} ${found.sensitivity_level}`);
    for (const reason of found.reasons) line(io, `  reason    ${reason}`);
    for (const resource of found.resources) line(io, `  resource  ${resource}`);
  }
  return EXIT.ok;
}

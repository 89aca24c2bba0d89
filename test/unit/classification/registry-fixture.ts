import type { ServerFacts } from '../../../src/classification/classifier.ts';
import type { OpenClassificationRegistry, RegistryOptions } from '../../../src/classification/registry.ts';
import { createClassificationRegistry } from '../../../src/classification/registry.ts';
import type { Call, Classification } from '../../../src/core/call.ts';
import type { JsonObject } from '../../../src/core/json.ts';
import type { Logger } from '../../../src/core/module.ts';

export interface LoggedEvent {
  readonly level: 'debug' | 'info' | 'warn' | 'error';
  readonly fields: Readonly<Record<string, unknown>>;
}

/** A logger that keeps what it is told. */
export function recordingLogger(events: LoggedEvent[]): Logger {
  const at = (level: LoggedEvent['level']) => (fields: object) => {
    events.push({ level, fields: fields as Record<string, unknown> });
  };
  return { debug: at('debug'), info: at('info'), warn: at('warn'), error: at('error') };
}

export function makeRegistry(options: Partial<RegistryOptions> = {}): OpenClassificationRegistry {
  return createClassificationRegistry({
    sensitiveResources: ['users', 'credentials', 'secrets', 'keys'],
    rules: [],
    logger: recordingLogger([]),
    ...options,
  });
}

export function makeServer(facts: Partial<ServerFacts> = {}): ServerFacts {
  return {
    name: 'srv',
    type: 'sql',
    dialect: null,
    environment: null,
    region: null,
    data_region: null,
    tags: [],
    owner_team: null,
    enabled: true,
    description: null,
    sensitivity_level: null,
    sensitivity_floor: null,
    tools: {},
    allow: [],
    ...facts,
  };
}

export function makeCall(tool: string, parameters: unknown, extra: Partial<Call> = {}): Call {
  return {
    action: parameters === null ? 'gateway:tool:discover' : 'gateway:tool:invoke',
    server: 'srv',
    tool,
    parameters: parameters as JsonObject | null,
    annotations: null,
    schema_hash: null,
    resource: { type: 'tool', id: `srv:${tool}`, tenant_id: null, owner_id: null, permissions: null },
    llm: null,
    ...extra,
  };
}

/** `type/level`, the way the tables spell it. */
export function spell(found: Classification): string {
  return `${found.tool_type}/${found.sensitivity_level}`;
}

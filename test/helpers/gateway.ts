/** A gateway in this process, from a configuration as a person writes it to open listeners, with everything it wrote at hand. */
import { watch } from 'node:fs';
import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { AuditEvent } from '../../src/audit/event.ts';
import { loadConfigText } from '../../src/config/load.ts';
import type { Config, ConfigInput } from '../../src/config/schema.ts';
import type { Gateway, GatewayOptions } from '../../src/gateway.ts';
import { createGateway } from '../../src/gateway.ts';
import type { KeyRequest } from '../../src/identity/key-issuing.ts';
import { IDENTITY_SCHEMA } from '../../src/modules.ts';
import { ROOT, temporaryDirectory } from './processes.ts';

export const POLICIES = join(ROOT, 'policies');
export const ADMIN_TOKEN = 'scenario-admin-token-7Qw3rTz9KpL2xV8n';

export type PartialConfig = Omit<ConfigInput, 'version'>;

export interface TestGateway extends AsyncDisposable {
  readonly gateway: Gateway;
  /** Base URL of the data listener. */
  readonly url: string;
  readonly admin: string;
  /** Directory of the configuration, the database, the audit file and the decision log. */
  readonly home: string;
  readonly logs: readonly string[];
  /** A key whose principal has this role and is called like it. */
  key(role: string, facts?: Partial<KeyRequest>): Promise<string>;
  reload(config: PartialConfig): Promise<void>;
  /** Resolves with the `count`th line of the log that matches, as soon as it is there. */
  logged(pattern: RegExp, count?: number): Promise<string>;
  /** Events written so far. After `stop` these are all there will ever be. */
  audit(): Promise<AuditEvent[]>;
  /** Waits until the audit file has what is looked for; events are written within 50 ms. */
  audited(found: (events: readonly AuditEvent[]) => boolean): Promise<AuditEvent[]>;
  /** Lines of the decision log. */
  decisions(): Promise<string>;
  /** Drains and closes; the files stay until the end of the scope. */
  stop(): Promise<void>;
}

/** A checked configuration with what every scenario needs filled in; problems are thrown as an operator would read them. */
export function scenarioConfig(partial: PartialConfig, home: string): Config {
  const text = JSON.stringify(scenarioInput(partial), null, 2);
  const loaded = loadConfigText(text, join(home, 'portcullis.yaml'), { env: {}, providers: IDENTITY_SCHEMA });
  if (loaded.config === null) throw new Error(loaded.problems.map((problem) => problem.text).join('\n'));
  return loaded.config;
}

/** The same as text: JSON is YAML. */
export function scenarioInput(partial: PartialConfig): ConfigInput {
  return {
    version: 1,
    listen: { data: '127.0.0.1:0', admin: { address: '127.0.0.1:0', token: ADMIN_TOKEN } },
    identity: { keys: { kind: 'api-key' } },
    // No proxy has to notice that a gateway of a test stops: it need not wait long before it closes its listener.
    limits: { drain_ms: 400 },
    policy: { bundle: POLICIES, watch: false, decision_log: { file: './decisions.jsonl' } },
    stores: { database: 'sqlite:./portcullis.db' },
    audit: { file: './audit.jsonl' },
    ...partial,
  };
}

/** `clock`: the time the gateway believes in. */
export async function startGateway(
  partial: PartialConfig = {},
  options: Pick<GatewayOptions, 'clock' | 'storage'> = {},
): Promise<TestGateway> {
  const directory = temporaryDirectory();
  const home = directory.path;
  const logs: string[] = [];
  const listeners = new Set<() => void>();
  const writeLog = (line: string) => {
    logs.push(line);
    for (const listener of listeners) listener();
  };
  const gateway = await createGateway(scenarioConfig(partial, home), { baseDir: home, writeLog, ...options });
  await gateway.start();
  const auditFile = join(home, 'audit.jsonl');
  const audit = () => readEvents(auditFile);
  return {
    gateway,
    url: gateway.urls.data,
    admin: gateway.urls.admin,
    home,
    logs,
    key: (role, facts = {}) =>
      gateway.keys.create({ name: role, tenant_id: 'default', owner_id: `user-${role}`, roles: [role], ...facts }),
    reload: (next) => gateway.reload(scenarioConfig(next, home)),
    logged(pattern, count = 1) {
      return new Promise((done) => {
        const look = () => {
          const line = logs.filter((text) => pattern.test(text))[count - 1];
          if (line === undefined) return;
          listeners.delete(look);
          done(line);
        };
        listeners.add(look);
        look();
      });
    },
    audit,
    audited: (found) => untilFile(auditFile, audit, found),
    decisions: () => readFile(join(home, 'decisions.jsonl'), 'utf8').catch(() => ''),
    stop: () => gateway.close(),
    async [Symbol.asyncDispose]() {
      await gateway.close();
      directory[Symbol.dispose]();
    },
  };
}

/** Whole lines only: the last one may be under way. */
async function readEvents(file: string): Promise<AuditEvent[]> {
  const text = await readFile(file, 'utf8');
  return text
    .slice(0, text.lastIndexOf('\n') + 1)
    .split('\n')
    .filter((line) => line !== '')
    .map((line) => JSON.parse(line) as AuditEvent);
}

/** Reads again at every change of the file until it has what is looked for. */
async function untilFile<T>(file: string, read: () => Promise<T>, found: (value: T) => boolean): Promise<T> {
  const { promise, resolve, reject } = Promise.withResolvers<T>();
  const look = () => {
    read().then((value) => {
      if (found(value)) resolve(value);
    }, reject);
  };
  const watcher = watch(file, look);
  look();
  try {
    return await promise;
  } finally {
    watcher.close();
  }
}

/** Events that stand for the end of a request, as opposed to what accompanies one. */
export function leading(events: readonly AuditEvent[]): AuditEvent[] {
  const accompanies = (type: string) =>
    type === 'policy_violation' || type === 'admin_action' || type.startsWith('approval_');
  return events.filter(({ event_type }) => !accompanies(event_type));
}

/** A configuration file for a gateway that runs as a process. */
export async function writeConfig(home: string, partial: PartialConfig): Promise<string> {
  const file = join(home, 'portcullis.yaml');
  await writeFile(file, JSON.stringify(scenarioInput(partial), null, 2));
  return file;
}

/** The default policy data without a rate limit, for scenarios under load. */
export async function dataWithoutLimits(): Promise<string> {
  const data = JSON.parse(await readFile(join(POLICIES, 'data.json'), 'utf8')) as { config: { rate_limits: object } };
  data.config.rate_limits = { default: 1_000_000_000, roles: {} };
  return JSON.stringify(data);
}

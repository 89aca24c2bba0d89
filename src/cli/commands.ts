/** Every command: what it is for and where it lives. Imported when called, so that `--help` starts nothing. */
import type { Io } from './io.ts';

export type Run = (argv: readonly string[], io: Io) => Promise<number>;

export interface Command {
  readonly name: string;
  readonly summary: string;
  load(): Promise<Run>;
}

export const COMMANDS: readonly Command[] = [
  {
    name: 'serve',
    summary: 'run the gateway with a configuration',
    load: async () => (await import('./serve.ts')).serveCommand,
  },
  {
    name: 'demo',
    summary: 'run a gateway with example servers, on loopback',
    load: async () => (await import('./demo.ts')).demoCommand,
  },
  {
    name: 'init',
    summary: 'write a first configuration for a server of yours',
    load: async () => (await import('./init.ts')).initCommand,
  },
  {
    name: 'config',
    summary: 'check, print or describe the configuration',
    load: async () => (await import('./config.ts')).configCommand,
  },
  {
    name: 'policy',
    summary: 'build, test, evaluate and reload policies',
    load: async () => (await import('./policy.ts')).policyCommand,
  },
  {
    name: 'explain',
    summary: 'say why a call is allowed or denied, rule by rule',
    load: async () => (await import('./explain.ts')).explainCommand,
  },
  {
    name: 'classify',
    summary: 'say how dangerous a tool call is',
    load: async () => (await import('./classify.ts')).classifyCommand,
  },
  {
    name: 'keys',
    summary: 'create, list, rotate and revoke API keys',
    load: async () => (await import('./keys.ts')).keysCommand,
  },
  {
    name: 'users',
    summary: 'make, list, disable, unlock and import accounts',
    load: async () => (await import('./users.ts')).usersCommand,
  },
  {
    name: 'auth',
    summary: 'log in at the issuer of a gateway, or ask whether a key is good',
    load: async () => (await import('./auth.ts')).authCommand,
  },
  {
    name: 'switch',
    summary: 'switch a principal, key, tenant, server or tool off and on',
    load: async () => (await import('./switch.ts')).switchCommand,
  },
  {
    name: 'approvals',
    summary: 'list requests for approval, approve and reject them',
    load: async () => (await import('./approvals.ts')).approvalsCommand,
  },
  {
    name: 'delegate',
    summary: 'lend your rights to another principal for a while',
    load: async () => (await import('./delegate.ts')).delegateCommand,
  },
  {
    name: 'audit',
    summary: 'read the audit file',
    load: async () => (await import('./audit.ts')).auditCommand,
  },
  {
    name: 'providers',
    summary: 'list the identity providers of a configuration',
    load: async () => (await import('./providers.ts')).providersCommand,
  },
  {
    name: 'doctor',
    summary: 'look for what will not work or is not safe',
    load: async () => (await import('./doctor.ts')).doctorCommand,
  },
  {
    name: 'status',
    summary: 'ask a running gateway how it is',
    load: async () => (await import('./status.ts')).statusCommand,
  },
];

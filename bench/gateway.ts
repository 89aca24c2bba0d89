/** Portcullis as a contender: the command line's `serve` with a configuration made for the run. */
import { createHmac, randomBytes } from 'node:crypto';
import { mkdtempSync, readFileSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Contender } from './processes.ts';
import { freePort, startProgram } from './processes.ts';

const ROOT = join(import.meta.dirname, '..');
const MAIN = join(ROOT, 'src/main.ts');
const POLICIES = join(ROOT, 'policies');
const ALLOW_ALL = join(import.meta.dirname, 'policies/allow-all');

export interface BenchGateway extends Contender {
  /** `Authorization` of a developer, or null for the bare configuration. */
  readonly authorization: string | null;
}

const encode = (value: unknown) => Buffer.from(JSON.stringify(value)).toString('base64url');

/** A token as an identity provider would issue it (RFC 7519, HS256). */
function developerToken(secret: string): string {
  const now = Math.floor(Date.now() / 1000);
  const claims = {
    iss: 'https://idp.bench.test',
    aud: 'portcullis',
    sub: 'dev-1',
    roles: ['developer'],
    iat: now,
    exp: now + 3600,
  };
  const input = `${encode({ alg: 'HS256', typ: 'JWT' })}.${encode(claims)}`;
  return `${input}.${createHmac('sha256', secret).update(input).digest('base64url')}`;
}

/** full: JWT, classification, Rego, audit and decision log to disk, metrics. */
export async function startFull(upstream: string, options: { decisionCache: boolean }): Promise<BenchGateway> {
  const secret = randomBytes(32).toString('base64url');
  const name = options.decisionCache ? 'Portcullis, full' : 'Portcullis, full, no decision cache';
  const gateway = await start(
    name,
    (port, admin) => `
version: 1
listen: { data: "127.0.0.1:${port}", admin: { address: "127.0.0.1:${admin}" } }
logging: { level: warn }
identity:
  staff: { kind: jwt, issuer: "https://idp.bench.test", audience: portcullis, secret: "\${env:BENCH_SECRET}" }
servers:
  orders: { type: sql, dialect: sqlite, url: "${upstream}/mcp", environment: staging }
models:
  tiny-gate: { url: "${upstream}/v1" }
routes:
  - { match: /mcp/orders, protocol: mcp, server: orders, identity: [staff] }
  - { match: /v1, protocol: llm, model: tiny-gate, identity: [staff] }
policy: { bundle: "${POLICIES}", data: ./data.json, watch: false, cache: { entries: ${options.decisionCache ? 10_000 : 0} } }
stores: { database: "sqlite::memory:" }
audit: { file: ./audit.jsonl }
`,
    { BENCH_SECRET: secret },
  );
  return Object.assign(gateway, { authorization: `Bearer ${developerToken(secret)}` });
}

/** bare: no authentication, and a policy that allows everything. */
export async function startBare(upstream: string): Promise<BenchGateway> {
  const gateway = await start(
    'Portcullis, bare',
    (port, admin) => `
version: 1
listen: { data: "127.0.0.1:${port}", admin: { address: "127.0.0.1:${admin}" } }
logging: { level: warn }
models:
  tiny-gate: { url: "${upstream}/v1" }
routes:
  - { match: /v1, protocol: llm, model: tiny-gate, anonymous: true }
policy: { bundle: "${ALLOW_ALL}", watch: false }
stores: { database: "sqlite::memory:" }
audit: { mode: off }
`,
    {},
  );
  return Object.assign(gateway, { authorization: null });
}

async function start(
  name: string,
  config: (port: number, admin: number) => string,
  env: NodeJS.ProcessEnv,
): Promise<Contender> {
  const port = await freePort();
  const dir = mkdtempSync(join(tmpdir(), 'bench-gateway-'));
  writeFileSync(join(dir, 'data.json'), benchData());
  writeFileSync(join(dir, 'portcullis.yaml'), config(port, await freePort()));
  const command = [process.execPath, MAIN, 'serve', '-c', join(dir, 'portcullis.yaml')];
  return startProgram(name, command, `http://127.0.0.1:${port}`, { env, probe: '/livez' });
}

/** The default policy's data with limits no load maker reaches. */
function benchData(): string {
  const data = JSON.parse(readFileSync(join(POLICIES, 'data.json'), 'utf8')) as BenchData;
  data.config.rate_limits = { default: 1e12, roles: {} };
  return JSON.stringify(data);
}

interface BenchData {
  config: {
    rate_limits: { default: number; roles: Record<string, number> };
  };
}

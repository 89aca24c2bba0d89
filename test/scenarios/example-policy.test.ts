/** The example policy of the documentation, beside the default one: built as shown, asked by host, SDK and front door. */
import { cp, readFile, symlink } from 'node:fs/promises';
import { join } from 'node:path';
import { Readable } from 'node:stream';
import { text } from 'node:stream/consumers';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { main } from '../../src/cli/cli.ts';
import { loadBundle } from '../../src/policy/bundle.ts';
import { readVerdict } from '../../src/policy/result.ts';
import { BUILTINS } from '../../src/policy/wasm/builtins.ts';
import { PolicyHost } from '../../src/policy/wasm/host.ts';
import { DEFAULT_LIMITS, PolicyProgram } from '../../src/policy/wasm/program.ts';
import type { TestGateway } from '../helpers/gateway.ts';
import { startGateway } from '../helpers/gateway.ts';
import { call } from '../helpers/gateway-calls.ts';
import { connectModern } from '../helpers/gateway-mcp.ts';
import { NO_COMPILER } from '../helpers/policy-dir.ts';
import { policyInput } from '../helpers/policy-input.ts';
import { type SdkPolicy, sdkPolicy } from '../helpers/policy-sdk.ts';
import { cleanEnv, MAIN, ROOT, runToEnd, temporaryDirectory } from '../helpers/processes.ts';
import type { Service } from '../helpers/upstreams.ts';
import { startService } from '../helpers/upstreams.ts';
import { verifies } from '../helpers/verifies.ts';
import { fakeIo } from '../unit/cli/fake-io.ts';

if (NO_COMPILER !== null) console.warn(`the example policy is not tested: ${NO_COMPILER}`);

interface Case {
  readonly name: string;
  readonly roles: readonly string[];
  readonly server: string;
  readonly tool: string;
  readonly tool_type: string;
  readonly parameters: Record<string, unknown>;
  readonly expect: {
    readonly allow: boolean;
    readonly reason: string;
    readonly filtered_parameters: object | null;
    readonly cache_ttl: number;
  };
}

const EXAMPLE = join(ROOT, 'examples/policies/gateway');
const suite = JSON.parse(await readFile(join(EXAMPLE, 'cases.json'), 'utf8')) as { cases: Case[]; flaws: Case[] };
const all = [...suite.cases, ...suite.flaws].map((one) => [one.name, one] as const);
const DECISION = 'examples/gateway/decision';
const ANSWER = 'examples/gateway/answer';
const NOW = Date.parse('2025-01-15T10:30:00Z');

/** The commands of the documentation, one after the other. */
async function documented(heading: string): Promise<string> {
  const document = await readFile(join(ROOT, 'docs/policies.md'), 'utf8');
  const block = /```sh\n(.*?)```/s.exec(document.slice(document.indexOf(`\n${heading}\n`)));
  if (block?.[1] === undefined) throw new Error(`no commands below ${heading}`);
  return block[1];
}

const directory = temporaryDirectory();
const bundleDir = join(directory.path, 'my-policies');
/** What reached the tool servers: tool and arguments. */
const received: { tool: string; parameters: unknown }[] = [];
let built = { code: -1 as number | null, stdout: '', stderr: '' };
let upstream: Service;
let gateway: TestGateway;
let host: PolicyHost;
let sdk: SdkPolicy;

const TOOLS = ['get_repo', 'list_issues', 'create_issue', 'close_issue', 'delete_repo', 'delete_audit_log'];

async function startTools(): Promise<Service> {
  return startService(async (request, response) => {
    const message = JSON.parse(await text(request)) as {
      method: string;
      id?: number;
      params?: { name?: string; arguments?: unknown };
    };
    const list = TOOLS.map((name) => ({ name, inputSchema: { type: 'object' } }));
    const results: Record<string, object> = {
      'server/discover': { supportedVersions: ['2026-07-28'], capabilities: { tools: {} } },
      'tools/list': { resultType: 'complete', ttlMs: 0, cacheScope: 'private', tools: list },
    };
    const { method, params } = message;
    if (method === 'tools/call') received.push({ tool: params?.name ?? '', parameters: params?.arguments });
    const result = results[method] ?? { resultType: 'complete', content: [{ type: 'text', text: '[]' }] };
    response.writeHead(200, { 'content-type': 'application/json' });
    response.end(JSON.stringify({ jsonrpc: '2.0', id: message.id, result }));
  });
}

beforeAll(async () => {
  if (NO_COMPILER !== null) return;
  await cp(join(ROOT, 'policies'), join(directory.path, 'policies'), { recursive: true });
  await symlink(join(ROOT, 'examples'), join(directory.path, 'examples'));
  const shim = `portcullis() { "${process.execPath}" "${MAIN}" "$@"; }`;
  const commands = await documented('## An example: a table of servers and tools');
  built = await runToEnd('bash', ['-euc', `${shim}\n${commands}`], { cwd: directory.path, env: cleanEnv({}) });
  if (built.code !== 0) throw new Error(`${built.stdout}\n${built.stderr}`);
  const bundle = await loadBundle({ bundleDir, dataFile: null });
  host = new PolicyHost(await PolicyProgram.load(bundle.wasm, BUILTINS, DEFAULT_LIMITS), bundle.dataText);
  sdk = await sdkPolicy(Buffer.from(bundle.wasm), bundle.data);
  upstream = await startTools();
  const reading = { type: 'query', sensitivity: 'low' } as const;
  const postgres = { type: 'sql', dialect: 'postgres' } as const;
  const url = `${upstream.url}/mcp`;
  gateway = await startGateway({
    servers: {
      'postgres-mcp': { ...postgres, url, tools: { list_tables: reading, describe_table: reading } },
      'github-mcp': { url },
    },
    routes: [
      { match: '/tools', protocol: 'tools', identity: ['keys'], entrypoint: DECISION },
      { match: '/mcp/github', protocol: 'mcp', server: 'github-mcp', identity: ['keys'], entrypoint: DECISION },
      { match: '/mcp/default', protocol: 'mcp', server: 'postgres-mcp', identity: ['keys'] },
    ],
    policy: { bundle: bundleDir, watch: false },
  });
}, 60_000);

afterAll(async () => {
  await gateway?.[Symbol.asyncDispose]();
  await upstream?.[Symbol.asyncDispose]();
  directory[Symbol.dispose]();
});

function documentOf({ roles, server, tool, tool_type, parameters }: Case) {
  const base = policyInput({ tool_type });
  return {
    ...base,
    ...{ server_name: server, tool_name: tool, parameters },
    user: { ...base.user, roles },
    server: { ...base.server, name: server },
    resource: { ...base.resource, tenant_id: null },
  };
}

const keyOf = ({ roles }: Case) => gateway.key('somebody', { roles: [...roles] });
const asked = ({ server, tool, parameters }: Case) => ({ server_name: server, tool_name: tool, parameters });

describe.skipIf(NO_COMPILER !== null)('the example policy', () => {
  test('is built by the commands of the documentation, which answer as they say', () => {
    verifies('SW-12');
    expect(suite.cases.length).toBe(14);
    expect(built.stdout).toMatch(/\d+ passed, 0 failed, 0 skipped/);
    const [line = ''] = built.stdout.trim().split('\n').slice(-1);
    expect(JSON.parse(line)).toMatchObject({ allow: true, filtered_parameters: { query: 'SELECT 1' }, cache_ttl: 60 });
    // Beside the default one, in the same bundle.
    expect([...host.entrypoints.keys()]).toEqual(
      expect.arrayContaining([DECISION, ANSWER, 'portcullis/main/decision']),
    );
  });

  test.each(all)('answers alike in our host and in the public SDK: %s', (_name, one) => {
    verifies('SW-12');
    const input = documentOf(one);
    const answer = host.evaluate(ANSWER, input, NOW);
    expect(answer.kind === 'value' ? answer.value : answer).toEqual(one.expect);
    expect(sdk.evaluate(input, ANSWER)).toEqual(one.expect);
    const verdict = readVerdict(host.evaluate(DECISION, input, NOW));
    expect(verdict).toMatchObject({ allow: one.expect.allow, failure: null });
    expect(verdict.validUntil).toBe(NOW + one.expect.cache_ttl * 1000);
    expect(verdict.deny.map(({ message }) => message)).toEqual(one.expect.allow ? [] : [one.expect.reason]);
    expect(sdk.evaluate(input, DECISION)).toMatchObject({ allow: one.expect.allow });
  });

  test.each(all)('decides at the front door, and what it filters is what arrives: %s', async (_name, one) => {
    verifies('SW-12');
    received.length = 0;
    const answer = await call(`${gateway.url}/tools/invoke`, { key: await keyOf(one), json: asked(one) });
    expect(answer.status).toBe(one.expect.allow ? 200 : 403);
    if (one.expect.allow) {
      expect(received).toEqual([{ tool: one.tool, parameters: one.expect.filtered_parameters }]);
    } else {
      expect(answer.text).toContain(one.expect.reason);
      expect(received).toEqual([]);
    }
  });

  test('shows an MCP client the tools of its role, and leaves the other routes to the default policy', async () => {
    verifies('SW-12');
    const key = await gateway.key('developer');
    await using connection = await connectModern(`${gateway.url}/mcp/github`, key);
    const { tools } = await connection.client.listTools();
    expect(tools.map(({ name }) => name)).toEqual(['get_repo', 'list_issues', 'create_issue']);
    received.length = 0;
    await connection.client.callTool({ name: 'create_issue', arguments: { title: 't', password: 'p' } });
    expect(received).toEqual([{ tool: 'create_issue', parameters: { title: 't' } }]);
    // The default policy lets developers read, whatever the table says, and says nothing of arguments.
    const query = { query: 'SELECT 1', password: 'p' };
    await using other = await connectModern(`${gateway.url}/mcp/default`, key);
    await other.client.callTool({ name: 'execute_query', arguments: query });
    expect(received.at(-1)).toEqual({ tool: 'execute_query', parameters: query });
    const json = { server_name: 'postgres-mcp', tool_name: 'execute_query', parameters: query };
    expect((await call(`${gateway.url}/tools/invoke`, { key, json })).status).toBe(403);
  });

  test('is also a bundle of its own', { timeout: 60_000 }, async () => {
    verifies('SW-12');
    const { io, written } = fakeIo({ env: process.env as Record<string, string>, cwd: directory.path });
    const run = (...argv: string[]) => main(argv, { ...io, stdin: Readable.from([]) });
    expect(await run('policy', 'build', EXAMPLE, '--out', 'compiled', '--bundle', 'table.tar.gz')).toBe(0);
    expect(await run('policy', 'verify', 'table.tar.gz')).toBe(0);
    expect(written.err).not.toContain('failed');
    const bundle = await loadBundle({ bundleDir: join(directory.path, 'table.tar.gz'), dataFile: null });
    const alone = new PolicyHost(await PolicyProgram.load(bundle.wasm, BUILTINS, DEFAULT_LIMITS), bundle.dataText);
    expect([...alone.entrypoints.keys()].sort()).toEqual([ANSWER, DECISION]);
    for (const [, one] of all) {
      const answer = alone.evaluate(ANSWER, documentOf(one), NOW);
      expect(answer.kind === 'value' ? answer.value : answer).toEqual(one.expect);
    }
  });
});

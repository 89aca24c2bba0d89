/** Metadata of a policy binds routes to its entrypoints: at the front door, in lists, the decision API, reports and reloads. */
import { mkdir, readFile, rename, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { text } from 'node:stream/consumers';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { main } from '../../src/cli/cli.ts';
import { readContents } from '../../src/policy/bundle-contents.ts';
import { openBundle } from '../../src/policy/bundle-open.ts';
import { makeBundle, writeArchive } from '../../src/policy/bundle-writer.ts';
import { compile } from '../../src/policy/compiler.ts';
import { buildBatchInput } from '../../src/policy/input.ts';
import { findOpa, run } from '../../src/policy/opa-command.ts';
import { startShadow } from '../../src/policy/shadow.ts';
import { ADMIN_TOKEN, type PartialConfig, startGateway, type TestGateway } from '../helpers/gateway.ts';
import { call } from '../helpers/gateway-calls.ts';
import { connectModern } from '../helpers/gateway-mcp.ts';
import { documentedRego, NO_COMPILER } from '../helpers/policy-dir.ts';
import { temporaryDirectory } from '../helpers/processes.ts';
import { type Service, startService } from '../helpers/upstreams.ts';
import { fakeIo } from '../unit/cli/fake-io.ts';
import { makeRequest } from '../unit/policy/requests.ts';

if (NO_COMPILER !== null) console.warn(`bound routes are not tested: ${NO_COMPILER}`);

const MAIN = `package portcullis.main

# METADATA
# entrypoint: true
decision := {"allow": true, "deny": [], "obligations": []}

# METADATA
# entrypoint: true
decisions := [decision | some _ in input.calls]
`;

/** An entrypoint that says no, in its own name and with the version of its data. */
const refusing = (name: string, routes: readonly string[]): string => `package ${name}

# METADATA
# entrypoint: true
# custom:
#   portcullis:
#     routes: ${JSON.stringify(routes)}
decision := {"allow": count(deny) == 0, "deny": deny, "obligations": []}

deny := [{"package": "${name}", "code": "POLICY_DENIED", "message": message, "severity": "medium"} |
	input.action != "mcp:protocol"
	message := sprintf("${name} %v", [data.version])
]
`;

const directory = temporaryDirectory();

/** A compiled directory with this policy. Throws what the compiler says. */
async function policy(name: string, version: number, files: Readonly<Record<string, string>>): Promise<string> {
  const dir = join(directory.path, name);
  const all = { 'main.rego': MAIN, 'data.json': JSON.stringify({ version }), ...files };
  for (const [file, content] of Object.entries(all)) {
    await mkdir(dirname(join(dir, file)), { recursive: true });
    await writeFile(join(dir, file), content);
  }
  const result = await compile(dir, { out: join(dir, 'bundle') });
  if (result.kind !== 'compiled') throw new Error(JSON.stringify(result));
  return dir;
}

async function archive(dir: string, file: string): Promise<string> {
  const manifest = JSON.parse(await readFile(join(dir, 'bundle/manifest.json'), 'utf8'));
  const bytes = await makeBundle({
    dir,
    compiled: join(dir, 'bundle'),
    manifest,
    revision: file,
    signing: null,
    sequence: undefined,
  });
  await writeFile(join(directory.path, file), bytes);
  return join(directory.path, file);
}

const wants = (...routes: readonly string[]) => ({ custom: { portcullis: { routes } } });

const TOOLS = [
  { name: 'pay', inputSchema: { type: 'object' } },
  { name: 'refund', inputSchema: { type: 'object' } },
];

/** A list of tools is held back while this is set; it is called when one is asked for. */
let holdList: (() => Promise<void>) | null = null;

/** A plain service and a tool server in one. */
async function startUpstream(): Promise<Service> {
  return startService(async (request, response) => {
    const body = await text(request);
    response.writeHead(200, { 'content-type': 'application/json' });
    if (!request.url?.startsWith('/mcp')) return response.end('{}');
    const message = JSON.parse(body) as { method: string; id?: number };
    if (message.method === 'tools/list') await holdList?.();
    const results: Record<string, object> = {
      'server/discover': { supportedVersions: ['2026-07-28'], capabilities: { tools: {} } },
      'tools/list': { resultType: 'complete', ttlMs: 0, cacheScope: 'private', tools: TOOLS },
    };
    const result = results[message.method] ?? { resultType: 'complete', content: [] };
    return response.end(JSON.stringify({ jsonrpc: '2.0', id: message.id, result }));
  });
}

describe.skipIf(NO_COMPILER !== null)('routes bound by metadata', () => {
  let upstream: Service;
  let first: string;
  let swapped: string;

  beforeAll(async () => {
    [upstream, first, swapped] = await Promise.all([
      startUpstream(),
      policy('first', 1, {
        'finance.rego': refusing('finance', ['/a', '/mcp/pay']),
        'people.rego': refusing('people', ['/b/*', '/nowhere']),
      }),
      policy('swapped', 2, {
        'finance.rego': refusing('finance', ['/b']),
        'people.rego': refusing('people', ['/a', '/mcp/pay', '/mcp/free']),
      }),
    ]);
  }, 60_000);
  afterAll(async () => {
    await upstream?.[Symbol.asyncDispose]();
    directory[Symbol.dispose]();
  });

  const http = (match: string, extra: object = {}) => {
    return { match, protocol: 'http' as const, url: upstream.url, identity: ['keys'], ...extra };
  };
  const config = (bundle: string, extra: Partial<PartialConfig['policy']> = {}): PartialConfig => ({
    servers: { pay: { url: `${upstream.url}/mcp` } },
    routes: [
      http('/a'),
      http('/b'),
      http('/b/deep', { mode: 'report' }),
      http('/open'),
      http('/own', { entrypoint: 'people/decision' }),
      { match: '/mcp/pay', protocol: 'mcp', server: 'pay', identity: ['keys'] },
      { match: '/mcp/free', protocol: 'mcp', server: 'pay', identity: ['keys'] },
    ],
    policy: { bundle, watch: false, decision_log: { file: './decisions.jsonl' }, ...extra },
  });

  const admin = { authorization: `Bearer ${ADMIN_TOKEN}` };
  const reason = ({ status, body }: { status: number; body: unknown }): string =>
    status === 200 ? 'allowed' : String((body as { detail?: string }).detail);

  test('are decided by their entrypoint, the others by the default, and the configuration has the last word', async () => {
    await using gateway = await startGateway(config(first));
    const key = await gateway.key('developer');
    const ask = async (path: string) => reason(await call(`${gateway.url}${path}`, { key }));
    expect(await ask('/a/x')).toBe('finance 1');
    expect(await ask('/b')).toBe('people 1');
    expect(await ask('/open')).toBe('allowed');
    expect(await ask('/own')).toBe('people 1');
    // What only reports is judged by its entrypoint too.
    expect(await ask('/b/deep')).toBe('allowed');
    const status = await call(`${gateway.admin}/policy/status`, { headers: admin });
    expect(status.body).toMatchObject({
      routes: expect.arrayContaining([
        { route: '/a', entrypoint: 'finance/decision', from: 'bundle' },
        { route: '/b/deep', entrypoint: 'people/decision', from: 'bundle' },
        { route: '/open', entrypoint: 'portcullis/main/decision', from: 'default' },
        { route: '/own', entrypoint: 'people/decision', from: 'configuration' },
      ]),
      unknown_routes: [{ route: '/nowhere', entrypoint: 'people/decision', at: 'people.rego:8' }],
    });
    expect(gateway.logs.filter((line) => line.includes('/nowhere'))).toHaveLength(1);
    await gateway.stop();
    const paths = (await gateway.decisions())
      .trim()
      .split('\n')
      .map((line) => (JSON.parse(line) as { path: string }).path);
    expect(paths).toEqual([
      'finance/decision',
      'people/decision',
      'portcullis/main/decision',
      'people/decision',
      'people/decision',
    ]);
  });

  test('hide in lists what their entrypoint hides, at the front door and in the decision API', async () => {
    await using gateway = await startGateway(config(first));
    const key = await gateway.key('developer');
    await using client = await connectModern(`${gateway.url}/mcp/pay`, key);
    expect((await client.client.listTools()).tools).toEqual([]);
    // A free route leads there too, which does not make it free: whoever asks does not know which one is taken.
    const question = { user: null, action: 'gateway:tool:invoke', server_name: 'pay', tool_name: 'pay' };
    const asked = await call(`${gateway.url}/api/v1/gateway/authorize`, { key, json: question });
    expect(JSON.stringify(asked.body)).toContain('finance 1');
    const listed = await call(`${gateway.url}/api/v1/gateway/servers`, { key });
    expect(listed.body).toEqual({ servers: [] });
  });

  test('are bound by the example of the documentation', async () => {
    const rules = await documentedRego('## Which entrypoint decides on a route');
    const bundle = await policy('documented', 1, { 'finance.rego': rules });
    await using gateway = await startGateway({ routes: [http('/v1')], policy: { bundle, watch: false } });
    const ask = async (role: string) => reason(await call(`${gateway.url}/v1/x`, { key: await gateway.key(role) }));
    expect(await ask('developer')).toBe('Payments are for the finance team');
    expect(await ask('finance')).toBe('allowed');
  });

  test('are bound by what plain opa build writes as by our own', async () => {
    const opa = await findOpa();
    const out = join(directory.path, 'plain.tar.gz');
    const flags = ['build', '-t', 'wasm', '--prune-unused', '--ignore', 'bundle', '-o', out, '.'];
    const built = await run(opa.path ?? '', flags, { cwd: first });
    expect(built.stderr).toBe('');
    const routesOf = async (file: string) => {
      const contents = await readContents(await readFile(file), null);
      return contents.kind === 'snapshot' ? contents.bundle.claims : [];
    };
    const own = await routesOf(await archive(first, 'own.tar.gz'));
    expect(own.map(({ at, ...claim }) => claim)).toEqual((await routesOf(out)).map(({ at, ...claim }) => claim));
    expect(own).toHaveLength(4);
    await using gateway = await startGateway(config(out));
    expect(reason(await call(`${gateway.url}/a`, { key: await gateway.key('developer') }))).toBe('finance 1');
  });

  test('change with their policy at one blow, cached or not, and back with a rollback', async () => {
    const archives = [await archive(first, 'first.tar.gz'), await archive(swapped, 'swapped.tar.gz')];
    const bundle = join(directory.path, 'served.tar.gz');
    const contradicting = new Map(await openBundle(await readFile(archives[1] ?? ''), null));
    const modules = [{ entrypoint: 'finance/decision', module: '/policy.wasm', annotations: [wants('/a')] }];
    contradicting.set('.manifest', Buffer.from(JSON.stringify({ revision: 'bad', roots: [''], wasm: modules })));
    const serve = async (at: number) => {
      await writeFile(`${bundle}.next`, await readFile(archives[at] ?? ''));
      await rename(`${bundle}.next`, bundle);
    };
    await serve(0);
    await using gateway = await startGateway(config(bundle));
    const key = await gateway.key('developer');
    const seen = new Map<string, Set<string>>([
      ['/a', new Set()],
      ['/b', new Set()],
    ]);
    let going = true;
    const asking = [...seen].map(async ([path, reasons]) => {
      while (going) reasons.add(reason(await call(`${gateway.url}${path}`, { key })));
    });
    for (let i = 1; i <= 4; i++) {
      await serve(i % 2);
      expect((await call(`${gateway.admin}/policy/reload`, { method: 'POST', headers: admin })).body).toMatchObject({
        last_error: null,
      });
    }
    going = false;
    await Promise.all(asking);
    expect([...(seen.get('/a') ?? [])].sort()).toEqual(['finance 1', 'people 2']);
    expect([...(seen.get('/b') ?? [])].sort()).toEqual(['finance 2', 'people 1']);
    const now = async () => reason(await call(`${gateway.url}/a`, { key }));
    await writeFile(bundle, writeArchive(contradicting));
    const refused = await call(`${gateway.admin}/policy/reload`, { method: 'POST', headers: admin });
    expect(refused.body).toMatchObject({
      last_error: expect.stringContaining('/a to people/decision (people.rego:8)'),
    });
    expect(await now()).toBe('finance 1');
    await call(`${gateway.admin}/policy/rollback`, { method: 'POST', headers: admin });
    expect(await now()).toBe('people 2');
  });

  test('stay with their routes when the configuration has others, also for what the one before still answers', async () => {
    await using gateway = await startGateway(config(first));
    const key = await gateway.key('developer');
    await using client = await connectModern(`${gateway.url}/mcp/pay`, key);
    const [asked, answered] = [Promise.withResolvers<void>(), Promise.withResolvers<void>()];
    holdList = () => {
      asked.resolve();
      return answered.promise;
    };
    const listed = client.client.listTools();
    await asked.promise;
    holdList = null;
    const expected = {
      '/a': 'finance 1',
      '/b': 'people 1',
      '/b/deep': 'allowed',
      '/open': 'allowed',
      '/own': 'people 1',
    };
    const seen = new Map<string, Set<string>>(Object.keys(expected).map((path) => [path, new Set()]));
    let going = true;
    const asking = [...seen].map(async ([path, reasons]) => {
      while (going) reasons.add(reason(await call(`${gateway.url}${path}`, { key })));
    });
    const { routes = [], ...rest } = config(first);
    const before = [...Array(5).keys()].map((at) => http(`/free${at}`));
    await gateway.reload({ ...rest, routes: [...before, ...routes.toReversed()] });
    going = false;
    await Promise.all(asking);
    expect(Object.fromEntries([...seen].map(([path, reasons]) => [path, [...reasons].join()]))).toEqual(expected);
    // Asked for before all of them, filtered after all of them: by the routes and the policy of its time.
    answered.resolve();
    expect((await listed).tools).toEqual([]);
  });

  test('are judged by the candidate on its own routes', async () => {
    await using gateway = await startGateway(config(first, { shadow: { bundle: swapped } }));
    const key = await gateway.key('developer');
    await shadowOf(gateway, ({ revision }) => revision !== null);
    await call(`${gateway.url}/a`, { key });
    // Decided at once by the policy in force, one by one by the candidate, which binds the route.
    await using client = await connectModern(`${gateway.url}/mcp/free`, key);
    expect((await client.client.listTools()).tools).toHaveLength(2);
    const { recent, differences } = await shadowOf(gateway, ({ compared, waiting }) => waiting === 0 && compared >= 5);
    expect(differences).toMatchObject({ failure: 0 });
    expect(recent.map(({ kind, tool_name }) => [kind, tool_name])).toEqual(
      expect.arrayContaining([
        ['allow_to_deny', 'pay'],
        ['allow_to_deny', 'refund'],
      ]),
    );
    expect(recent.map(({ kind }) => kind)).not.toContain('deny_to_allow');
  });

  test('are judged by the candidate call by call where those of a list belong to several routes', async () => {
    const routes = ['/open', '/a', '/b'].map((match) => ({ match, entrypoint: null, isConfigured: true }));
    const shadow = startShadow({
      ...{ bundleDir: swapped, dataFile: null, entrypoint: 'portcullis/main/decision', routes, sample: 1 },
      ...{ timeLimitMs: 20, logger: { debug() {}, info() {}, warn() {}, error() {} } },
    });
    await shadow.reload();
    const requests = routes.map(({ match }, place) => ({ ...makeRequest({ call: { tool: match } }), place }));
    const live = { decision_id: 'd', allow: true, deny: [], obligations: [], revision: 'r', cached: false, eval_us: 1 };
    const input = buildBatchInput(requests, () => null);
    const decisions = requests.map(() => ({ ...live, failure: null }));
    shadow.observe({ entrypoint: 'portcullis/main/decisions', input, decisions, requests });
    await shadow.settled();
    const found = shadow.status().recent.map(({ kind, tool_name }) => [kind, tool_name]);
    await shadow.close();
    expect(found.sort()).toEqual([
      ['allow_to_deny', '/a'],
      ['allow_to_deny', '/b'],
    ]);
  });

  test('are told by the commands, with those that are not there', async () => {
    const yaml = join(directory.path, 'portcullis.yaml');
    await writeFile(yaml, JSON.stringify({ version: 1, identity: { keys: { kind: 'api-key' } }, ...config(first) }));
    const command = async (...argv: readonly string[]) => {
      const env = {
        OPA_BIN: process.env.OPA_BIN ?? '',
        PATH: process.env.PATH ?? '',
        PORTCULLIS_ADMIN_TOKEN: ADMIN_TOKEN,
      };
      const { io, written } = fakeIo({ cwd: directory.path, env });
      return { code: await main(argv, io), out: written.out + written.err };
    };
    const nowhere = 'the policy binds /nowhere to people/decision';
    for (const argv of [
      ['policy', 'check', 'first'],
      ['policy', 'check', 'first', '-c', yaml],
    ]) {
      const checked = await command(...argv);
      expect(checked).toMatchObject({ code: 0 });
      expect(checked.out).toContain(`people.rego:8:1: warning unknown-route: ${nowhere}`);
      expect(checked.out).toContain('/a: finance/decision, as the policy says\n');
      expect(checked.out).toContain('/own: people/decision, as the configuration says\n');
      expect(checked.out).toContain('all others: portcullis/main/decision\n');
    }
    await archive(first, 'verified.tar.gz');
    expect((await command('policy', 'verify', 'verified.tar.gz')).out).toContain('  binds /a to finance/decision\n');
    expect((await command('config', 'check')).out).toContain(`warning: policy.bundle: ${nowhere} (people.rego:8)`);
    const doctor = (await command('doctor')).out;
    expect(doctor).toContain(`advice  routes: ${nowhere}`);
    expect(doctor).toContain('ok      routes: the policy binds /a to finance/decision');
    const other = 'the tools API at /tools reaches the same server by portcullis/main/decision';
    expect(doctor).toContain(`advice  routes: /mcp/pay is decided by finance/decision, but ${other}`);
    expect(doctor).not.toContain('/mcp/free is decided');
    await using gateway = await startGateway(config(first));
    const status = await command('policy', 'status', '--url', gateway.admin);
    expect(status.out).toContain('route         /b/deep: people/decision, as the policy says\n');
    expect(status.out).toContain('/nowhere: people/decision (people.rego:8), but the configuration has no such route');
  });

  test('are bound to packages whose names are no words', async () => {
    const dir = await policy('named', 1, {
      'x.rego': refusing('x["of two"]["w/slash"]', ['/a'])
        .replace('"package": "x["of two"]["w/slash"]"', '"package": "x"')
        .replace('sprintf("x["of two"]["w/slash"] %v', 'sprintf("x %v'),
    });
    const { bindings } = JSON.parse(await readFile(join(dir, 'bundle/manifest.json'), 'utf8'));
    expect(bindings).toEqual([{ entrypoint: 'x/of%20two/w%2Fslash/decision', route: '/a', at: 'x.rego:8' }]);
  });

  test('are told with file and line when metadata is wrong', async () => {
    const faults: readonly (readonly [Readonly<Record<string, string>>, object])[] = [
      [
        { 'x.rego': refusing('x', []) },
        { file: 'x.rego', line: 8, message: expect.stringContaining('at least one path') },
      ],
      [
        { 'x.rego': refusing('x', ['/a']), 'y.rego': refusing('y', ['/a']) },
        { file: 'y.rego', message: expect.stringContaining('x.rego:8') },
      ],
      [
        { 'x.rego': refusing('x', ['/a']).replace('# entrypoint: true\n', '') },
        { file: 'x.rego', line: 7, message: expect.stringContaining('is no entrypoint') },
      ],
    ];
    for (const [at, [files, problem]] of faults.entries()) {
      const fault = await policy(`fault${at}`, 1, files).then(
        () => null,
        (error: Error) => JSON.parse(error.message) as object,
      );
      expect(fault).toMatchObject({ kind: 'rejected', problems: [problem] });
    }
  });
});

interface Shadowed {
  readonly revision: string | null;
  readonly compared: number;
  readonly waiting: number;
  readonly differences: object;
  readonly recent: readonly { readonly kind: string; readonly tool_name: string | null }[];
}

/** Asks until it is so. */
async function shadowOf(gateway: TestGateway, enough: (status: Shadowed) => boolean): Promise<Shadowed> {
  for (;;) {
    const { body } = await call(`${gateway.admin}/policy/shadow`, { headers: admin() });
    if (enough(body as Shadowed)) return body as Shadowed;
  }
}

const admin = () => ({ authorization: `Bearer ${ADMIN_TOKEN}` });

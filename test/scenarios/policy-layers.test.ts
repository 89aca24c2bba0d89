/** Every layer of the policy has to let a call pass: each one alone refuses it, and so does a fault in one. */
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { readVerdict } from '../../src/policy/result.ts';
import { BUILTINS } from '../../src/policy/wasm/builtins.ts';
import { PolicyHost } from '../../src/policy/wasm/host.ts';
import { DEFAULT_LIMITS, PolicyProgram } from '../../src/policy/wasm/program.ts';
import type { TestGateway } from '../helpers/gateway.ts';
import { POLICIES, startGateway } from '../helpers/gateway.ts';
import { call } from '../helpers/gateway-calls.ts';
import type { PolicyDirectory } from '../helpers/policy-dir.ts';
import { NO_COMPILER, policyDirectory } from '../helpers/policy-dir.ts';
import { policyInput } from '../helpers/policy-input.ts';
import type { Service } from '../helpers/upstreams.ts';
import { startService } from '../helpers/upstreams.ts';
import { verifies } from '../helpers/verifies.ts';

if (NO_COMPILER !== null) console.warn(`policy layers are not tested: ${NO_COMPILER}`);

type Json = Record<string, unknown>;
type Document = ReturnType<typeof policyInput>;

/** A rule that contradicts another one of its layer, where the data say so: evaluation breaks off. */
const BREAKS: Readonly<Record<string, string>> = {
  base: 'package mcp.gateway\n\nrole_grants := 1 if data.broken == "base"\n',
  rate: 'package mcp.gateway.context\n\nrate_limit := -1 if data.broken == "rate"\n',
  context: 'package mcp.gateway.context\n\nsource_region := "nowhere" if data.broken == "context"\n',
  depth: 'package mcp.gateway.context\n\nmax_chain_depth := -1 if data.broken == "depth"\n',
  data: 'package mcp.gateway.context\n\nunencrypted := "perhaps" if data.broken == "data"\n',
  cost: 'package portcullis.llm\n\ngrants := 1 if data.broken == "cost"\n',
};

const OPEN = `package portcullis.custom.open

allow if data.open == true

obligations contains {"type": "redact_parameters", "names": ["password"]} if input.action == "gateway:tool:invoke"

obligations contains {"type": "clamp", "name": "limit", "maximum": 10} if input.tool_name == "search"
`;

const CONFIG: Json = {
  allowed_regions: ['us-east-1'],
  llm: { roles: { developer: { models: ['small-*'], max_tokens: 1000 }, hasty: { models: ['*'], max_tokens: null } } },
};

const NOW = Date.parse('2025-01-15T10:30:00Z');
let policy: PolicyDirectory;
let program: PolicyProgram;
let shipped: { config: Json };

beforeAll(async () => {
  if (NO_COMPILER !== null) return;
  shipped = JSON.parse(await readFile(join(POLICIES, 'data.json'), 'utf8')) as { config: Json };
  const breaks = Object.fromEntries(Object.entries(BREAKS).map(([layer, rego]) => [`break_${layer}.rego`, rego]));
  const limits = { ...(shipped.config.rate_limits as Json), roles: { hasty: 0 } };
  const access = { ...(shipped.config.tool_access as Json), hasty: { '*': { levels: ['low', 'medium'] } } };
  const levels = { low: [], medium: [], high: ['mfa'], critical: ['mfa'] };
  const config = { ...shipped.config, ...CONFIG, rate_limits: limits, tool_access: access, levels };
  policy = await policyDirectory({
    ...breaks,
    'open.rego': OPEN,
    'data.json': JSON.stringify({ ...shipped, config, open: false, broken: '' }),
  });
  program = await PolicyProgram.load(await readFile(join(policy.path, 'bundle/policy.wasm')), BUILTINS, DEFAULT_LIMITS);
}, 60_000);

afterAll(() => policy?.[Symbol.dispose]());

const host = (more: Json = {}, config: Json = {}) =>
  new PolicyHost(program, JSON.stringify({ ...shipped, config: { ...shipped.config, ...CONFIG, ...config }, ...more }));
const ask = (from: PolicyHost, document: Document) =>
  readVerdict(from.evaluate('portcullis/main/decision', document, NOW));

const tool = (): Document => policyInput({ role: 'developer', tool_type: 'query', sensitivity_level: 'low' });
const model = (): Document => ({
  ...tool(),
  ...{ action: 'llm:chat:create', server_name: null, tool_name: null, parameters: null, server: null as never },
  llm: { model: 'small-1', resolved_model: 'small-1', max_tokens: 1000, stream: false } as never,
  resource: { type: 'model', id: 'small-1', tenant_id: null as never, owner_id: null, permissions: null },
});

/** What makes one layer say no, and nothing else. */
interface Layer {
  readonly code: string;
  /** Kinds of calls it looks at. */
  readonly kinds: readonly ('tool' | 'model')[];
  against(document: Document): void;
}

const LAYERS: Readonly<Record<string, Layer>> = {
  base: {
    ...{ code: 'POLICY_DENIED', kinds: ['tool', 'model'] },
    against: (document) => {
      document.gateway_metadata.tool_type = 'mutation';
      if (document.llm !== null) Object.assign(document.llm, { model: 'large', resolved_model: 'large' });
      document.resource.id = 'large';
    },
  },
  rate: {
    ...{ code: 'RATE_LIMIT_EXCEEDED', kinds: ['tool', 'model'] },
    against: (document) => {
      document.rate_limit.count = 500;
    },
  },
  context: {
    ...{ code: 'REGION_DENIED', kinds: ['tool', 'model'] },
    against: (document) => {
      document.gateway_metadata.source_region = 'cn-north-1';
    },
  },
  depth: {
    ...{ code: 'POLICY_DENIED', kinds: ['tool', 'model'] },
    against: (document) => {
      document.delegation_depth = 6;
      document.delegation_chain = Array.from({ length: 6 }, (_, i) => ({ id: `agent-${i}` })) as never;
    },
  },
  data: {
    ...{ code: 'GDPR_VIOLATION', kinds: ['tool', 'model'] },
    against: (document) => {
      document.data_region = 'eu' as never;
    },
  },
  cost: {
    ...{ code: 'POLICY_DENIED', kinds: ['model'] },
    against: (document) => {
      Object.assign(document.llm as unknown as Json, { max_tokens: 1001 });
    },
  },
};

const KINDS = { tool, model } as const;
const single = Object.entries(LAYERS).flatMap(([name, layer]) =>
  layer.kinds.map((kind) => [name, kind, layer] as const),
);

describe.skipIf(NO_COMPILER !== null)('the layers of the policy', () => {
  test.each(single)('%s alone refuses a %s call that all others let pass', (name, kind, layer) => {
    verifies('SW-17');
    const document = KINDS[kind]();
    // An allow of one's own opens the base layer and no other.
    const opened = host({ open: name !== 'base' });
    expect(ask(opened, document)).toMatchObject({ allow: true, deny: [] });
    layer.against(document);
    const { allow, deny } = ask(opened, document);
    expect({ allow, codes: deny.map(({ code }) => code) }).toEqual({ allow: false, codes: [layer.code] });
  });

  test.each(['tool', 'model'] as const)(
    'let a %s call pass when all of them do, and in no other combination',
    (kind) => {
      verifies('SW-17');
      const layers = Object.values(LAYERS).filter(({ kinds }) => kinds.includes(kind));
      const from = host();
      for (let mask = 0; mask < 1 << layers.length; mask++) {
        const document = KINDS[kind]();
        const against = layers.filter((_, at) => (mask & (1 << at)) !== 0);
        for (const layer of against) layer.against(document);
        const { allow, deny } = ask(from, document);
        expect({ mask, allow }).toEqual({ mask, allow: mask === 0 });
        expect(deny.length > 0).toBe(mask !== 0);
      }
    },
  );

  test.each(Object.keys(BREAKS))('deny when %s breaks off, whatever else allows the call', (layer) => {
    verifies('SW-17');
    const document = layer === 'cost' ? model() : tool();
    if (layer === 'depth') document.delegation_depth = 1;
    for (const open of [true, false]) {
      const verdict = ask(host({ open, broken: layer }), document);
      // What broke off gives no decision at all, never the decision of the other layers.
      expect(verdict).toMatchObject({ allow: false, failure: 'abort' });
      expect(verdict.deny.map(({ code }) => code)).toEqual(['POLICY_EVALUATION_ERROR']);
    }
  });

  test.each([
    ['base', 'tool', { tool_access: 'everybody' }, {}],
    ['rate', 'tool', { rate_limits: 'many' }, {}],
    ['rate', 'model', { rate_limits: { default: '100', roles: {} } }, {}],
    ['context', 'tool', { allowed_regions: 'everywhere' }, {}],
    ['context', 'tool', { levels: { low: 'none' } }, { mfa: false }],
    ['depth', 'tool', { chain: { max_depth: 'any' } }, { depth: 1 }],
    ['data', 'tool', { gdpr: 'eu' }, { region: 'us' }],
    ['data', 'tool', { hipaa: { tags: 'phi' } }, { encrypted: false }],
    ['cost', 'model', { llm: { roles: { developer: { models: ['*'], max_tokens: '1000' } } } }, {}],
  ] as const)('deny when %s cannot read its data (%s call, %j)', (_layer, kind, config, facts: Json) => {
    verifies('SW-17');
    const document = KINDS[kind]();
    if (facts.depth !== undefined) document.delegation_depth = Number(facts.depth);
    if (facts.region !== undefined) document.data_region = facts.region as never;
    if (facts.encrypted !== undefined) document.gateway_metadata.encryption_enabled = false;
    if (facts.mfa !== undefined) document.user.mfa_verified = false;
    expect(ask(host(), document).allow).toBe(true);
    expect(ask(host({}, { ...config }), document).allow).toBe(false);
  });
});

/** Bodies that reached an upstream, as they came. */
const arrived: string[] = [];

describe.skipIf(NO_COMPILER !== null)('the layers at the front door', () => {
  let upstream: Service;
  let gateway: TestGateway;

  beforeAll(async () => {
    if (NO_COMPILER !== null) return;
    upstream = await startService(async (request, response) => {
      const body = await text(request);
      const { id, method } = JSON.parse(body) as { id?: number; method?: string };
      response.writeHead(200, { 'content-type': 'application/json' });
      if (method === undefined || method === 'tools/call') arrived.push(body);
      const result =
        method === 'server/discover'
          ? { supportedVersions: ['2026-07-28'], capabilities: {} }
          : { resultType: 'complete', content: [] };
      response.end(method === undefined ? '{"choices":[]}' : JSON.stringify({ jsonrpc: '2.0', id, result }));
    });
    const url = `${upstream.url}/mcp`;
    const tools = {
      search: { type: 'query', sensitivity: 'low' },
      deploy: { type: 'query', sensitivity: 'high' },
      write: { type: 'mutation', sensitivity: 'low' },
    } as const;
    gateway = await startGateway({
      regions: { '127.0.0.0/8': 'us-east-1' },
      servers: { here: { url, tools }, abroad: { url, tools, data_region: 'eu' } },
      models: { local: { url: `${upstream.url}/v1`, protocol: 'openai' } },
      routes: [{ match: '/v1', protocol: 'llm', model: 'local', identity: ['keys'] }],
      policy: { bundle: policy.path, watch: false },
    });
  });

  afterAll(async () => {
    await gateway?.[Symbol.asyncDispose]();
    await upstream?.[Symbol.asyncDispose]();
  });

  const invoke = (key: string, server_name: string, tool_name: string, parameters: object = {}) =>
    call(`${gateway.url}/tools/invoke`, { key, json: { server_name, tool_name, parameters } });
  const chat = (key: string, max_tokens: number) =>
    call(`${gateway.url}/v1/chat/completions`, {
      key,
      json: { model: 'small-1', max_tokens, messages: [{ role: 'user', content: 'hi' }] },
    });

  test('each keep a call from the upstream', async () => {
    verifies('SW-17');
    const [developer, admin, hasty] = [
      await gateway.key('developer'),
      await gateway.key('admin'),
      await gateway.key('hasty'),
    ];
    expect((await invoke(developer, 'here', 'search')).status).toBe(200);
    expect((await chat(developer, 1000)).status).toBe(200);
    expect(arrived).toHaveLength(2);
    const refused = await Promise.all([
      invoke(developer, 'here', 'write'),
      invoke(hasty, 'here', 'search'),
      invoke(admin, 'here', 'deploy'),
      invoke(developer, 'abroad', 'search'),
      chat(developer, 1001),
    ]);
    expect(refused.map(({ status }) => status)).toEqual([403, 429, 403, 403, 403]);
    const codes = refused.map(({ text: body }) => /[A-Z]+_[A-Z_]+/.exec(body)?.[0]);
    expect(codes.slice(0, 4)).toEqual(['POLICY_DENIED', 'RATE_LIMIT_EXCEEDED', 'MFA_REQUIRED', 'GDPR_VIOLATION']);
    expect(refused[4]?.text).toContain('max_tokens of at most 1000');
    expect(arrived).toHaveLength(2);
  });

  test('forward what they filtered, byte for byte', async () => {
    verifies('SW-17', 'SW-12');
    const key = await gateway.key('developer');
    const asker = await gateway.key('developer', { permissions: ['gateway:authorize'] });
    const parameters = {
      q: 'ü "x"',
      password: 'p',
      limit: 500,
      deep: [{ Password: 'p', kept: [1.5, null] }],
      last: true,
    };
    const question = { action: 'gateway:tool:invoke', server_name: 'here', tool_name: 'search', parameters };
    const { body } = await call(`${gateway.url}/api/v1/gateway/authorize`, { key: asker, json: question });
    const { filtered_parameters: filtered } = body as { filtered_parameters: unknown };
    expect(filtered).toEqual({ q: 'ü "x"', limit: 10, deep: [{ kept: [1.5, null] }], last: true });
    expect((await invoke(key, 'here', 'search', parameters)).status).toBe(200);
    expect(arrived.at(-1)).toContain(`"arguments":${JSON.stringify(filtered)}`);
  });
});

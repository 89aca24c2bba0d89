/** P4, P5 and P7 of docs/performance.md: decisions in one process, ours beside the public SDK on the same module and input. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { loadPolicy } from '@open-policy-agent/opa-wasm';
import type { ServerFacts } from '../src/classification/classifier.ts';
import type { ClassifiedCall } from '../src/core/call.ts';
import { systemClock } from '../src/core/clock.ts';
import type { DecisionRequest } from '../src/core/decision.ts';
import { NO_APPROVAL } from '../src/core/decision.ts';
import { makePrincipal } from '../src/core/principal.ts';
import type { PolicyEngine } from '../src/policy/engine.ts';
import { buildInput } from '../src/policy/input.ts';
import { createPolicyEngine } from '../src/policy/opa-engine.ts';
import type { Effort } from './proxy.ts';
import { median } from './report.ts';

const POLICIES = join(import.meta.dirname, '../policies');
const quiet = { debug() {}, info() {}, warn() {}, error() {} };

const server: ServerFacts = {
  name: 'orders',
  type: 'sql',
  dialect: 'sqlite',
  environment: 'staging',
  region: 'eu-west-1',
  data_region: null,
  tags: [],
  owner_team: 'data',
  enabled: true,
  description: 'Orders of the shop',
  sensitivity_level: null,
  sensitivity_floor: null,
  tools: {},
  allow: [],
};

const principal = makePrincipal(
  { id: 'dev-1', tenant_id: 'acme', roles: ['developer'], teams: ['bi'], email: 'dev@example.com', tenure_months: 7 },
  'staff',
  'bearer',
);

function call(tool: string): ClassifiedCall {
  return {
    action: 'gateway:tool:invoke',
    server: 'orders',
    tool,
    parameters: { query: 'SELECT id, customer, total FROM orders WHERE id = 7' },
    annotations: null,
    schema_hash: null,
    resource: { type: 'tool', id: `orders:${tool}`, tenant_id: 'acme', owner_id: null, permissions: null },
    llm: null,
    classification: { tool_type: 'query', sensitivity_level: 'low', reasons: ['sql:select'], resources: ['orders'] },
  };
}

const request = (tool: string): DecisionRequest => ({
  facts: {
    request_id: 'req_bench',
    now: Date.now(),
    endpoint: '/mcp/orders',
    source_ip: '203.0.113.7',
    source_region: 'eu-west-1',
    user_agent: 'bench',
    encryption_enabled: true,
    rate: { window_seconds: 60, count: 12 },
    approval: NO_APPROVAL,
  },
  principal,
  call: call(tool),
  entrypoint: null,
});

const engine = (entries: number): Promise<PolicyEngine> =>
  createPolicyEngine({
    bundleDir: POLICIES,
    dataFile: null,
    entrypoint: 'portcullis/main/decision',
    clock: systemClock,
    cache: { entries, base_ttl_ms: 60_000 },
    servers: new Map([['orders', server]]),
    decisionLog: null,
    logger: quiet,
  });

/** Microseconds per call of each function: rounds interleaved, median of rounds. */
function time(cases: Readonly<Record<string, () => unknown>>, { seconds, rounds }: Effort): Record<string, number[]> {
  const samples: Record<string, number[]> = {};
  for (const name in cases) for (let i = 0; i < 3000; i++) cases[name]?.();
  for (let round = 0; round < rounds; round++) {
    for (const [name, run] of Object.entries(cases)) {
      const until = performance.now() + (seconds * 1000) / Object.keys(cases).length;
      let calls = 0;
      const start = performance.now();
      while (performance.now() < until) {
        for (let i = 0; i < 50; i++) run();
        calls += 50;
      }
      samples[name] = [...(samples[name] ?? []), ((performance.now() - start) * 1000) / calls];
    }
  }
  return samples;
}

interface DecideRow {
  readonly name: string;
  readonly micros: number;
  readonly ratio: number;
}

export async function decideLane(effort: Effort): Promise<{ rows: DecideRow[]; text: string }> {
  await using stack = new AsyncDisposableStack();
  const uncached = await engine(0);
  stack.defer(() => uncached.close());
  const cached = await engine(10_000);
  stack.defer(() => cached.close());
  const sdk = await loadPolicy(
    readFileSync(join(POLICIES, 'bundle/policy.wasm')),
    {
      initial: 20,
    },
    sdkTime(),
  );
  sdk.setData(JSON.parse(readFileSync(join(POLICIES, 'data.json'), 'utf8')) as object);
  const one = request('execute_query');
  const document = buildInput(one, server);
  // As tools/list asks: one caller, one instant, no arguments yet.
  const many = Array.from({ length: 100 }, (_, i) => ({
    ...one,
    call: { ...call(`tool_${i}`), action: 'gateway:tool:discover' as const, parameters: null },
  }));
  const shown = uncached.decideMany(many).filter(({ allow }) => allow).length;
  if (shown !== many.length) throw new Error(`${shown} of ${many.length} tools are shown`);
  const samples = time(
    {
      'SDK evaluate(), same module and input': () => sdk.evaluate(document, 'portcullis/main/decision'),
      'one decision, not cached': () => uncached.decide(one),
      'one decision, cached': () => cached.decide(one),
      '100 single decisions, not cached': () => many.map((each) => uncached.decide(each)),
      '100 tools in one evaluation': () => uncached.decideMany(many),
    },
    effort,
  );
  const base = median(samples['SDK evaluate(), same module and input'] ?? []);
  const rows = Object.entries(samples).map(([name, micros]) => ({
    name,
    micros: median(micros),
    ratio: median(micros) / base,
  }));
  const lines = rows.map(
    ({ name, micros, ratio }) =>
      `| ${name} | ${micros.toFixed(2)} | ${ratio.toFixed(3)} | ${Math.round(1e6 / micros)} |`,
  );
  const text = ['| what | µs | × SDK | per second, one core |', '|---|---|---|---|', ...lines].join('\n');
  return { rows, text: `${text}\n\ninput document: ${JSON.stringify(document).length} bytes` };
}

/** What the SDK lacks and our policies call. */
function sdkTime(): Record<string, (...args: never[]) => unknown> {
  return {
    'time.now_ns': () => Date.now() * 1e6,
    'time.clock': (ns: number) => {
      const date = new Date(ns / 1e6);
      return [date.getUTCHours(), date.getUTCMinutes(), date.getUTCSeconds()];
    },
    'time.weekday': (ns: number) =>
      new Date(ns / 1e6).toLocaleDateString('en-US', { weekday: 'long', timeZone: 'UTC' }),
  };
}

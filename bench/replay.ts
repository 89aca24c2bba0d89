/** `policy replay`: decisions a second on one core, with a log of inputs that are all different. */

import { once } from 'node:events';
import { createWriteStream, mkdtempSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { ServerFacts } from '../src/classification/classifier.ts';
import { type DecisionRequest, NO_APPROVAL } from '../src/core/decision.ts';
import { makePrincipal, type Principal } from '../src/core/principal.ts';
import { loadBundle } from '../src/policy/bundle.ts';
import { buildInput } from '../src/policy/input.ts';
import { shapeFor } from '../src/policy/input-shape.ts';
import { eventOf } from '../src/policy/log-event.ts';
import { replay } from '../src/policy/replay/replay.ts';
import { readVerdict } from '../src/policy/result.ts';
import { BUILTINS } from '../src/policy/wasm/builtins.ts';
import { PolicyHost } from '../src/policy/wasm/host.ts';
import { DEFAULT_LIMITS, PolicyProgram } from '../src/policy/wasm/program.ts';

const POLICIES = join(import.meta.dirname, '../policies');
const ENTRYPOINT = 'portcullis/main/decision';
const ROLES = ['admin', 'developer', 'analyst', 'data_engineer', 'guest'];
const TYPES = ['query', 'mutation', 'admin', 'export'] as const;
const LEVELS = ['low', 'medium', 'high', 'critical'] as const;
const START = Date.UTC(2026, 0, 5, 8);

/** 500 callers, 20 servers, 40 tools, a statement of its own in every call, one call each 50 ms. */
function requestAt(i: number, callers: readonly Principal[]): DecisionRequest {
  const tool = `tool_${i % 40}`;
  return {
    facts: {
      request_id: `req_${i.toString(36).padStart(12, '0')}`,
      now: START + i * 50,
      endpoint: `/mcp/server-${i % 20}`,
      source_ip: `10.${(i >> 16) & 255}.${(i >> 8) & 255}.${i & 255}`,
      source_region: 'eu-west-1',
      user_agent: 'agent/1.0',
      encryption_enabled: true,
      rate: { window_seconds: 60, count: i % 90 },
      approval: NO_APPROVAL,
    },
    principal: callers[(i * 7919) % callers.length] ?? makePrincipal({ id: 'x' }, 'staff', 'bearer'),
    call: {
      action: 'gateway:tool:invoke',
      server: `server-${i % 20}`,
      tool,
      parameters: { query: `SELECT id, customer, total FROM orders WHERE id = ${i}`, limit: i % 100 },
      annotations: null,
      schema_hash: null,
      resource: { type: 'tool', id: `server-${i % 20}:${tool}`, tenant_id: 'acme', owner_id: null, permissions: null },
      llm: null,
      classification: {
        tool_type: TYPES[i % 4] ?? 'query',
        sensitivity_level: LEVELS[(i >> 2) % 4] ?? 'low',
        reasons: ['sql:select'],
        resources: ['orders'],
      },
    },
    entrypoint: null,
  };
}

function serverAt(i: number): ServerFacts {
  return {
    name: `server-${i}`,
    type: 'sql',
    dialect: 'sqlite',
    environment: i % 3 === 0 ? 'production' : 'staging',
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
}

/** Writes a log of `count` decisions, made by the policies of the repository. */
export async function writeReplayLog(file: string, count: number): Promise<void> {
  const bundle = await loadBundle({ bundleDir: POLICIES, dataFile: null });
  const host = new PolicyHost(await PolicyProgram.load(bundle.wasm, BUILTINS, DEFAULT_LIMITS), bundle.dataText);
  const shape = shapeFor(bundle.readSet, false);
  const servers = Array.from({ length: 20 }, (_, i) => serverAt(i));
  const callers = Array.from({ length: 500 }, (_, i) =>
    makePrincipal(
      {
        id: `user-${i}`,
        tenant_id: 'acme',
        roles: [ROLES[i % 5] ?? ''],
        teams: [`team-${i % 30}`],
        email: `u${i}@example.com`,
      },
      'staff',
      'bearer',
    ),
  );
  const out = createWriteStream(file);
  for (let i = 0; i < count; i++) {
    const request = requestAt(i, callers);
    const input = buildInput(request, servers[i % 20] ?? null);
    const verdict = readVerdict(host.evaluate(ENTRYPOINT, input, request.facts.now, shape));
    const decision = {
      decision_id: `dec_${i.toString(36).padStart(12, '0')}`,
      ...verdict,
      revision: bundle.revision,
      cached: false,
      eval_us: 9,
    };
    const event = eventOf({ decision, request, entrypoint: ENTRYPOINT, input });
    if (!out.write(`${JSON.stringify(event)}\n`)) await once(out, 'drain');
  }
  out.end();
  await once(out, 'finish');
}

export interface ReplayRow {
  readonly events: number;
  readonly megabytes: number;
  readonly seconds: number;
  readonly cpuSeconds: number;
  readonly perSecond: number;
  readonly rssMegabytes: number;
  readonly differing: number;
}

/** Figures of one run in this thread; `seconds` of effort scale the log: 4 and more replay a million decisions. */
export async function replayLane(
  seconds: number,
  say: (line: string) => void,
): Promise<{ row: ReplayRow; text: string }> {
  const count = seconds >= 4 ? 1_000_000 : 20_000;
  const folder = mkdtempSync(join(tmpdir(), 'portcullis-replay-'));
  try {
    const file = join(folder, 'decisions.jsonl');
    say(`replay: writing ${count} decisions …`);
    await writeReplayLog(file, count);
    const bundle = await loadBundle({ bundleDir: POLICIES, dataFile: null });
    say('replay: deciding them again …');
    const cpu = process.cpuUsage();
    const started = performance.now();
    const tally = await replay(bundle, file, 'lines');
    const took = (performance.now() - started) / 1000;
    const { user, system } = process.cpuUsage(cpu);
    const row = {
      events: tally.replayed,
      megabytes: Math.round(statSync(file).size / 1e6),
      seconds: took,
      cpuSeconds: (user + system) / 1e6,
      perSecond: Math.round(tally.replayed / took),
      rssMegabytes: Math.round(process.memoryUsage.rss() / 1e6),
      differing: tally.replayed - tally.same,
    };
    const text = [
      '| events | log MB | s | CPU s | events/s, one thread | RSS MB |',
      '|---|---|---|---|---|---|',
      `| ${row.events} | ${row.megabytes} | ${took.toFixed(1)} | ${row.cpuSeconds.toFixed(1)} | ${row.perSecond} | ${row.rssMegabytes} |`,
    ].join('\n');
    return { row, text };
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

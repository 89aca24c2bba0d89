/** `npm run bench [-- LANE…] [--seconds N] [--rounds N]`: prints tables and writes bench/results. */
import { parseArgs } from 'node:util';
import { decideLane } from './decide.ts';
import { enginesLane } from './engines.ts';
import { identityLane } from './identity.ts';
import type { Effort } from './proxy.ts';
import { chatLane, toolLane } from './proxy.ts';
import { replayLane } from './replay.ts';
import type { Row } from './report.ts';
import { save, table } from './report.ts';

const HELP = `Usage: npm run bench -- [proxy] [decide] [engines] [identity] [replay] [--seconds N] [--rounds N]

  proxy    tools/call and chat/completions: CPU per request beside the floor, nginx, haproxy, Portkey
  decide   one decision in process: our host, its cache, the public SDK
  engines  the same policy in our host, the SDK, cedar-wasm, casbin, oso, OPA's Go engine
  identity a token seen for the first time and again, beside jose alone
  replay   a decision log decided again, on one thread: a million events from --seconds 4 on
Without a lane all of them run. Needs Linux and wrk; other contenders are skipped when missing.
`;

const { values, positionals } = parseArgs({
  options: {
    seconds: { type: 'string', default: '4' },
    rounds: { type: 'string', default: '5' },
    help: { type: 'boolean', short: 'h' },
  },
  allowPositionals: true,
});

async function main(): Promise<void> {
  if (values.help) return void process.stdout.write(HELP);
  const lanes = positionals.length > 0 ? positionals : ['proxy', 'decide', 'engines', 'identity', 'replay'];
  const effort: Effort = { seconds: Number(values.seconds), rounds: Number(values.rounds) };
  const say = (line: string) => void process.stderr.write(`${line}\n`);
  const rows: Row[] = [];
  const results: Record<string, unknown> = {};
  for (const lane of lanes) {
    if (lane === 'proxy') {
      for (const run of [toolLane, chatLane]) {
        const measured = await run(effort, say);
        rows.push(...measured);
        process.stdout.write(`\n### ${measured[0]?.lane ?? lane}\n\n${table(measured)}\n`);
      }
    } else if (lane === 'decide') {
      const decided = await decideLane(effort);
      results.decide = decided.rows;
      process.stdout.write(`\n### decide\n\n${decided.text}\n`);
    } else if (lane === 'engines') {
      const engines = await enginesLane(effort, say);
      results.engines = engines.rows;
      process.stdout.write(`\n### engines\n\n${engines.text}\n`);
    } else if (lane === 'identity') {
      const identity = await identityLane(effort);
      results.identity = identity.rows;
      process.stdout.write(`\n### identity\n\n${identity.text}\n`);
    } else if (lane === 'replay') {
      const replayed = await replayLane(effort.seconds, say);
      results.replay = replayed.row;
      process.stdout.write(`\n### replay\n\n${replayed.text}\n`);
    } else throw new Error(`no lane "${lane}"; see --help`);
  }
  say(`written to ${save(results, rows)}`);
}

await main();

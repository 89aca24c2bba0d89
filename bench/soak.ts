/** `npm run soak -- policy [--count N]`: long runs that look for what only shows after a while. Exits with 1 on a fault. */
import { parseArgs } from 'node:util';
import { growth, soakPolicy } from './soak-policy.ts';

const HELP = `Usage: npm run soak -- policy [--count N]

  policy   N (default 1000000) good and hostile evaluations mixed: none wrong, nothing thrown, memory flat
`;
/** Megabytes that memory may differ by between the halves of a run. */
const FLAT = 48;

const { values, positionals } = parseArgs({
  options: { count: { type: 'string', default: '1000000' }, help: { type: 'boolean', short: 'h' } },
  allowPositionals: true,
});

if (values.help || positionals[0] !== 'policy') {
  process.stdout.write(HELP);
  process.exitCode = values.help ? 0 : 2;
} else {
  const report = await soakPolicy(Number(values.count), (text) => process.stderr.write(`${text}\n`));
  const grown = growth(report);
  const { evaluations, good, hostile, wrong, thrown, seconds } = report;
  process.stdout.write(
    `${evaluations} evaluations in ${seconds.toFixed(1)} s: ${good} good, ${wrong} of them wrong; ${hostile} hostile, ${thrown} threw\n` +
      `hostile ones became: ${JSON.stringify(report.outcomes)}\n` +
      `resident MB over time: ${report.rss.join(' ')}; second half against second quarter: ${grown >= 0 ? '+' : ''}${grown}\n`,
  );
  process.exitCode = wrong === 0 && thrown === 0 && grown <= FLAT ? 0 : 1;
}

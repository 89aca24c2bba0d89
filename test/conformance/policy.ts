/**
 * `npm run policy:conformance [WORD]`: every conformance case of the pinned OPA through our host, or those whose file or
 * note contains WORD. Prints passed, failed and unsupported by name of builtin. Exits with 1 when a supported one fails.
 */
import { openSuite, runCases } from './policy-cases.ts';

const suite = await openSuite();
if ('missing' in suite) {
  console.error(suite.missing);
  process.exit(1);
}
const [word] = process.argv.slice(2);
const cases = suite.cases.filter((one) => word === undefined || `${one.file} ${one.note}`.includes(word));
const counts = { passed: 0, failed: 0, unsupported: 0, 'not applicable': 0 };
const byBuiltin = new Map<string, number>();
const byReason = new Map<string, number>();
const add = (map: Map<string, number>, name: string) => map.set(name, (map.get(name) ?? 0) + 1);
await runCases(suite, cases, (one, result) => {
  counts[result.kind]++;
  if (result.kind === 'unsupported') add(byBuiltin, result.builtins.join(' + '));
  if (result.kind === 'not applicable') add(byReason, result.reason);
  if (result.kind !== 'failed') return;
  const wanted = one.want_error ?? one.want_error_code ?? one.want_defined ?? one.want_result;
  console.log(`${one.file}: ${one.note}\n  wanted ${JSON.stringify(wanted)}\n  got    ${result.got.slice(0, 600)}`);
});
await suite.close();
const table = (map: Map<string, number>) =>
  [...map]
    .sort((a, b) => b[1] - a[1])
    .map(([name, count]) => `  ${String(count).padStart(4)}  ${name}`)
    .join('\n');
console.log(`${cases.length} cases: ${counts.passed} passed, ${counts.failed} failed`);
console.log(`${counts.unsupported} unsupported, refused at load by the name of a builtin:\n${table(byBuiltin)}`);
console.log(`${counts['not applicable']} not applicable:\n${table(byReason)}`);
process.exitCode = counts.failed === 0 ? 0 : 1;

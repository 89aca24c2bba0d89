/**
 * Prints which acceptance lines the tests of this run cite, and ends the run with the plain count that CI reads.
 * A cited id that does not exist fails in `verifies` itself.
 */
import { globSync, readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import type { Reporter, TestCase, TestModule } from 'vitest/node';
import { REQUIREMENTS } from '../requirements.ts';
import { ATTACKED, type Attacked } from './attacks.ts';

/** `SF-12` -> `SF`. */
const familyOf = (id: string) => id.slice(0, id.indexOf('-'));

/** Ids cited by `verifies('…', …)` in a source text. */
export function citedIds(text: string): string[] {
  return [...text.matchAll(/\bverifies\(([^)]*)\)/g)].flatMap((call) =>
    [...(call[1] ?? '').matchAll(/['"]([A-Z]{1,2}-\d+)['"]/g)].map((id) => id[1] ?? ''),
  );
}

/** The text of a test file, and of the contract suites that it runs. */
function textsOf(file: string): string[] {
  const text = readFileSync(file, 'utf8');
  const suites = [...text.matchAll(/from '([./]+\/contract\/[\w-]+\.ts)'/g)].map(([, path = '']) => path);
  return [text, ...suites.map((path) => readFileSync(join(dirname(file), path), 'utf8'))];
}

export function coverageTable(cited: ReadonlySet<string>): string {
  const families = new Map<string, { all: number; cited: string[] }>();
  for (const id of Object.keys(REQUIREMENTS)) {
    const family = families.get(familyOf(id)) ?? { all: 0, cited: [] };
    family.all += 1;
    if (cited.has(id)) family.cited.push(id.slice(id.indexOf('-') + 1));
    families.set(familyOf(id), family);
  }
  const lines = ['Acceptance lines cited by tests (docs/acceptance.md):'];
  for (const [name, { all, cited: ids }] of families) {
    lines.push(`  ${name.padEnd(3)} ${String(ids.length).padStart(3)} of ${String(all).padStart(3)}  ${ids.join(' ')}`);
  }
  return lines.join('\n');
}

export interface Attacks {
  /** Attacks that were replayed. */
  count: number;
  /** Tests that failed in the files that replay them: at least one attack got through, or was not tried. */
  failed: number;
}

/** One line for each of what is attacked; the last figure is what a whole run has at least. */
export function attackTable(found: ReadonlyMap<Attacked, Attacks>): string {
  const lines = ['Attacks replayed (test/corpus), and tests that failed beside them:'];
  for (const [on, least] of Object.entries(ATTACKED) as [Attacked, number][]) {
    const { count, failed } = found.get(on) ?? { count: 0, failed: 0 };
    lines.push(`  ${on.padEnd(31)} ${String(count).padStart(4)}, failed ${failed} (at least ${least})`);
  }
  return lines.join('\n');
}

/** What a whole run replayed too little of. Nothing at all means that it cannot run here, and was skipped with a word. */
export function tooFew(found: ReadonlyMap<Attacked, Attacks>): string[] {
  return [...found].filter(([on, { count }]) => count < ATTACKED[on]).map(([on]) => on);
}

/** Adds what the tests of one file said. */
function addAttacks(found: Map<Attacked, Attacks>, tests: readonly TestCase[]): void {
  const failed = tests.filter((test) => test.result().state === 'failed').length;
  const said = tests.map((test) => test.meta().attacks).filter((one) => one !== undefined);
  for (const on of new Set(said.map((one) => one.on))) {
    const known = found.get(on) ?? { count: 0, failed: 0 };
    const count = said.filter((one) => one.on === on).reduce((sum, one) => sum + one.count, 0);
    found.set(on, { count: known.count + count, failed: known.failed + failed });
  }
}

export default class CoverageReporter implements Reporter {
  onTestRunEnd(modules: readonly TestModule[]): void {
    const count = { passed: 0, failed: 0, skipped: 0 };
    const cited = new Set<string>();
    const attacks = new Map<Attacked, Attacks>();
    for (const module of modules) {
      if (module.state() === 'failed' && [...module.children.allTests()].length === 0) count.failed += 1;
      for (const test of module.children.allTests()) {
        const { state } = test.result();
        if (state !== 'pending') count[state] += 1;
      }
      addAttacks(attacks, [...module.children.allTests()]);
      for (const text of textsOf(module.moduleId)) for (const id of citedIds(text)) cited.add(id);
    }
    process.stdout.write(`\n${coverageTable(cited)}\n\n`);
    if (attacks.size > 0) process.stdout.write(`${attackTable(attacks)}\n\n`);
    const isWhole = modules.length === globSync('**/*.test.ts', { cwd: join(import.meta.dirname, '..') }).length;
    const short = isWhole ? tooFew(attacks) : [];
    if (short.length > 0) {
      process.stdout.write(`Fewer attacks than there were: ${short.join(', ')}\n\n`);
      count.failed += 1;
      process.exitCode = 1;
    }
    // The very last line, after everything vitest itself prints.
    process.once('exit', () => {
      process.stdout.write(`${count.passed} passed, ${count.failed} failed, ${count.skipped} skipped\n`);
    });
  }
}

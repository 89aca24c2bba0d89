/**
 * Prints which acceptance lines the tests of this run cite, and ends the run with the plain count that CI reads.
 * A cited id that does not exist fails in `verifies` itself.
 */
import { readFileSync } from 'node:fs';
import type { Reporter, TestModule } from 'vitest/node';
import { REQUIREMENTS } from '../requirements.ts';

/** `SF-12` -> `SF`. */
const familyOf = (id: string) => id.slice(0, id.indexOf('-'));

/** Ids cited by `verifies('…', …)` in a source text. */
export function citedIds(text: string): string[] {
  return [...text.matchAll(/\bverifies\(([^)]*)\)/g)].flatMap((call) =>
    [...(call[1] ?? '').matchAll(/['"]([A-Z]{1,2}-\d+)['"]/g)].map((id) => id[1] ?? ''),
  );
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

export default class CoverageReporter implements Reporter {
  onTestRunEnd(modules: readonly TestModule[]): void {
    const count = { passed: 0, failed: 0, skipped: 0 };
    const cited = new Set<string>();
    for (const module of modules) {
      if (module.state() === 'failed' && [...module.children.allTests()].length === 0) count.failed += 1;
      for (const test of module.children.allTests()) {
        const { state } = test.result();
        if (state !== 'pending') count[state] += 1;
      }
      for (const id of citedIds(readFileSync(module.moduleId, 'utf8'))) cited.add(id);
    }
    process.stdout.write(`\n${coverageTable(cited)}\n\n`);
    // The very last line, after everything vitest itself prints.
    process.once('exit', () => {
      process.stdout.write(`${count.passed} passed, ${count.failed} failed, ${count.skipped} skipped\n`);
    });
  }
}

/** The same proof as `wrong-orders.ts`, asked of the compiler directly. */
import { spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';

test('forwarding a classified but undecided request does not compile', { timeout: 60_000 }, () => {
  const root = join(import.meta.dirname, '../../..');
  const dir = mkdtempSync(join(root, 'node_modules/.types-'));
  try {
    writeFileSync(
      join(dir, 'wrong.ts'),
      `import type { Classified } from '../../src/core/exchange.ts';
       import type { Forwarding } from '../../src/pipeline/stages/forward.ts';
       import { forward } from '../../src/pipeline/stages/forward.ts';
       export const wrong = (f: Forwarding, c: Classified) => forward(f, c);`,
    );
    writeFileSync(
      join(dir, 'tsconfig.json'),
      JSON.stringify({ extends: '../../tsconfig.json', include: ['./wrong.ts'], exclude: [] }),
    );
    const compiled = spawnSync(join(root, 'node_modules/.bin/tsc'), ['-p', dir], { encoding: 'utf8' });
    expect(compiled.status).not.toBe(0);
    expect(compiled.stdout).toMatch(/wrong\.ts[^\n]*Classified[\s\S]*Permitted/);
  } finally {
    rmSync(dir, { recursive: true, force: true });
  }
});

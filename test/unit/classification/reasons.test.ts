import { readdirSync, readFileSync } from 'node:fs';
import { expect, test } from 'vitest';
import { REASONS } from '../../../src/classification/reasons.ts';

const root = new URL('../../../', import.meta.url);

test('docs/classification.md lists the reason ids of the code, no more and no less', () => {
  const text = readFileSync(new URL('docs/classification.md', root), 'utf8');
  const rows = [...text.matchAll(/^\| `([a-z0-9:-]+)` \| (.+) \|$/gm)].map(([, id, meaning]) => [id, meaning]);
  expect(rows).toEqual(Object.entries(REASONS));
});

test('every reason id is given by some classifier', () => {
  const directory = new URL('src/classification/', root);
  const sources = readdirSync(directory, { recursive: true, encoding: 'utf8' })
    .filter((file) => file.endsWith('.ts') && file !== 'reasons.ts')
    .map((file) => readFileSync(new URL(file, directory), 'utf8'))
    .join('\n');
  expect(Object.keys(REASONS).filter((id) => !sources.includes(`'${id}'`))).toEqual([]);
});

import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { canonicalTarget } from '../../../src/http/path.ts';
import { verifies } from '../../helpers/verifies.ts';

const corpus = JSON.parse(readFileSync(join(import.meta.dirname, '../../corpus/http/paths.json'), 'utf8')) as {
  readonly refused: readonly string[];
  readonly canonical: Readonly<Record<string, string>>;
};

describe('the canonical path', () => {
  verifies('X-04', 'HF-15');

  test('at least 27 ambiguous spellings are tried', () => {
    expect(corpus.refused.length).toBeGreaterThanOrEqual(27);
  });

  test.each(corpus.refused)('%j is refused', (target) => {
    expect(canonicalTarget(target)).toMatchObject({ ok: false });
  });

  test.each(Object.entries(corpus.canonical))('%j is %j', (target, path) => {
    expect(canonicalTarget(target)).toEqual({ ok: true, path, query: '' });
  });

  test('the query is kept as it is', () => {
    expect(canonicalTarget('/a%2eb?x=%2F&y=//&z=%zz')).toEqual({ ok: true, path: '/a.b', query: '?x=%2F&y=//&z=%zz' });
    expect(canonicalTarget('/a?')).toEqual({ ok: true, path: '/a', query: '?' });
  });

  test('a canonical path is its own canonical path, and decodes to the same text once or twice', () => {
    const piece = fc.oneof(
      fc.constantFrom(
        '/',
        '.',
        '%',
        '%2e',
        '%2f',
        '%25',
        '%5c',
        ';',
        '\\',
        '%c3%a9',
        '%2b',
        '+',
        ' ',
        '%20',
        'a',
        '%41',
        '%7e',
        '?',
      ),
      fc.string({ maxLength: 3 }),
    );
    fc.assert(
      fc.property(fc.array(piece, { maxLength: 12 }), (pieces) => {
        const first = canonicalTarget(`/${pieces.join('')}`);
        if (!first.ok) return;
        expect(canonicalTarget(first.path)).toEqual({ ok: true, path: first.path, query: '' });
        const once = decodeURIComponent(first.path);
        expect(once.split('/')).toHaveLength(first.path.split('/').length);
        expect(once).not.toMatch(/\/\/|[\\;?#]|\/\.{1,2}(\/|$)|%[0-9a-fA-F]{2}/);
      }),
      { numRuns: 5000 },
    );
  });
});

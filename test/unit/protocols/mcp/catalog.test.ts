import { expect, test } from 'vitest';
import type { JsonValue } from '../../../../src/core/json.ts';
import { ToolCatalog } from '../../../../src/protocols/mcp/catalog.ts';

function hashOf(inside: JsonValue, depth: number): string | undefined {
  let schema = inside;
  for (let at = 0; at < depth; at++) schema = { not: schema };
  return new ToolCatalog().record('orders', { name: 'wipe', inputSchema: schema })?.schema_hash;
}

test('a definition is another one wherever it differs, however far inside', () => {
  for (const depth of [0, 63, 64, 65, 500]) {
    expect(hashOf({ const: 'one row' }, depth), String(depth)).not.toBe(hashOf({ const: 'all rows' }, depth));
    expect(hashOf({ const: 'one row' }, depth), String(depth)).toBe(hashOf({ const: 'one row' }, depth));
  }
});

test('a definition too deep to be written is never the one that was approved', () => {
  expect(hashOf({}, 100_000)).not.toBe(hashOf({}, 100_000));
});

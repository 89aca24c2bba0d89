import { readFileSync } from 'node:fs';
import { beforeAll, describe, expect, test } from 'vitest';
import type { ServerFacts } from '../../../src/classification/classifier.ts';
import { verifies } from '../../helpers/verifies.ts';
import { makeCall, makeRegistry, makeServer, spell } from './registry-fixture.ts';

interface Row {
  readonly server_type?: string;
  readonly tool_name: string;
  readonly parameters: unknown;
  readonly dialect?: string;
  readonly server?: Partial<ServerFacts>;
  readonly expect: readonly [string, string];
}

const load = (name: string): readonly Row[] =>
  JSON.parse(readFileSync(new URL(`../../corpus/classification/${name}.json`, import.meta.url), 'utf8')) as Row[];

const registry = makeRegistry();
beforeAll(() => registry.prepare(['postgres', 'mysql', 'tsql']));

function wrong(rows: readonly Row[], type: string): string[] {
  const found: string[] = [];
  for (const row of rows) {
    const server = makeServer({ type: row.server_type ?? type, dialect: row.dialect ?? null, ...row.server });
    const got = spell(registry.classify(makeCall(row.tool_name, row.parameters), server));
    if (got !== row.expect.join('/'))
      found.push(
        `${server.type} ${row.tool_name} ${JSON.stringify(row.parameters)}: ${got}, not ${row.expect.join('/')}`,
      );
  }
  return found;
}

describe('the golden table', () => {
  test('every row of it is answered as it must be', () => {
    verifies('S-13', 'S-14', 'S-16', 'S-20', 'S-21', 'SF-01', 'SF-02', 'SF-03', 'SF-07', 'SF-08', 'SF-09');
    expect(wrong(load('golden'), 'sql')).toEqual([]);
  });

  test.each(['file', 'api', 'k8s', 'llm'])('the corpus of %s calls is classified without one error', (type) => {
    verifies('S-12', 'S-17', 'S-18', 'S-19', 'SF-04', 'SF-05', 'SF-06');
    const rows = load(type);
    expect(rows.length).toBeGreaterThanOrEqual(60);
    expect(wrong(rows, type)).toEqual([]);
  });
});

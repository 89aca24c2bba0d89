/** `policies/input.schema.json` is what `buildInput` builds: the same members everywhere, of the types it names. */
import { readFileSync } from 'node:fs';
import { describe, expect, test } from 'vitest';
import { z } from 'zod';
import type { JsonObject, JsonValue } from '../../../src/core/json.ts';
import { makePrincipal } from '../../../src/core/principal.ts';
import { buildBatchInput, buildInput, GATEWAY_VERSION } from '../../../src/policy/input.ts';
import { makeRequest, makeServer } from './requests.ts';

const read = (path: string) => JSON.parse(readFileSync(new URL(`../../../${path}`, import.meta.url), 'utf8'));

interface Schema {
  readonly properties?: Readonly<Record<string, Schema>>;
  readonly required?: readonly string[];
}
const schema = read('policies/input.schema.json') as Schema;
const checked = z.fromJSONSchema(schema as Parameters<typeof z.fromJSONSchema>[0]);

const person = makePrincipal(
  {
    ...{ id: 'x', email: 'x@example.com', username: 'x', roles: ['admin'], teams: ['a'], groups: ['g'], scopes: ['s'] },
    ...{ permissions: ['p'], tenure_months: 3, device_compliant: true, metadata: { a: '1' } },
    auth: { mfa_verified: true, mfa_at: 1_736_936_000, session_id: 's', key_id: 'k' },
  },
  'staff',
  'bearer',
);
const server = makeServer({
  tags: ['phi'],
  owner_team: 'a',
  description: 'd',
  sensitivity_level: 'high',
  data_region: 'eu',
});
const DOCUMENTS = {
  plain: buildInput(makeRequest(), makeServer()),
  full: buildInput(makeRequest({ principal: person, call: { schema_hash: 'sha256:00' } }), server),
  'without server or tool': buildInput(makeRequest({ call: { server: null, tool: null, parameters: null } }), null),
  list: buildBatchInput([makeRequest(), makeRequest({ call: { tool: 'other' } })], () => server),
} as unknown as Readonly<Record<string, JsonObject>>;

/** Members of the document that the schema does not name, and the other way round. */
function differences(value: JsonValue | undefined, at: Schema, path = ''): string[] {
  if (at.properties === undefined || typeof value !== 'object' || value === null) return [];
  const there = Object.keys(value);
  const known = Object.keys(at.properties);
  return [
    ...there.filter((name) => !known.includes(name)).map((name) => `${path}.${name} is not in the schema`),
    ...(at.required ?? []).filter((name) => !there.includes(name)).map((name) => `${path}.${name} is not built`),
    ...there.flatMap((name) =>
      differences((value as JsonObject)[name], at.properties?.[name] ?? {}, `${path}.${name}`),
    ),
  ];
}

describe.each(Object.entries(DOCUMENTS))('the document: %s', (_, document) => {
  test('has exactly the members of the schema', () => {
    expect(differences(document, schema)).toEqual([]);
  });

  test('is valid by the schema', () => {
    expect(checked.safeParse(JSON.parse(JSON.stringify(document))).error?.issues ?? []).toEqual([]);
  });
});

test('the schema refuses what is not built', () => {
  expect(checked.safeParse({ ...DOCUMENTS.plain, extra: 1 }).success).toBe(false);
  expect(checked.safeParse({ ...DOCUMENTS.plain, user: null }).success).toBe(false);
  const { action: _, ...without } = DOCUMENTS.plain ?? {};
  expect(checked.safeParse(without).success).toBe(false);
});

test('policies are told the version of the package', () => {
  expect(GATEWAY_VERSION).toBe((read('package.json') as { version: string }).version);
});

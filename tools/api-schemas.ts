/**
 * Writes docs/openapi.json and policies/decision.schema.json from the schemas in the source: `node tools/api-schemas.ts`.
 * `test/unit/protocols/pdp/published.test.ts` compares.
 */
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { policyDecisionSchema } from '../src/policy/decision-schema.ts';
import { openApiDocument } from '../src/protocols/pdp/openapi.ts';

const ROOT = join(import.meta.dirname, '..');
const { version } = JSON.parse(readFileSync(join(ROOT, 'package.json'), 'utf8')) as { version: string };
const write = (path: string, value: object) => writeFileSync(join(ROOT, path), `${JSON.stringify(value, null, 2)}\n`);

write('docs/openapi.json', openApiDocument(version));
write('policies/decision.schema.json', policyDecisionSchema());

/** What we show, runs: every file in config/ loads, the schema is the generated one, the documentation names everything. */
import { randomBytes } from 'node:crypto';
import { existsSync, globSync, mkdtempSync, readFileSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { basename, join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { ALIASES, OTHER_VARIABLES } from '../src/config/aliases.ts';
import { keysAt, type SchemaNode } from '../src/config/issues.ts';
import { configJsonSchema } from '../src/config/json-schema.ts';
import { type LoadResult, loadConfigText } from '../src/config/load.ts';
import { UNAVAILABLE } from '../src/config/unavailable.ts';
import { IDENTITY_KINDS, IDENTITY_SCHEMA } from '../src/modules.ts';
import { settingsDocument } from '../tools/settings-doc.ts';
import { verifies } from './helpers/verifies.ts';

const ROOT = join(import.meta.dirname, '..');
const FILES = globSync('config/*.yaml', { cwd: ROOT }).toSorted();
const secrets = mkdtempSync(join(tmpdir(), 'portcullis-examples-'));
const strong = () => randomBytes(32).toString('base64url');

/** Loads an example as a user would: with its variables set and its mounted secrets there. */
function load(file: string): LoadResult {
  const text = readFileSync(join(ROOT, file), 'utf8');
  const names = [...text.matchAll(/\$\{env:(\w+)/g)].map((match) => match[1] ?? '');
  const env = Object.fromEntries(names.map((name) => [name, strong()]));
  for (const [, name] of text.matchAll(/\/run\/secrets\/([\w-]+)/g)) writeFileSync(join(secrets, name ?? ''), strong());
  const mounted = text.replaceAll('/run/secrets', secrets);
  // The text stands in config/ and is public; the secrets of this test are not, so the check runs as in real life.
  return loadConfigText(mounted, join(ROOT, file), { env, providers: IDENTITY_SCHEMA });
}

describe('config/', () => {
  test('has an example for each scenario', () => {
    expect(FILES.map((file) => basename(file))).toEqual([
      'agents.yaml',
      'api-key.yaml',
      'bundle-service.yaml',
      'dynamo.yaml',
      'hokusai.yaml',
      'http.yaml',
      'introspection.yaml',
      'jwt.yaml',
      'ldap.yaml',
      'llm.yaml',
      'mcp.yaml',
      'minimal.yaml',
      'mtls.yaml',
      'oidc.yaml',
      'production.yaml',
      'swarm.yaml',
    ]);
  });

  test.each(FILES)('%s loads without a problem', (file) => {
    expect(load(file).problems).toEqual([]);
  });

  test('each example decides by a policy that is there, in a clone too', () => {
    for (const file of FILES) {
      const bundle = load(file).config?.policy.bundle;
      const isThere = typeof bundle !== 'string' || existsSync(join(ROOT, 'config', bundle));
      expect({ file, isThere }).toEqual({ file, isThere: true });
    }
  });

  test('the examples show every kind of provider and every protocol', () => {
    const configs = FILES.map((file) => load(file).config);
    const kinds = new Set(configs.flatMap((config) => Object.values(config?.identity ?? {}).map(({ kind }) => kind)));
    const protocols = new Set(configs.flatMap((config) => config?.routes.map(({ protocol }) => protocol) ?? []));
    const json = JSON.stringify(configJsonSchema(IDENTITY_SCHEMA));
    for (const kind of kinds) expect(json).toContain(`"const":"${kind}"`);
    expect([...kinds].toSorted()).toEqual([...IDENTITY_KINDS].toSorted());
    expect([...protocols].toSorted()).toEqual(['http', 'llm', 'mcp', 'tools']);
  });

  test.each(IDENTITY_KINDS)('docs/identity.md leads to an example with a provider of kind %s', (kind) => {
    const [, file = ''] =
      new RegExp(`^\\| \`${kind}\` \\|.*\\(\\.\\./(config/[\\w-]+\\.yaml)\\) \\|$`, 'm').exec(
        readFileSync(join(ROOT, 'docs/identity.md'), 'utf8'),
      ) ?? [];
    const { config } = load(file);
    expect(Object.values(config?.identity ?? {}).map((provider) => provider.kind)).toContain(kind);
  });

  test('schema.json is the generated one', () => {
    // Refresh it with: portcullis config schema > config/schema.json
    const stored: unknown = JSON.parse(readFileSync(join(ROOT, 'config/schema.json'), 'utf8'));
    expect(stored).toEqual(JSON.parse(JSON.stringify(configJsonSchema(IDENTITY_SCHEMA))));
  });

  test('the schema closes every object and shows secrets as text', () => {
    const schema: SchemaNode = configJsonSchema(IDENTITY_SCHEMA);
    expect(schema.additionalProperties).toBe(false);
    expect(keysAt(schema, ['listen', 'admin'])).toEqual(new Set(['address', 'token', 'tls']));
    expect(schema.properties?.listen?.properties?.admin?.properties?.token).toMatchObject({ type: 'string' });
  });
});

describe('docs/settings.md', () => {
  test('is the generated one', () => {
    // Refresh it with: node tools/settings-doc.ts
    expect(readFileSync(join(ROOT, 'docs/settings.md'), 'utf8')).toBe(settingsDocument());
  });

  test('names every key of every section', () => {
    const text = settingsDocument();
    const known = (at: string[]) => [...keysAt(configJsonSchema(IDENTITY_SCHEMA) as SchemaNode, at)];
    for (const at of [['limits'], ['stores'], ['servers', 'x'], ['servers', 'x', 'tools', 'y'], ['identity', 'x']]) {
      for (const key of known(at)) expect(text).toMatch(new RegExp(`^\\| \`${at[0]}\\.[^|]*\\b${key}\\b`, 'm'));
    }
  });
});

describe('docs/configuration.md', () => {
  const text = readFileSync(join(ROOT, 'docs/configuration.md'), 'utf8');

  test('names every environment variable', () => {
    verifies('X-08');
    const names = [...ALIASES, ...UNAVAILABLE].map(({ env }) => env).concat(Object.keys(OTHER_VARIABLES));
    expect(names.filter((name) => !text.includes(`\`${name}\``))).toEqual([]);
  });

  test('names every section of the file', () => {
    const sections = [...keysAt(configJsonSchema(IDENTITY_SCHEMA) as SchemaNode, [])];
    expect(sections.filter((name) => !text.includes(`\`${name}\``))).toEqual([]);
  });

  test('its examples load', () => {
    for (const [, block] of text.matchAll(/```yaml\n(version: 1\n[\s\S]*?)```/g)) {
      const { problems } = loadConfigText(block ?? '', 'docs.yaml', {
        env: { ADMIN_TOKEN: strong(), MODEL_KEY: strong() },
        providers: IDENTITY_SCHEMA,
      });
      expect(problems).toEqual([]);
    }
  });
});

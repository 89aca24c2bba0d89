/** Replays test/corpus/jwt/attacks.json: controls must pass, everything else must not. */
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { IdentityProvider } from '../../../src/identity/provider.ts';
import { jwt } from '../../../src/identity/providers/jwt.ts';
import { countAttacks } from '../../helpers/attacks.ts';
import { verifies } from '../../helpers/verifies.ts';
import { AUDIENCE, forge, ISSUER, jwks, publicPem, type Recipe, SECRET } from './forge.ts';
import { bearer, NEVER, type Setting, setting } from './setting.ts';

const folder = mkdtempSync(join(tmpdir(), 'portcullis-jwt-'));
const corpus = JSON.parse(
  readFileSync(new URL('../../corpus/jwt/attacks.json', import.meta.url), 'utf8'),
) as readonly Recipe[];

let around: Setting;
const providers = new Map<string, IdentityProvider>();
beforeAll(async () => {
  writeFileSync(join(folder, 'jwks.json'), JSON.stringify(jwks()));
  writeFileSync(join(folder, 'rsa.pem'), publicPem('rsa-1'));
  around = await setting({ baseDir: folder });
});
afterAll(async () => {
  await around[Symbol.asyncDispose]();
  rmSync(folder, { recursive: true, force: true });
});

const SOURCES = {
  set: { jwks: 'jwks.json' },
  pem: { public_key: 'rsa.pem' },
  secret: { secret: SECRET, algorithms: ['HS256'] },
};

async function providerFor(recipe: Recipe): Promise<IdentityProvider> {
  const options = {
    kind: 'jwt',
    issuer: ISSUER,
    audience: AUDIENCE,
    ...SOURCES[recipe.source ?? 'set'],
    ...recipe.options,
  };
  const name = JSON.stringify(options);
  const known = providers.get(name);
  if (known !== undefined) return known;
  const made = await jwt.create(jwt.schema.parse(options), around.env);
  providers.set(name, made);
  return made;
}

describe('the corpus of JWT attacks', () => {
  test.each(corpus.map((recipe) => [recipe.name, recipe] as const))('%s', async (_, recipe) => {
    verifies('D-05', 'D-08', 'VF-06');
    const provider = await providerFor(recipe);
    const facts = around.facts();
    const token = forge(recipe, facts.now / 1000);
    const result = await provider.authenticate(bearer(token), facts, NEVER);
    expect(result.kind === 'rejected' ? result.reason : result.kind).toBe(recipe.expect);
    if (result.kind === 'authenticated') expect(result.principal).toMatchObject({ id: 'alice', tenant_id: 'default' });
  });

  const controls = corpus.filter((recipe) => recipe.expect === 'authenticated');
  const attacks = corpus.length - controls.length;

  countAttacks('JWT', attacks);

  test(`has ${attacks} attacks, and ${controls.length} controls which show that the forge makes good tokens`, () => {
    expect(controls.length).toBeGreaterThanOrEqual(20);
    expect(attacks).toBeGreaterThanOrEqual(400);
    expect(new Set(corpus.map((recipe) => recipe.name)).size).toBe(corpus.length);
  });

  test('leaves no accepted token but the controls in any cache', async () => {
    for (const recipe of corpus.filter((one) => one.expect !== 'authenticated')) {
      const provider = await providerFor(recipe);
      const facts = around.facts();
      const token = forge(recipe, facts.now / 1000);
      for (let i = 0; i < 2; i++)
        expect((await provider.authenticate(bearer(token), facts, NEVER)).kind).not.toBe('authenticated');
    }
  });
});

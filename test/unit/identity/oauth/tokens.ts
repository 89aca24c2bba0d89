/** Signed tokens by recipe, with keys of test/unit/identity/forge.ts and node:crypto alone: not the library under test. */
import { createHmac, sign } from 'node:crypto';
import { GATEWAY_CLIENT } from '../../../helpers/authorization-server.ts';
import { keyNamed } from '../forge.ts';
import { filled } from './fake-server.ts';

export interface TokenRecipe {
  readonly claims?: Readonly<Record<string, unknown>>;
  readonly unset?: readonly string[];
  readonly header?: Readonly<Record<string, unknown>>;
  readonly key?: string;
  readonly alg?: string;
}

/** @param base claims that the recipe changes */
export function makeToken(
  recipe: TokenRecipe,
  base: Record<string, unknown>,
  issuer: string,
  nowSeconds: number,
): string {
  const claims: Record<string, unknown> = { ...base, ...recipe.claims };
  for (const name of recipe.unset ?? []) delete claims[name];
  const alg = recipe.alg ?? 'ES256';
  const header = { alg, kid: 'ec-1', ...recipe.header };
  const encode = (value: unknown) => Buffer.from(JSON.stringify(value)).toString('base64url');
  const input = `${encode(header)}.${encode(filled(claims, issuer, nowSeconds))}`;
  return `${input}.${signature(alg, recipe.key ?? 'ec-1', input)}`;
}

function signature(alg: string, key: string, input: string): string {
  if (alg === 'none') return 'AA';
  if (alg === 'HS256') return createHmac('sha256', GATEWAY_CLIENT.client_secret).update(input).digest('base64url');
  return sign('sha256', Buffer.from(input), { key: keyNamed(key), dsaEncoding: 'ieee-p1363' }).toString('base64url');
}

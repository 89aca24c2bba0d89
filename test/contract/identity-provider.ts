/**
 * What a route does with a provider that fails in each way there is: nobody gets in, and nobody is taken for anonymous.
 * Run for every kind of provider; what fails is put around the real one, where a dependency of it would.
 */
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { GatewayError } from '../../src/core/errors.ts';
import { createIdentityChain } from '../../src/identity/chain.ts';
import type { AuthResult, Credential, IdentityFacts, IdentityProvider } from '../../src/identity/provider.ts';

export interface ProviderUnderTest {
  readonly provider: IdentityProvider;
  readonly facts: IdentityFacts;
  /** One that it lets in. */
  readonly good: Credential;
  /** Those that it must refuse. */
  readonly bad: readonly Credential[];
  /** One of a kind that is not its business. */
  readonly foreign: Credential;
}

type Answer = (good: AuthResult) => unknown;

const FAILURES: Readonly<Record<string, Answer>> = {
  throws: () => {
    throw new Error('broken');
  },
  'throws nothing in particular': () => {
    throw undefined;
  },
  rejects: () => Promise.reject(new Error('broken')),
  'does not answer': () => new Promise(() => {}),
  'answers with nothing': () => undefined,
  'answers with null': () => null,
  'answers with a text': () => 'authenticated',
  'answers with an unknown outcome': () => ({ kind: 'fine' }),
  'answers without a principal': () => ({ kind: 'authenticated' }),
  'answers with an empty principal': () => ({ kind: 'authenticated', principal: {} }),
  'answers with an empty id': (good) => changed(good, { id: '' }),
  'answers with an id that is a number': (good) => changed(good, { id: 7 }),
  'answers with an id with a line break': (good) => changed(good, { id: 'a\nb' }),
  'answers with roles that are a text': (good) => changed(good, { roles: 'admin' }),
  'answers with roles that are numbers': (good) => changed(good, { roles: [1] }),
  'answers with the type anonymous': (good) => changed(good, { type: 'anonymous' }),
  'answers with an empty tenant': (good) => changed(good, { tenant_id: '' }),
  'answers with a second factor that is a text': (good) => changed(good, { auth: { mfa_verified: 'false' } }),
  'refuses for a reason nobody knows': () => ({ kind: 'rejected', reason: 'whatever' }),
};

function changed(good: AuthResult, change: object): unknown {
  return good.kind === 'authenticated' ? { ...good, principal: { ...good.principal, ...change } } : good;
}

const NEVER = new AbortController().signal;

/** `open` is called once; no test changes what another one sees. */
export function identityProviderContract(name: string, open: () => Promise<ProviderUnderTest & AsyncDisposable>): void {
  describe(`the ${name} provider on a route`, () => {
    const options = { anonymous: true, timeoutMs: 20_000 };
    let under: ProviderUnderTest & AsyncDisposable;
    beforeAll(async () => {
      under = await open();
    });
    afterAll(() => under?.[Symbol.asyncDispose]());

    test('lets in whom it should', async () => {
      const chain = createIdentityChain([{ name: 'staff', provider: under.provider }], options);
      const principal = await chain.authenticate([under.good], under.facts, NEVER);
      expect(principal).toMatchObject({ auth: { provider: 'staff', method: under.good.kind } });
      expect(principal).not.toMatchObject({ type: 'anonymous' });
      expect(Object.isFrozen(principal)).toBe(true);
    });

    test('refuses each bad credential with 401, though the route takes anonymous callers', async () => {
      const chain = createIdentityChain([{ name: 'staff', provider: under.provider }], options);
      for (const credential of under.bad) {
        const refused = await chain.authenticate([credential], under.facts, NEVER);
        expect(refused).toBeInstanceOf(GatewayError);
        expect(refused).toMatchObject({ status: 401 });
      }
    });

    test('passes on what is not its business, and then nobody knows it', async () => {
      expect(await under.provider.authenticate(under.foreign, under.facts, NEVER)).toEqual({ kind: 'not-applicable' });
      const chain = createIdentityChain([{ name: 'staff', provider: under.provider }], options);
      expect(await chain.authenticate([under.foreign], under.facts, NEVER)).toMatchObject({ status: 401 });
    });

    test.each(Object.entries(FAILURES))('that %s ends in 503', async (_what, answer) => {
      const good = await under.provider.authenticate(under.good, under.facts, NEVER);
      const failing = { authenticate: () => answer(good) } as unknown as IdentityProvider;
      // A second one that would let the caller in must not be asked.
      const providers = [failing, under.provider].map((provider, i) => ({ name: `staff${i}`, provider }));
      const chain = createIdentityChain(providers, { ...options, timeoutMs: 10 });
      const ended = await chain.authenticate([under.good], under.facts, NEVER);
      expect(ended).toBeInstanceOf(GatewayError);
      expect(ended).toMatchObject({ status: 503, code: 'AUTH_UNAVAILABLE' });
    });
  });
}

import { describe, expect, test } from 'vitest';
import { GatewayError } from '../../../src/core/errors.ts';
import { ANONYMOUS, makePrincipal } from '../../../src/core/principal.ts';
import { type ChainOptions, createIdentityChain } from '../../../src/identity/chain.ts';
import { freezePrincipal } from '../../../src/identity/credential-cache.ts';
import type { AuthResult, Credential, IdentityFacts, IdentityProvider } from '../../../src/identity/provider.ts';
import { verifies } from '../../helpers/verifies.ts';
import { bearer, keyHeader, NEVER, START } from './setting.ts';

const facts: IdentityFacts = {
  request_id: 'req_1',
  source_ip: '127.0.0.1',
  user_agent: null,
  method: 'GET',
  path: '/',
  route: '/',
  now: START,
};

/** At once, whatever it is. */
const gives = (result: unknown): IdentityProvider => ({ authenticate: () => result as AuthResult });
const fails = (message: string): never => {
  throw new Error(message);
};
const says = (result: unknown): IdentityProvider => ({ authenticate: async () => result as AuthResult });
const knows = (id: string, tenant_id = 'acme') => says({ kind: 'authenticated', principal: { id, tenant_id } });
const notMine = says({ kind: 'not-applicable' });
const BEARER = 'Bearer realm="portcullis", resource_metadata="r"';

async function ask(
  providers: IdentityProvider[],
  credentials: Credential[] = [bearer('x')],
  options: ChainOptions = {},
) {
  const named = providers.map((provider, i) => ({ name: `p${i}`, provider }));
  return createIdentityChain(named, options).authenticate(credentials, facts, NEVER);
}

async function refusal(...args: Parameters<typeof ask>): Promise<GatewayError> {
  const result = await ask(...args);
  if (result instanceof GatewayError) return result;
  throw new Error(`${result.id} was let in`);
}

describe('the chain of providers', () => {
  test('asks in order and stops at the first that knows the credential', async () => {
    verifies('D-02', 'S-60');
    expect(await ask([notMine, knows('alice'), knows('bob')])).toMatchObject({ id: 'alice', auth: { provider: 'p1' } });
  });

  test('fills what a provider left out with the least privilege', async () => {
    verifies('D-11', 'D-12', 'S-61');
    expect(await ask([says({ kind: 'authenticated', principal: { id: 'alice' } })])).toEqual(
      makePrincipal({ id: 'alice' }, 'p0', 'bearer'),
    );
  });

  test('gives our own providers’ principal as the same frozen object, without a promise', () => {
    const principal = freezePrincipal(makePrincipal({ id: 'alice' }, 'p0', 'bearer'));
    const result = Object.freeze({ kind: 'authenticated', principal } as const);
    const chain = createIdentityChain([{ name: 'p0', provider: { authenticate: () => result } }]);
    for (let i = 0; i < 2; i++) expect(chain.authenticate([bearer('x')], facts, NEVER)).toBe(principal);
  });

  test('copies what a foreign provider gives, which may be one object changed for each caller', async () => {
    const reused = { id: 'alice', roles: ['admin'] };
    const result = { kind: 'authenticated', principal: reused };
    const first = await ask([says(result)]);
    reused.id = 'bob';
    reused.roles.pop();
    const second = await ask([says(result)]);
    expect(first).toMatchObject({ id: 'alice', roles: ['admin'] });
    expect(second).toMatchObject({ id: 'bob', roles: [] });
    expect(Object.isFrozen(second)).toBe(true);
  });

  test('without a credential answers 401 with a challenge', async () => {
    verifies('D-04');
    const error = await refusal([knows('alice')], []);
    expect(error).toMatchObject({ code: 'MISSING_CREDENTIALS', status: 401 });
    expect(error.extras.challenge).toBe('Bearer realm="portcullis"');
  });

  const PASSWORDS = { ...notMine, asksFor: { challenge: 'Basic realm="x"', words: 'Username and password required' } };
  const CERTIFICATES = { ...notMine, asksFor: { challenge: null, words: 'Client certificate required' } };
  test.each([
    ['passwords', [PASSWORDS], 'Username and password required', 'Basic realm="x"', 'Basic realm="x"'],
    ['certificates', [CERTIFICATES], 'Client certificate required', BEARER, `${BEARER}, error="invalid_token"`],
    ['both', [CERTIFICATES, PASSWORDS], 'Credentials are required', 'Basic realm="x"', 'Basic realm="x"'],
    [
      ...['passwords and tokens', [PASSWORDS, notMine, PASSWORDS], 'Credentials are required'],
      ...[`${BEARER}, Basic realm="x"`, `${BEARER}, error="invalid_token"`],
    ],
  ] as const)('asks for %s where it takes them', async (_what, providers, words, challenge, refused) => {
    verifies('S-69', 'S-73');
    const options = { challenge: 'resource_metadata="r"' };
    expect(await refusal([...providers], [], options)).toMatchObject({ message: words, extras: { challenge } });
    const unknown = await refusal([...providers], [bearer('x')], options);
    expect(unknown).toMatchObject({ code: 'INVALID_CREDENTIALS', extras: { challenge: refused } });
  });

  test('lets a request without a credential pass as anonymous only where the route says so', async () => {
    expect(await ask([knows('alice')], [], { anonymous: true })).toBe(ANONYMOUS);
  });

  test('refuses a bad credential also where anonymous is allowed', async () => {
    verifies('VF-15');
    const invalid = says({ kind: 'rejected', reason: 'invalid' });
    for (const providers of [[], [notMine], [invalid]]) {
      expect((await refusal(providers, [bearer('bad')], { anonymous: true })).code).toBe('INVALID_CREDENTIALS');
    }
  });

  test.each([
    ['invalid', 'INVALID_CREDENTIALS', 401],
    ['expired', 'TOKEN_EXPIRED', 401],
    ['locked', 'ACCOUNT_LOCKED', 423],
    ['forbidden', 'FORBIDDEN', 403],
    ['rate-limited', 'RATE_LIMIT_EXCEEDED', 429],
    ['unavailable', 'AUTH_UNAVAILABLE', 503],
  ])('a credential that is %s ends the chain with %s', async (reason, code, status) => {
    verifies('D-05');
    const error = await refusal([says({ kind: 'rejected', reason }), knows('alice')]);
    expect(error).toMatchObject({ code, status });
    expect(error.extras.challenge).toBe(
      status === 401 ? 'Bearer realm="portcullis", error="invalid_token"' : undefined,
    );
    expect(error.extras.retryAfter).toBe(status === 503 ? 1 : undefined);
  });

  test('passes on a challenge and a waiting time', async () => {
    const limited = await refusal([says({ kind: 'rejected', reason: 'rate-limited', retryAfter: 42 })]);
    expect(limited.extras.retryAfter).toBe(42);
    const challenged = await refusal([says({ kind: 'rejected', reason: 'invalid', challenge: 'Basic realm="x"' })]);
    expect(challenged.extras.challenge).toBe('Basic realm="x"');
    const metadata = await refusal([], [], { challenge: 'resource_metadata="https://x/"' });
    expect(metadata.extras.challenge).toBe('Bearer realm="portcullis", resource_metadata="https://x/"');
  });

  test('accepts two credentials of the same principal and refuses two of different ones', async () => {
    verifies('V-17');
    const byText: IdentityProvider = {
      authenticate: async ({ value }) => ({
        kind: 'authenticated',
        principal: makePrincipal({ id: value.reveal().slice(0, 1) }, '', 'none'),
      }),
    };
    expect(await ask([byText], [bearer('a1'), keyHeader('a2')])).toMatchObject({ id: 'a' });
    expect(await refusal([byText], [bearer('a1'), keyHeader('b1')])).toMatchObject({
      code: 'INVALID_REQUEST',
      status: 400,
    });
  });

  test('takes the same id in another tenant for another principal', async () => {
    const byKind: IdentityProvider = {
      authenticate: async ({ kind }) => ({
        kind: 'authenticated',
        principal: makePrincipal({ id: 'a', tenant_id: kind }, '', 'none'),
      }),
    };
    expect((await refusal([byKind], [bearer('x'), keyHeader('y')])).code).toBe('INVALID_REQUEST');
  });

  test('refuses two credentials when either is bad', async () => {
    const bearerOnly: IdentityProvider = {
      authenticate: async ({ kind }) =>
        kind === 'bearer'
          ? { kind: 'authenticated', principal: makePrincipal({ id: 'a' }, '', 'none') }
          : { kind: 'rejected', reason: 'invalid' },
    };
    for (const pair of [
      [bearer('x'), keyHeader('y')],
      [keyHeader('y'), bearer('x')],
    ]) {
      expect((await refusal([bearerOnly], pair)).code).toBe('INVALID_CREDENTIALS');
    }
  });
});

describe('a provider that fails', () => {
  const broken: [string, IdentityProvider][] = [
    [
      'throws',
      {
        authenticate: () => {
          throw new Error('secret detail');
        },
      },
    ],
    ['rejects', { authenticate: () => Promise.reject(new Error('secret detail')) }],
    ['rejects with no error', { authenticate: () => Promise.reject(undefined) }],
    [
      'throws a text',
      {
        authenticate: () => {
          throw 'secret detail';
        },
      },
    ],
    ['never answers', { authenticate: () => new Promise(() => {}) }],
    ['gives nothing', says(undefined)],
    ['gives null', says(null)],
    ['gives true', says(true)],
    ['gives a text', says('authenticated')],
    ['gives an empty object', says({})],
    ['gives an unknown kind', says({ kind: 'ok', principal: { id: 'root' } })],
    ['gives an unknown reason', says({ kind: 'rejected', reason: 'because' })],
    ['gives a reason of Object', says({ kind: 'rejected', reason: 'constructor' })],
    [
      'gives a challenge that ends its line',
      says({ kind: 'rejected', reason: 'invalid', challenge: 'x\r\nset-cookie: y' }),
    ],
    ['gives a challenge that is no text', says({ kind: 'rejected', reason: 'invalid', challenge: {} })],
    ['gives a waiting time that is a text', says({ kind: 'rejected', reason: 'locked', retryAfter: '1\r\nx: y' })],
    ['gives a waiting time without end', says({ kind: 'rejected', reason: 'locked', retryAfter: Infinity })],
    ['has a `then` that throws', gives(Object.defineProperty({}, 'then', { get: () => fails('secret detail') }))],
    [
      'promises a promise that never comes',
      gives(
        Object.defineProperty({}, 'then', { value: (done: (value: unknown) => void) => done(new Promise(() => {})) }),
      ),
    ],
    ['gives no principal', says({ kind: 'authenticated' })],
    ['gives null as principal', says({ kind: 'authenticated', principal: null })],
    ['gives a text as principal', says({ kind: 'authenticated', principal: 'root' })],
    ...Object.entries<unknown>({
      'an empty id': { id: '' },
      'a numeric id': { id: 1 },
      'no id': {},
      'an id with a newline': { id: 'a\nb' },
      'an endless id': { id: 'a'.repeat(600) },
      'an empty tenant': { id: 'a', tenant_id: '' },
      'a numeric tenant': { id: 'a', tenant_id: 1 },
      'the type anonymous': { id: 'a', type: 'anonymous' },
      'an unknown type': { id: 'a', type: 'root' },
      'roles as a text': { id: 'a', roles: 'admin' },
      'roles with a number': { id: 'a', roles: ['admin', 1] },
      'roles with a gap': { id: 'a', roles: new Array(2).fill('user', 1) },
      'roles that say what they like of themselves': {
        id: 'a',
        roles: Object.assign([{ toString: () => 'admin' }], { every: () => true }),
      },
      'permissions as an object': { id: 'a', permissions: { '*': true } },
      'a second factor as a text': { id: 'a', auth: { mfa_verified: 'false' } },
      'auth as a text': { id: 'a', auth: 'mfa' },
      'a device as a text': { id: 'a', device_compliant: 'false' },
      'tenure as a text': { id: 'a', tenure_months: '12' },
      'tenure NaN': { id: 'a', tenure_months: Number.NaN },
      'metadata with numbers': { id: 'a', metadata: { a: 1 } },
      'an actor as a text': { id: 'a', actor: 'bob' },
      'an actor without id': { id: 'a', actor: {} },
      'an email as a list': { id: 'a', email: ['x'] },
    }).map(([what, principal]): [string, IdentityProvider] => [
      `gives a principal with ${what}`,
      says({ kind: 'authenticated', principal }),
    ]),
  ];

  test.each(broken)(
    'and %s makes authentication unavailable: nobody is let in, nobody else is asked',
    async (_, provider) => {
      verifies('D-05');
      let asked = 0;
      const weaker: IdentityProvider = {
        authenticate: async () => {
          asked++;
          return { kind: 'authenticated', principal: makePrincipal({ id: 'weaker' }, '', 'none') };
        },
      };
      const failures: string[] = [];
      const options = { anonymous: true, timeoutMs: 20, onFailure: (name: string) => failures.push(name) };
      const error = await refusal([provider, weaker], [bearer('x')], options);
      expect(error).toMatchObject({ code: 'AUTH_UNAVAILABLE', status: 503 });
      expect(error.extras.retryAfter).toBe(1);
      expect(error.message).not.toContain('secret');
      expect(asked).toBe(0);
      expect(failures).toEqual(['p0']);
    },
  );

  test('tells the operator who refused and why, and the caller neither', async () => {
    const told: unknown[] = [];
    const options: ChainOptions = {
      onRejection: (provider, { reason, detail }, { request_id }) => told.push([provider, reason, detail, request_id]),
    };
    const refusing = says({ kind: 'rejected', reason: 'invalid', detail: 'the audience is not ours' });
    const error = await refusal([notMine, refusing], [bearer('x')], options);
    expect(JSON.stringify([error.message, error.extras])).not.toContain('audience');
    await refusal([notMine], [bearer('x')], options);
    expect(told).toEqual([
      ['p1', 'invalid', 'the audience is not ours', 'req_1'],
      [null, 'invalid', expect.stringContaining('no provider of the route'), 'req_1'],
    ]);
  });

  test('is not blamed, and asked no longer, when the client went away', async () => {
    const gone = new AbortController();
    const blamed: string[] = [];
    const slow = { name: 'slow', provider: { authenticate: () => new Promise<never>(() => {}) } };
    const chain = createIdentityChain([slow], { onFailure: (name) => blamed.push(name) });
    const pending = chain.authenticate([bearer('x')], facts, gone.signal);
    gone.abort();
    expect(await pending).toMatchObject({ code: 'CLIENT_CLOSED' });
    expect(await chain.authenticate([bearer('x')], facts, gone.signal)).toMatchObject({ code: 'CLIENT_CLOSED' });
    expect(blamed).toEqual([]);
  });
});

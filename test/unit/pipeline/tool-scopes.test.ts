import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import type { Action, Call } from '../../../src/core/call.ts';
import type { Decision } from '../../../src/core/decision.ts';
import { makePrincipal } from '../../../src/core/principal.ts';
import { scopesLacking } from '../../../src/identity/oauth/protected-resource.ts';
import { ToolScopes } from '../../../src/pipeline/tool-scopes.ts';

interface Row {
  readonly name: string;
  readonly tools: Readonly<Record<string, readonly string[]>>;
  readonly tool: string;
  readonly held: readonly string[];
  readonly needs: readonly string[] | null;
  readonly parties?: readonly (readonly string[])[];
  readonly server?: string;
  readonly action?: Action;
}

const rows = JSON.parse(
  readFileSync(join(import.meta.dirname, '../../corpus/oauth/tool-scopes.json'), 'utf8'),
) as Row[];

const TERMS = {
  scopes: ['use'],
  optional: ['read', 'write', 'admin'],
  metadata: 'https://g/meta',
  canStepUp: () => true,
};

const scopesFor = (tools: Row['tools'], server = 'db') =>
  new ToolScopes(
    new Map([[server, Object.entries(tools).map(([pattern, scopes]) => ({ pattern, scopes }))]]),
    ({ principal }, needed) => scopesLacking(principal, needed, TERMS),
  );

const callOf = (tool: string, action: Action = 'gateway:tool:invoke', server = 'db'): Call => ({
  ...{ action, server, tool, parameters: {}, annotations: null, schema_hash: null, llm: null },
  resource: { type: 'tool', id: tool, tenant_id: null, owner_id: null, permissions: null },
});

const person = (scopes: readonly string[]) => makePrincipal({ id: 'dana', scopes }, 'staff', 'bearer');

const principalOf = ({ held, parties }: Row) =>
  parties === undefined ? person(held) : { ...person(held), parties: parties.map(person) };

const decision = (facts: Partial<Decision>): Decision => ({
  ...{ decision_id: 'dec_1', allow: true, deny: [], obligations: [], revision: 'r', cached: false, eval_us: 1 },
  failure: null,
  ...facts,
});

describe('what a call of a tool needs', () => {
  test.each(rows)('$name', (row) => {
    const found = scopesFor(row.tools);
    const calls = [callOf(row.tool, row.action, row.server)];
    expect(found.lacking(principalOf(row), calls)).toEqual(row.needs);
    const [withheld] = found.withhold(principalOf(row), calls, [decision({})]);
    expect(withheld?.allow).toBe(row.needs === null);
  });

  test('of several calls: everything that any of them needs, held or not', () => {
    const found = scopesFor({ one: ['a'], two: ['b', 'a'], three: ['c'] });
    expect(found.lacking(person(['a', 'c']), [callOf('one'), callOf('two')])).toEqual(['a', 'b']);
    expect(found.lacking(person(['a', 'c']), [callOf('one'), callOf('three')])).toBeNull();
    expect(found.lacking(person([]), [])).toBeNull();
  });
});

describe('what goes on of a call in a task', () => {
  const found = scopesFor({ write: ['w'], wipe: ['w', 'x'] });
  const task = (begunBy: string | null, more: Partial<Call> = {}): Call => {
    const resource = { type: 'task', id: 'db:t', tenant_id: null, owner_id: null, permissions: null } as const;
    return {
      ...callOf('', 'gateway:task:access'),
      tool: null,
      resource,
      parameters: { taskId: 't' },
      begunBy,
      ...more,
    };
  };

  test.each([
    ['write', [], ['w']],
    ['WRITE', [], ['w']],
    ['write', ['w'], null],
    ['wipe', ['w'], ['w', 'x']],
    ['read', [], null],
    [null, ['w'], ['w', 'x']],
    [null, ['w', 'x'], null],
  ])('begun by %s, seen by who holds %j: needs %j', (tool, held, needs) => {
    expect(found.lacking(person(held), [task(tool)])).toEqual(needs);
  });

  test('is listed, and on servers whose tools need nothing it needs nothing', () => {
    expect(found.lacking(person([]), [task('write', { parameters: null })])).toBeNull();
    expect(found.lacking(person([]), [task(null, { server: 'other' })])).toBeNull();
  });
});

describe('a decision on a call that is not covered', () => {
  const withheld = (given: Decision) => scopesFor({ one: ['a'] }).withhold(person([]), [callOf('one')], [given])[0];

  test('becomes a denial, and keeps what is said of its record', () => {
    const audit = { type: 'audit', level: 'metadata' } as const;
    const given = decision({ obligations: [audit, { type: 'require_mfa' }] });
    expect(withheld(given)).toMatchObject({
      ...{ decision_id: 'dec_1', allow: false, obligations: [audit] },
      deny: [{ package: 'portcullis', code: 'INSUFFICIENT_SCOPE' }],
    });
  });

  test('asks nobody for an approval', () => {
    const deny = [{ package: 'p', code: 'APPROVAL_REQUIRED', message: 'm', severity: 'high' }] as const;
    const given = decision({ allow: false, deny, obligations: [{ type: 'require_approval' }] });
    expect(withheld(given)).toMatchObject({ deny: [{ code: 'INSUFFICIENT_SCOPE' }], obligations: [] });
  });

  test.each([
    decision({ allow: false, deny: [{ package: 'p', code: 'POLICY_DENIED', message: 'm', severity: 'high' }] }),
    decision({ allow: false, failure: 'timeout' }),
  ])('is left alone where scopes would not help', (given) => {
    expect(withheld(given)).toBe(given);
  });
});

describe('how it is told', () => {
  const told = (held: readonly string[], needed: readonly string[], terms: Partial<typeof TERMS> = {}) =>
    scopesLacking(person(held), needed, { ...TERMS, ...terms });
  const scopeIn = (challenge: string | undefined) => /scope="([^"]*)"/.exec(challenge ?? '')?.[1];

  test.each([
    [['use'], ['write'], 'use write'],
    [['use', 'read', 'openid', 'gateway'], ['write'], 'use read write'],
    [['write'], ['use'], 'use write'],
    [['admin', 'use', 'use'], ['write', 'write'], 'use write admin'],
    [[], ['other'], 'use other'],
    [['Read'], ['write'], 'use write'],
  ] as const)('holding %j and lacking %j: asks for "%s"', (held, needed, scope) => {
    const { code, status, extras } = told(held, needed);
    expect([code, status]).toEqual(['INSUFFICIENT_SCOPE', 403]);
    expect(scopeIn(extras.challenge)).toBe(scope);
  });

  test('with everything in one challenge', () => {
    expect(told(['use'], ['write']).extras.challenge).toBe(
      'Bearer realm="portcullis", error="insufficient_scope", resource_metadata="https://g/meta", scope="use write", error_description="The credentials need the scope write"',
    );
    expect(told([], ['write'], { metadata: null as never }).extras.challenge).not.toContain('resource_metadata');
  });

  test('without a challenge to who cannot come back with more', () => {
    const { code, extras, message } = told(['use'], ['write'], { canStepUp: () => false });
    expect([code, extras.challenge]).toEqual(['INSUFFICIENT_SCOPE', undefined]);
    expect(message).toContain('need the scope write, which');
    expect(extras.data).toEqual({ scopes: ['write'] });
  });

  test('to whoever showed nothing as to anybody who shows nothing', () => {
    const nobody = makePrincipal({ id: 'anonymous', type: 'anonymous' }, 'anonymous', 'none');
    const { code, extras } = scopesLacking(nobody, ['write'], TERMS);
    expect(code).toBe('MISSING_CREDENTIALS');
    expect(extras.challenge).toBe('Bearer realm="portcullis", resource_metadata="https://g/meta", scope="use write"');
  });
});

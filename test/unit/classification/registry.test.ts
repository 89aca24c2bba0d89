import fc from 'fast-check';
import { beforeAll, describe, expect, test } from 'vitest';
import type { Classifier, ServerFacts } from '../../../src/classification/classifier.ts';
import { baseLevel, maxType } from '../../../src/classification/levels.ts';
import type { Call } from '../../../src/core/call.ts';
import { SENSITIVITIES, sensitivityRank, TOOL_TYPES } from '../../../src/core/call.ts';
import { GatewayError } from '../../../src/core/errors.ts';
import type { JsonObject } from '../../../src/core/json.ts';
import { verifies } from '../../helpers/verifies.ts';
import type { LoggedEvent } from './registry-fixture.ts';
import { makeCall, makeRegistry, makeServer, recordingLogger, spell } from './registry-fixture.ts';

const registry = makeRegistry();
beforeAll(() => registry.prepare(['postgres']));

const classOf = (tool: string, parameters: unknown, server: Partial<ServerFacts> = {}, call: Partial<Call> = {}) =>
  registry.classify(makeCall(tool, parameters, call), makeServer(server));

describe('levels and types', () => {
  test('levels are totally ordered and each type has its base level', () => {
    verifies('S-10', 'S-11', 'S-13');
    expect(SENSITIVITIES.map(sensitivityRank)).toEqual([0, 1, 2, 3]);
    expect(TOOL_TYPES.map((type) => [type, baseLevel(type)])).toEqual([
      ['query', 'low'],
      ['analytics', 'low'],
      ['mutation', 'medium'],
      ['integration', 'medium'],
      ['admin', 'critical'],
      ['custom', 'high'],
    ]);
    expect(baseLevel('billing')).toBe('medium');
  });

  test('the greater of two types does not depend on the order they are asked in', () => {
    const types = [...TOOL_TYPES, 'billing', 'archive', 'constructor'];
    for (const a of types) for (const b of types) expect(maxType(a, b)).toBe(maxType(b, a));
  });
});

describe('the pipeline only raises', () => {
  test('a declared class stands in for the unknown default and never lowers a finding', () => {
    const tools = {
      mystery: { type: 'query', sensitivity: 'low' },
      execute_query: { type: 'query', sensitivity: 'low' },
    } as const;
    expect(spell(classOf('mystery', {}, { type: 'custom', tools }))).toBe('query/low');
    expect(spell(classOf('execute_query', { query: 'DROP TABLE a' }, { tools }))).toBe('admin/critical');
    const strict = { execute_query: { type: 'admin', sensitivity: 'critical' } } as const;
    expect(spell(classOf('execute_query', { query: 'SELECT 1' }, { tools: strict }))).toBe('admin/critical');
  });

  test('the level of a server is for its unclassifiable tools only; its floor is for all', () => {
    expect(spell(classOf('mystery', {}, { type: 'custom', sensitivity_level: 'critical' }))).toBe('custom/critical');
    expect(spell(classOf('execute_query', { query: 'SELECT 1' }, { sensitivity_level: 'high' }))).toBe('query/low');
    expect(spell(classOf('execute_query', { query: 'SELECT 1' }, { sensitivity_floor: 'high' }))).toBe('query/high');
    expect(spell(classOf('q', { query: 'SELECT 1' }, { tools: { q: { floor: 'medium' } } }))).toBe('query/medium');
    // By a name that the server could take for it the floor holds, and nothing that lowers.
    const tools = { q: { floor: 'medium', sensitivity: 'low', type: 'query' } } as const;
    expect(spell(classOf('Q', { query: 'SELECT 1' }, { tools }))).toBe('query/medium');
    expect(spell(classOf('Q', {}, { tools }))).toBe(spell(classOf('z', {}, { tools: {} })));
  });

  test('production raises by one in whatever case it is written; a caller naming another place lowers nothing', () => {
    verifies('S-20', 'SF-08');
    const query = 'DELETE FROM orders';
    for (const environment of ['production', 'Production', ' PRODUCTION ', 'prod'])
      expect(spell(classOf('execute_query', { query }, { environment }))).toBe('mutation/high');
    expect(spell(classOf('execute_query', { query, environment: 'dev' }, { environment: 'production' }))).toBe(
      'mutation/high',
    );
    expect(spell(classOf('execute_query', { query, environment: 'PRODUCTION' }, { environment: 'dev' }))).toBe(
      'mutation/high',
    );
    expect(spell(classOf('execute_query', { query, environment: 'production' }, { environment: 'production' }))).toBe(
      'mutation/high',
    );
    expect(spell(classOf('execute_query', { query: 'SELECT 1' }, { environment: 'production' }))).toBe('query/low');
  });

  test('a sensitive resource is matched as an identifier, singular or plural, at any depth', () => {
    verifies('S-21', 'SF-02', 'SF-03');
    const level = (parameters: unknown) => classOf('execute_query', parameters).sensitivity_level;
    for (const table of [
      'users',
      'Users',
      '"user"',
      '"users"',
      'app.users',
      'users_archive',
      'user_credentials',
      'api_keys',
      'secret',
    ])
      expect([table, level({ query: `SELECT * FROM ${table}` })]).toEqual([table, 'high']);
    for (const table of ['monkeys', 'superusers', 'keynotes', 'secretary', 'key_value', 'orders'])
      expect([table, level({ query: `SELECT * FROM ${table}` })]).toEqual([table, 'low']);
    expect(level({ query: 'SELECT 1', options: { deep: [{ table: 'users' }] } })).toBe('high');
    expect(level({ query: 'SELECT 1', uri: 'db://x/secrets/1' })).toBe('high');
  });

  test('hints of the server raise and never lower', () => {
    const api = (annotations: JsonObject) => spell(classOf('get_order', {}, { type: 'api' }, { annotations }));
    expect(api({ readOnlyHint: true })).toBe('query/low');
    expect(api({ destructiveHint: true })).toBe('mutation/medium');
    expect(api({ readOnlyHint: false })).toBe('mutation/medium');
    expect(spell(classOf('delete_order', {}, { type: 'api' }, { annotations: { readOnlyHint: true } }))).toBe(
      'mutation/medium',
    );
    // The statement was read: the hint speaks of what the tool could do with another.
    const hinted = { annotations: { destructiveHint: true } };
    expect(spell(classOf('execute_query', { query: 'SELECT 1' }, {}, hinted))).toBe('query/medium');
  });

  test('whatever a caller adds to its arguments, the class does not fall', () => {
    const bases: readonly (readonly [string, Partial<ServerFacts>, JsonObject])[] = [
      ['execute_query', {}, { query: 'DELETE FROM orders' }],
      ['nuke_it', {}, { id: '1' }],
      ['wipe_store', { type: 'custom' }, { id: '1' }],
      ['delete_order', { type: 'api' }, { method: 'DELETE' }],
      ['remove_file', { type: 'file' }, { path: '/etc/x' }],
      ['drain_node', { type: 'k8s' }, { node: 'a' }],
      ['frobnicate', { type: 'k8s' }, { node: 'a' }],
    ];
    const extra = fc.dictionary(
      fc.constantFrom('environment', 'verb', 'type', 'sensitivity', 'annotations', 'note', 'tool_type', 'limit', 'x'),
      fc.oneof(
        fc.constantFrom<unknown>('get', 'SELECT 1', 'GET', 'low', 'query', 'dev', null, true, 0),
        fc.jsonValue(),
      ),
    );
    fc.assert(
      fc.property(fc.constantFrom(...bases), extra, ([tool, server, base], added) => {
        const before = classOf(tool, base, server);
        const after = classOf(tool, { ...added, ...base }, server);
        expect(sensitivityRank(after.sensitivity_level)).toBeGreaterThanOrEqual(
          sensitivityRank(before.sensitivity_level),
        );
        expect(maxType(after.tool_type, before.tool_type)).toBe(after.tool_type);
      }),
      { numRuns: 400 },
    );
  });

  test('no JSON whatever makes it throw, and equal calls get equal answers', () => {
    verifies('SF-04', 'S-14');
    fc.assert(
      fc.property(
        fc.constantFrom('sql', 'api', 'file', 'k8s', 'custom', 'mystery'),
        fc.string(),
        fc.jsonValue(),
        fc.jsonValue(),
        (type, tool, a, b) => {
          const parameters = { query: a, method: a, path: b, command: b, resource: [a, b], environment: a };
          const first = classOf(tool, parameters, { type }, { annotations: { destructiveHint: a } as JsonObject });
          const second = classOf(tool, parameters, { type }, { annotations: { destructiveHint: a } as JsonObject });
          expect(first).toEqual(second);
          expect([...first.reasons].sort()).toEqual(first.reasons);
          expect(new Set(first.reasons).size).toBe(first.reasons.length);
          expect(first.reasons.length).toBeGreaterThan(0);
        },
      ),
      { numRuns: 500 },
    );
  });
});

describe('the list phase', () => {
  test('names the least class a tool can have', () => {
    const list = (tool: string, type = 'sql') => spell(classOf(tool, null, { type }));
    expect(list('execute_query')).toBe('query/low');
    expect(list('reset_database')).toBe('admin/critical');
    expect(list('update_order_status')).toBe('mutation/medium');
    expect(list('frobnicate')).toBe('custom/high');
    expect(list('delete_order', 'api')).toBe('mutation/medium');
    expect(list('request', 'api')).toBe('query/low');
    expect(list('read_file', 'file')).toBe('query/low');
    expect(list('kubectl', 'k8s')).toBe('query/low');
    expect(list('drain_node', 'k8s')).toBe('admin/critical');
    expect(list('anything', 'custom')).toBe('custom/high');
  });
});

describe('what arguments could make of a tool', () => {
  const possible = (tool: string, facts: Parameters<typeof makeServer>[0] = {}, registry = makeRegistry()) =>
    registry.classify(makeCall(tool, null), makeServer(facts)).possible;

  test('is said of tools that run what they are given, at the least level each type can have', () => {
    expect(possible('execute_query')).toEqual({ analytics: 'low', mutation: 'medium', admin: 'critical' });
    expect(possible('request', { type: 'api' })).toEqual({ mutation: 'medium' });
    expect(possible('kubectl', { type: 'k8s' })).toEqual({ mutation: 'medium', admin: 'critical' });
  });

  test('is not said of tools that do one thing, nor once the arguments are known', () => {
    for (const tool of ['reset_database', 'update_order_status', 'list_tables', 'frobnicate']) {
      expect(possible(tool)).toBeUndefined();
    }
    const called = makeRegistry().classify(makeCall('execute_query', { query: 'SELECT 1' }), makeServer());
    expect(called.possible).toBeUndefined();
  });

  test('is raised by floors, production and what the operator declared, as a call would be', () => {
    expect(possible('execute_query', { sensitivity_floor: 'high' })).toEqual({
      ...{ analytics: 'high', mutation: 'high', admin: 'critical' },
    });
    expect(possible('execute_query', { environment: 'production' })).toMatchObject({
      analytics: 'low',
      mutation: 'high',
    });
    expect(possible('execute_query', { tools: { execute_query: { type: 'mutation' } } })).toEqual({
      admin: 'critical',
    });
  });

  test('looks past a hint that speaks of the worst a runner can do', () => {
    const hinted = makeCall('execute_query', null, { annotations: { destructiveHint: true } });
    const found = makeRegistry().classify(hinted, makeServer());
    expect(spell(found)).toBe('mutation/medium');
    expect(found.possible).toMatchObject({ query: 'medium', analytics: 'medium' });
  });

  test('includes what rules on arguments would find', () => {
    const rule = { server_type: 'billing', tool: '^ledger$', parameter: 'mode', pattern: '^read$' };
    const own = makeRegistry({ rules: [{ ...rule, type: 'query', sensitivity: 'low', reason: 'billing:read' }] });
    expect(possible('ledger', { type: 'billing' }, own)).toEqual({ query: 'low' });
    expect(possible('other', { type: 'billing' }, own)).toBeUndefined();
  });
});

describe('arguments made to take long', () => {
  const quickly = (type: string, parameters: unknown) => {
    const started = performance.now();
    const found = classOf('tool', parameters, { type });
    expect(performance.now() - started).toBeLessThan(1000);
    return found.reasons;
  };

  test('with a keyword of GraphQL again and again are read in linear time', () => {
    quickly('api', { method: 'GET', query: ' mutation'.repeat(200_000) });
    expect(quickly('api', { method: 'GET', query: `${' mutation'.repeat(9)} {` })).toContain('api:graphql-mutation');
  });

  test.each(['.', '; ', ' ', '::'])('with paths full of %j are read in linear time', (piece) => {
    const path = `${piece.repeat(4000 / piece.length)}\nx`;
    quickly('file', { paths: Array.from({ length: 500 }, () => path) });
  });

  test('with more statements than one call needs are not parsed', () => {
    const many = Array.from({ length: 5000 }, (_, i) => `SELECT ${i}`);
    expect(classOf('execute_query', { query: 'SELECT 1', more: many }).reasons).toContain('sql:too-long');
    const long = `SELECT ${'1,'.repeat(10_000)}1`;
    expect(classOf('execute_query', { a: long, b: long, c: long, d: long }).reasons).toContain('sql:too-long');
    expect(spell(classOf('execute_query', { query: 'SELECT 1', more: many.slice(0, 20) }))).toBe('query/low');
  });
});

describe('registration and events', () => {
  const billing: Classifier = {
    serverType: 'billing',
    classify: ({ tool }) => [{ type: 'billing', level: tool === 'refund' ? 'high' : 'low', reason: 'billing:call' }],
  };

  test('a registered classifier serves its type and a new tool type comes through', () => {
    verifies('S-01', 'S-22', 'S-23', 'S-25');
    const events: LoggedEvent[] = [];
    const own = makeRegistry({ logger: recordingLogger(events) });
    own.register('billing', billing);
    expect(spell(own.classify(makeCall('refund', {}), makeServer({ type: 'billing' })))).toBe('billing/high');
    expect(spell(own.classify(makeCall('show', {}), makeServer({ type: 'billing' })))).toBe('billing/medium');
    const names = events.map(({ level, fields }) => [level, fields.event]);
    expect(names).toContainEqual(['info', 'custom_classifier_registered']);
    expect(names).toContainEqual(['debug', 'tool_classified']);
  });

  test('a built-in is replaced only when asked for by name', () => {
    verifies('S-22');
    const own = makeRegistry();
    expect(() => own.register('sql', billing)).toThrow(GatewayError);
    own.register('sql', billing, { replace: true });
    expect(own.classify(makeCall('x', {}), makeServer()).tool_type).toBe('billing');
    expect(own.serverTypes()).toEqual(['api', 'custom', 'file', 'k8s', 'llm', 'sql']);
  });

  test('a classifier that throws gives the most dangerous class', () => {
    const own = makeRegistry();
    own.register('bad', {
      serverType: 'bad',
      classify: () => {
        throw new Error('defect');
      },
    });
    const found = own.classify(makeCall('x', {}), makeServer({ type: 'bad' }));
    expect([spell(found), found.reasons]).toEqual(['admin/critical', ['unknown:classifier-failed']]);
  });

  test('an unknown server type is custom/high, warned about and counted', () => {
    verifies('S-15', 'S-25');
    const events: LoggedEvent[] = [];
    const counted: string[] = [];
    const own = makeRegistry({ logger: recordingLogger(events), onUnknown: (type) => counted.push(type) });
    expect(spell(own.classify(makeCall('x', {}), makeServer({ type: 'mystery' })))).toBe('custom/high');
    expect(spell(own.classify(makeCall('x', {}), null))).toBe('custom/high');
    expect(counted).toEqual(['mystery']);
    expect(events.filter(({ level }) => level === 'warn').map(({ fields }) => fields.event)).toEqual([
      'unknown_server_type',
    ]);
  });
});

describe('rules of the operator', () => {
  test('a rule in config gives a type of its own a class, by name and by argument', () => {
    verifies('S-01');
    const own = makeRegistry({
      rules: [
        { server_type: 'billing', tool: '^refund_', type: 'billing', sensitivity: 'high', reason: 'billing:refund' },
        {
          server_type: 'billing',
          tool: '.',
          parameter: 'amount',
          pattern: '^[0-9]{5,}$',
          type: 'billing',
          sensitivity: 'critical',
          reason: 'billing:large',
        },
      ],
    });
    const found = (tool: string, parameters: unknown) =>
      own.classify(makeCall(tool, parameters), makeServer({ type: 'billing' }));
    expect(spell(found('refund_order', {}))).toBe('billing/high');
    expect(spell(found('refund_order', { amount: '99999' }))).toBe('billing/critical');
    expect(found('refund_order', { amount: '99999' }).reasons).toEqual(['billing:large', 'billing:refund']);
    expect(spell(found('show', {}))).toBe('custom/high');
  });

  test('an expression that may take more than linear time is refused with its place', () => {
    for (const tool of ['(a+)+$', '(a|a)*$', '(.*)*x', '(?=a)b', '(a)\\1', '((a)*)*', '(', 'x'.repeat(600)])
      expect(() => makeRegistry({ rules: [{ server_type: 'x', tool, type: 'query', reason: 'x:y' }] })).toThrow(
        /rules\[0\]\.tool/,
      );
  });
});

describe('what is no tool call', () => {
  test('every action has a class of its own', () => {
    const of = (action: Call['action']) => spell(registry.classify(makeCall('', {}, { action, server: null }), null));
    expect(of('mcp:protocol')).toBe('query/low');
    expect(of('llm:chat:create')).toBe('integration/medium');
    expect(of('responses:delete')).toBe('mutation/medium');
    expect(of('keys:create')).toBe('mutation/high');
    expect(of('http:get')).toBe('query/low');
    expect(of('http:purge')).toBe('mutation/medium');
    expect(of('admin:reload')).toBe('admin/critical');
    expect(of('gateway:method:call')).toBe('custom/high');
  });
});

import { describe, expect, test } from 'vitest';
import { argumentsOf, canonicalJson, digestOf } from '../../../src/approvals/digest.ts';
import { MAX_SHOWN_LENGTH } from '../../../src/approvals/showable.ts';
import { createRedactor } from '../../../src/audit/redaction.ts';
import type { Classified } from '../../../src/core/exchange.ts';
import type { JsonValue } from '../../../src/core/json.ts';

function asked(params: object | string) {
  const text = typeof params === 'string' ? params : JSON.stringify(params);
  const body = Buffer.from(`{"jsonrpc":"2.0","id":1,"method":"tools/call","params":${text}}`);
  const message = { dialect: 'jsonrpc', body, plan: { kind: 'upstream' } };
  const exchange = { message, calls: [{ parameters: {} }], received: { headers: {} }, route: { protocol: 'mcp' } };
  return argumentsOf(exchange as unknown as Classified);
}

const rpc = (params: object | string): string | undefined => asked(params)?.digest;

describe('the digest of arguments', () => {
  test('does not depend on order or white space', () => {
    expect(canonicalJson({ b: [1, { d: null, c: 'é' }], a: true })).toBe('{"a":true,"b":[1,{"c":"é","d":null}]}');
    expect(rpc('{"name":"t","arguments":{"a":1,"b":2}}')).toBe(rpc('{ "arguments":{"b":2, "a":1},"name":"t"}'));
    expect(digestOf({ a: 1 })).toMatch(/^sha256:[0-9a-f]{64}$/);
  });

  test.each([
    ['another value', '{"name":"t","arguments":{"a":2}}'],
    ['a number spelled otherwise', '{"name":"t","arguments":{"a":1.0}}'],
    ['a number only JavaScript takes for the same', '{"name":"t","arguments":{"a":1.00000000000000000001}}'],
    ['a text instead of a number', '{"name":"t","arguments":{"a":"1"}}'],
    ['one more argument', '{"name":"t","arguments":{"a":1,"b":null}}'],
    ['a nested argument', '{"name":"t","arguments":{"a":[1]}}'],
    ['another name by case', '{"name":"t","arguments":{"A":1}}'],
    ['no argument', '{"name":"t"}'],
    ['task options', '{"name":"t","arguments":{"a":1},"task":{"ttl":60000}}'],
    ['answers to a server', '{"name":"t","arguments":{"a":1},"inputResponses":{"confirm":{"action":"accept"}}}'],
    ['state of a server', '{"name":"t","arguments":{"a":1},"requestState":"x"}'],
    ['a task it belongs to', '{"name":"t","arguments":{"a":1},"_meta":{"io.modelcontextprotocol/related-task":"x"}}'],
    ['foreign _meta', '{"name":"t","arguments":{"a":1},"_meta":{"example.com/mode":"force"}}'],
  ])('changes with %s', (_what, params) => {
    expect(rpc(params)).not.toBe(rpc('{"name":"t","arguments":{"a":1}}'));
  });

  test('does not change with what differs on every try', () => {
    const meta = { progressToken: 7, traceparent: '00-x', 'io.modelcontextprotocol/protocolVersion': '2026-07-28' };
    expect(rpc({ name: 't', arguments: { a: 1 }, _meta: meta })).toBe(rpc({ name: 't', arguments: { a: 1 } }));
    expect(rpc({ name: 't' })).toBe(rpc({ name: 't', arguments: {} }));
  });

  test('does not exist for a body that nobody read', () => {
    const message = { dialect: 'problem', body: null, plan: { kind: 'upstream' } };
    const unread = {
      message,
      route: { protocol: 'http' },
      calls: [{ parameters: { path: '/x' } }],
      received: { headers: { 'content-length': '5' } },
    };
    expect(argumentsOf(unread as unknown as Classified)).toBeNull();
    const bare = { ...unread, received: { headers: {} } };
    expect(argumentsOf(bare as unknown as Classified)?.shown).toEqual({ path: '/x' });
  });

  test('does not exist for an endpoint, whose call leaves out body, query and ids of the path', () => {
    const call = { action: 'http:post', parameters: {}, resource: { type: 'http', id: '/things/{id}' } };
    const exchange = {
      message: { dialect: 'problem', body: null, plan: { kind: 'local' } },
      route: { protocol: 'api' },
      calls: [call],
      received: { headers: { 'content-length': '5' } },
    };
    expect(argumentsOf(exchange as unknown as Classified)).toBeNull();
    expect(argumentsOf({ ...exchange, received: { headers: {} } } as unknown as Classified)).toBeNull();
  });
});

describe('what an approver sees', () => {
  test('is everything that is bound, foreign _meta too', () => {
    const _meta = { 'example.com/mode': 'force', progressToken: 1 };
    expect(asked({ name: 't', arguments: { a: 1 }, _meta })?.shown).toEqual({
      arguments: { a: 1 },
      _meta: { 'example.com/mode': 'force' },
    });
  });

  const deep = (levels: number): JsonValue => (levels === 0 ? 'last' : { a: deep(levels - 1) });
  const largest: readonly (readonly [string, JsonValue])[] = [
    ['a long text', 'x'.repeat(65_500)],
    ['a long list', Array.from({ length: 2000 }, () => 'ok')],
    ['many objects', Array.from({ length: 1990 }, () => ({ a: 1 }))],
    ['many members', Object.fromEntries(Array.from({ length: 2000 }, (_, at) => [`k${at}`, at]))],
    ['something deep', deep(29)],
    ['a number that JavaScript would round', JSON.rawJSON('1.0') as unknown as JsonValue],
  ];

  test.each(largest)('is %s as it is', (_what, value) => {
    const redact = createRedactor({ names: [], maxValueBytes: MAX_SHOWN_LENGTH });
    const { shown } = asked(`{"name":"t","arguments":{"v":${JSON.stringify(value)}}}`) ?? {};
    expect(JSON.stringify(redact(shown, []))).toBe(JSON.stringify({ v: value }));
  });

  test.each([
    ['a text that would be cut', 'x'.repeat(65_537)],
    ['texts that are too much together', Array.from({ length: 20 }, () => 'x'.repeat(4000))],
    ['a list whose end would be left out', Array.from({ length: 2001 }, () => 'ok')],
    ['too many objects', Array.from({ length: 2001 }, () => ({}))],
    ['too many members', Object.fromEntries(Array.from({ length: 2001 }, (_, at) => [`k${at}`, at]))],
    ['something too deep', deep(40)],
  ] as const)('cannot be %s', (_what, value) => {
    expect(asked({ name: 't', arguments: { v: value } })).toBeNull();
  });
});

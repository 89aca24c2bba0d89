import { describe, expect, test } from 'vitest';
import { argumentsOf, canonicalJson, digestOf } from '../../../src/approvals/digest.ts';
import type { Classified } from '../../../src/core/exchange.ts';

function rpc(params: object | string): string | undefined {
  const text = typeof params === 'string' ? params : JSON.stringify(params);
  const body = Buffer.from(`{"jsonrpc":"2.0","id":1,"method":"tools/call","params":${text}}`);
  const message = { dialect: 'jsonrpc', body, plan: { kind: 'upstream' } };
  return argumentsOf({ message, calls: [{ parameters: {} }], received: { headers: {} } } as unknown as Classified)
    ?.digest;
}

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
      calls: [{ parameters: { path: '/x' } }],
      received: { headers: { 'content-length': '5' } },
    };
    expect(argumentsOf(unread as unknown as Classified)).toBeNull();
    const bare = { ...unread, received: { headers: {} } };
    expect(argumentsOf(bare as unknown as Classified)?.shown).toEqual({ path: '/x' });
  });
});

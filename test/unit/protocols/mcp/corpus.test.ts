import { readFileSync } from 'node:fs';
import { beforeAll, describe, expect, test } from 'vitest';
import { GatewayError } from '../../../../src/core/errors.ts';
import type { Reply } from '../../../../src/core/exchange.ts';
import { ToolCatalog } from '../../../../src/protocols/mcp/catalog.ts';
import { createMcpProtocol } from '../../../../src/protocols/mcp/protocol.ts';
import type { Asked } from '../../../helpers/mcp-exchange.ts';
import {
  admitted,
  headersFor,
  judgeOf,
  LEGACY,
  mcpServer,
  plainProblem,
  scriptedUpstream,
  silent,
} from '../../../helpers/mcp-exchange.ts';
import { verifies } from '../../../helpers/verifies.ts';

type Expected = { readonly ok: true } | { readonly code: number; readonly status: number };

interface Case {
  readonly name: string;
  readonly headers?: Readonly<Record<string, string>>;
  readonly body: unknown;
  readonly expect: Expected;
}

function corpus(name: string): readonly Case[] {
  const file = new URL(`../../../corpus/mcp/${name}.json`, import.meta.url);
  return JSON.parse(readFileSync(file, 'utf8')) as readonly Case[];
}

const { upstream } = scriptedUpstream(() => {
  throw new Error('nothing is sent in these tests');
});
const catalog = new ToolCatalog();
const protocol = createMcpProtocol({
  servers: new Map([['orders', mcpServer(upstream)]]),
  judge: judgeOf(() => true).judge,
  logger: silent,
  problem: plainProblem,
  catalog,
});

beforeAll(() => {
  catalog.record('orders', {
    name: 'lookup',
    inputSchema: {
      type: 'object',
      properties: {
        region: { type: 'string', 'x-mcp-header': 'Region' },
        count: { type: 'integer', 'x-mcp-header': 'Count' },
        dry: { type: 'boolean', 'x-mcp-header': 'Dry' },
        place: { type: 'object', properties: { city: { type: 'string', 'x-mcp-header': 'City' } } },
      },
    },
  });
});

/** Null when the request is understood, else the error as the client sees it. */
async function refusalOf(asked: Asked): Promise<Reply | null> {
  const exchange = admitted(asked);
  try {
    await protocol.decode(exchange);
    return null;
  } catch (thrown) {
    if (!(thrown instanceof GatewayError)) throw thrown;
    return protocol.encodeError(thrown, { requestId: 'req_TEST', decisionId: null, rpcId: undefined }, exchange);
  }
}

function check(reply: Reply | null, expected: Expected): void {
  if ('ok' in expected) {
    expect(reply?.body ?? null).toBeNull();
    return;
  }
  const body = JSON.parse(String(reply?.body)) as { error: { code: number } };
  expect({ code: body.error.code, status: reply?.status }).toEqual(expected);
}

describe('modern headers against the body', () => {
  verifies('X-12');
  const cases = corpus('header-body');
  test('the corpus is large enough to mean something', () => expect(cases.length).toBeGreaterThan(40));
  test.each(cases)('$name', async ({ headers, body, expect: expected }) => {
    check(await refusalOf({ headers: headers ?? {}, body }), expected);
  });
  test.each(cases.filter((each) => 'code' in each.expect))('the id is answered: $name', async ({ headers, body }) => {
    const reply = await refusalOf({ headers: headers ?? {}, body });
    expect((JSON.parse(String(reply?.body)) as { id: unknown }).id).toBe(7);
  });
});

describe('JSON-RPC bodies that can be read in more than one way', () => {
  const cases = corpus('json-rpc');
  test.each(cases)('$name', async ({ body, expect: expected }) => {
    check(await refusalOf({ headers: headersFor(LEGACY, {}), body: String(body) }), expected);
  });
});

import type { BufferedResponse, UpstreamRequest } from '../../src/upstreams/upstream.ts';
import { LEGACY, MODERN } from './mcp-exchange.ts';

interface Message {
  readonly id?: number;
  readonly method: string;
  readonly params?: Record<string, unknown>;
}

export const TOOLS = [
  { name: 'echo', description: 'Says it again', inputSchema: { type: 'object' } },
  { name: 'fail', inputSchema: { type: 'object' } },
  { name: 'secret', inputSchema: { type: 'object' } },
];

export function json(status: number, value: unknown, headers: Record<string, string> = {}): BufferedResponse {
  return {
    status,
    headers: { 'content-type': 'application/json', ...headers },
    body: Buffer.from(JSON.stringify(value)),
  };
}

function rpc(id: number | undefined, result: object): object {
  return { jsonrpc: '2.0', id, result };
}

function rpcError(id: number | undefined, code: number, data?: object): object {
  return { jsonrpc: '2.0', id, error: { code, message: `error ${code}`, ...(data === undefined ? {} : { data }) } };
}

function toolAnswer(message: Message): object {
  const name = message.params?.name;
  if (name === 'echo') {
    return rpc(message.id, { content: [{ type: 'text', text: JSON.stringify(message.params?.arguments) }] });
  }
  if (name === 'fail') return rpc(message.id, { isError: true, content: [{ type: 'text', text: 'it broke' }] });
  return rpcError(message.id, -32602);
}

/** Two pages, so that a client has to turn them. */
function listAnswer(message: Message): object {
  const isFirst = message.params?.cursor === undefined;
  return rpc(message.id, isFirst ? { tools: TOOLS.slice(0, 2), nextCursor: '' } : { tools: TOOLS.slice(2) });
}

function asEvents(message: object): BufferedResponse {
  const events = [
    ': hello\n\n',
    'event: message\ndata: {"jsonrpc":"2.0","method":"notifications/message","params":{}}\n\n',
    `event: message\ndata: ${JSON.stringify(message)}\n\n`,
  ];
  return { status: 200, headers: { 'content-type': 'text/event-stream' }, body: Buffer.from(events.join('')) };
}

/** A server of the stateful generation: refuses everything without its session. */
export class LegacyServer {
  readonly sessions = new Set<string>();
  begun = 0;

  readonly answer = (request: UpstreamRequest): BufferedResponse => {
    const message = JSON.parse(String(request.body)) as Message;
    if (message.method === 'initialize') {
      this.begun++;
      this.sessions.add(`s-${this.begun}`);
      const result = { protocolVersion: LEGACY, capabilities: {}, serverInfo: { name: 'x', version: '1' } };
      return json(200, rpc(message.id, result), { 'mcp-session-id': `s-${this.begun}` });
    }
    const session = request.headers['mcp-session-id'];
    if (session === undefined) return json(400, { jsonrpc: '2.0', id: null, error: { code: -32000, message: 'no' } });
    if (!this.sessions.has(session)) return json(404, rpcError(undefined, -32001));
    if (message.id === undefined) return { status: 202, headers: {}, body: Buffer.alloc(0) };
    return asEvents(message.method === 'tools/call' ? toolAnswer(message) : listAnswer(message));
  };
}

/** A server of the stateless generation. */
export class ModernServer {
  /** Header that `tools/call` has to carry, lower-case. */
  demandedHeader: string | null = null;

  readonly answer = (request: UpstreamRequest): BufferedResponse => {
    const message = JSON.parse(String(request.body)) as Message;
    if (request.headers['mcp-method'] !== message.method) return json(400, rpcError(message.id, -32020));
    if (message.method === 'server/discover') {
      return json(200, rpc(message.id, { supportedVersions: [MODERN], capabilities: {} }));
    }
    if (message.method === 'tools/list') return json(200, this.#list(message));
    if (request.headers['mcp-name'] !== message.params?.name) return json(400, rpcError(message.id, -32020));
    if (this.demandedHeader !== null && request.headers[this.demandedHeader] === undefined) {
      return json(400, rpcError(message.id, -32020));
    }
    return json(200, toolAnswer(message));
  };

  #list(message: Message): object {
    if (this.demandedHeader === null) return listAnswer(message);
    const properties = { region: { type: 'string', 'x-mcp-header': this.demandedHeader.slice('mcp-param-'.length) } };
    return rpc(message.id, { tools: [{ name: 'echo', inputSchema: { type: 'object', properties } }] });
  }
}

/** The two public MCP clients, connected to a gateway with an API key. */
import { Client as ModernClient, StreamableHTTPClientTransport as ModernTransport } from '@modelcontextprotocol/client';
import type { ClientOptions } from '@modelcontextprotocol/sdk/client/index.js';
import { Client } from '@modelcontextprotocol/sdk/client/index.js';
import { StreamableHTTPClientTransport } from '@modelcontextprotocol/sdk/client/streamableHttp.js';
import type { Transport } from '@modelcontextprotocol/sdk/shared/transport.js';

const INFO = { name: 'scenario', version: '1.0.0' };

export interface LegacyConnection extends AsyncDisposable {
  readonly client: Client;
  readonly transport: StreamableHTTPClientTransport;
}

/** Initialized and with its GET stream open. `prepare` registers handlers before anything is sent. */
export async function connectLegacy(
  url: string,
  key: string,
  options: ClientOptions = {},
  prepare: (client: Client) => void = () => undefined,
): Promise<LegacyConnection> {
  const client = new Client(INFO, options);
  prepare(client);
  const transport = new StreamableHTTPClientTransport(new URL(url), { requestInit: { headers: { 'x-api-key': key } } });
  // The published class has optional members that say "undefined", which the interface leaves out.
  await client.connect(transport as Transport);
  return { client, transport, [Symbol.asyncDispose]: () => client.close() };
}

export interface ModernConnection extends AsyncDisposable {
  readonly client: ModernClient;
}

/** Speaks revision 2026-07-28 or fails: no falling back to sessions. */
export async function connectModern(url: string, key: string): Promise<ModernConnection> {
  const client = new ModernClient(INFO, { versionNegotiation: { mode: { pin: '2026-07-28' } } });
  const transport = new ModernTransport(new URL(url), { requestInit: { headers: { 'x-api-key': key } } });
  await client.connect(transport);
  return { client, [Symbol.asyncDispose]: () => client.close() };
}

/** Texts of a tool's result. */
export function textOf(result: unknown): string {
  const { content = [] } = result as { content?: readonly { type: string; text?: string }[] };
  return content.map(({ text }) => text ?? '').join('\n');
}

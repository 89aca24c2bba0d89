/**
 * What a server says of a tool at this moment. The catalog knows what passed by, in this process and this generation;
 * whoever binds something to a tool's definition has to ask the server itself. Source: design 2.4, security 2.5.
 */
import type { Call } from '../../core/call.ts';
import { GatewayError } from '../../core/errors.ts';
import type { Admitted } from '../../core/exchange.ts';
import type { ToolCatalog } from './catalog.ts';
import type { McpClient } from './client.ts';
import type { McpServer } from './server.ts';

export interface DefinitionsOptions {
  readonly servers: ReadonlyMap<string, McpServer>;
  readonly client: McpClient;
  /** The one that `client` fills. */
  readonly catalog: ToolCatalog;
  /** What an upstream is told of the caller. */
  identityHeaders(exchange: Admitted): Readonly<Record<string, string>>;
}

export class Definitions {
  readonly #options: DefinitionsOptions;

  constructor(options: DefinitionsOptions) {
    this.#options = options;
  }

  /**
   * The calls with the definitions of today, or the same ones where nothing is to be asked or nothing has changed; null
   * when the server cannot be asked. Costs a listing of the server's tools, on behalf of the caller.
   */
  async current(exchange: Admitted, calls: readonly Call[]): Promise<readonly Call[] | null> {
    const [call, ...more] = calls;
    if (call === undefined || more.length > 0 || call.action !== 'gateway:tool:invoke') return calls;
    const { servers, catalog } = this.#options;
    const server = call.server === null ? undefined : servers.get(call.server);
    if (server === undefined || call.tool === null) return calls;
    const names = await this.#listed(server, exchange);
    if (names === null) return null;
    const known = names.has(call.tool) ? catalog.get(server.facts.name, call.tool) : null;
    const schema_hash = known?.schema_hash ?? null;
    if (schema_hash === call.schema_hash) return calls;
    return [{ ...call, annotations: known?.annotations ?? null, schema_hash }];
  }

  /** Names of the tools there are; the catalog has their definitions then. */
  async #listed(server: McpServer, exchange: Admitted): Promise<ReadonlySet<unknown> | null> {
    const { client, identityHeaders } = this.#options;
    const { principal, received } = exchange;
    try {
      const by = { principal, headers: identityHeaders(exchange), signal: received.signal };
      return new Set((await client.listTools(server, by)).map(({ name }) => name));
    } catch (thrown) {
      if (thrown instanceof GatewayError && !received.cancel.aborted) return null;
      throw thrown;
    }
  }
}

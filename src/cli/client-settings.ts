/** What to put into the settings of common clients so that they talk to the gateway. The key stays a placeholder. */

export interface ClientTarget {
  /** Name of the MCP server in the configuration. */
  readonly server: string;
  /** Address of its route, e.g. `http://127.0.0.1:8080/mcp/orders`. */
  readonly mcpUrl: string;
  /** Base URL of the LLM route, or null without one. */
  readonly llmUrl: string | null;
}

export interface ClientSetting {
  readonly client: string;
  /** Where it goes: a file, or a shell. */
  readonly where: string;
  readonly text: string;
}

const pretty = (value: unknown): string => JSON.stringify(value, null, 2);

/** Settings for Claude Code and Desktop, Cursor, VS Code and, with an LLM route, the OpenAI SDKs. */
export function clientSettings({ server, mcpUrl, llmUrl }: ClientTarget): ClientSetting[] {
  const settings = [
    {
      client: 'Claude Code',
      where: 'shell',
      text: `claude mcp add --transport http ${server} ${mcpUrl} --header "X-API-Key: $PORTCULLIS_KEY"`,
    },
    {
      client: 'Claude Desktop',
      where: 'claude_desktop_config.json',
      text: pretty({
        mcpServers: {
          [server]: {
            command: 'npx',
            args: ['-y', 'mcp-remote', mcpUrl, '--header', `X-API-Key:\${PORTCULLIS_KEY}`],
            env: { PORTCULLIS_KEY: '<your key>' },
          },
        },
      }),
    },
    {
      client: 'Cursor',
      where: '~/.cursor/mcp.json',
      text: pretty({ mcpServers: { [server]: { url: mcpUrl, headers: { 'X-API-Key': `\${env:PORTCULLIS_KEY}` } } } }),
    },
    {
      client: 'VS Code',
      where: '.vscode/mcp.json',
      text: pretty({
        inputs: [{ type: 'promptString', id: 'portcullis-key', description: 'Portcullis API key', password: true }],
        servers: { [server]: { type: 'http', url: mcpUrl, headers: { 'X-API-Key': `\${input:portcullis-key}` } } },
      }),
    },
  ];
  if (llmUrl === null) return settings;
  const openai = `export OPENAI_BASE_URL=${llmUrl}\nexport OPENAI_API_KEY=$PORTCULLIS_KEY`;
  return [...settings, { client: 'OpenAI SDKs', where: 'shell', text: openai }];
}

/** The demo's configuration and the file that tells scripts how to reach it. */

export interface DemoUpstreams {
  readonly orders: string;
  readonly everything: string;
  readonly model: string;
}

/** `demo.json`. Source: contracts 5. */
export interface DemoFile {
  readonly gateway: string;
  readonly admin: string;
  readonly admin_token: string;
  readonly model: string;
  readonly keys: {
    readonly admin: string;
    /** A second admin, who can approve what the first one asks for. */
    readonly approver: string;
    readonly developer: string;
    readonly analyst: string;
    readonly guest: string;
  };
  readonly accounts: { readonly admin: { readonly username: string; readonly password: string } };
  readonly servers: readonly DemoServer[];
}

export interface DemoServer {
  readonly name: string;
  readonly type: string;
  readonly dialect: string | null;
  readonly url: string;
  readonly tools: readonly string[];
}

/** YAML with comments: people open it to see how it is done. `policies` is the directory of the default policy. */
export function demoConfig(upstreams: DemoUpstreams, ports: { data: number; admin: number }, policies: string): string {
  return `# Written by "portcullis demo" at each start. Copy it before you change it.
version: 1
mode: development
${nameLine(ports.data)}listen:
  data: "127.0.0.1:${ports.data}"
  admin: { address: "127.0.0.1:${ports.admin}", token: "\${file:./admin.token}" }

# Keys made by the demo; see demo.json.
identity:
  keys: { kind: api-key, prefixes: [pc, vllm] }
  accounts: { kind: local }

${accountsPart(ports.data !== 0)}
servers:
  orders:
    type: sql
    dialect: sqlite
    url: "${upstreams.orders}"
    environment: staging
    tools:
      execute_query: {}
      update_order_status: { type: mutation, sensitivity: medium }
      reset_database: { type: admin, sensitivity: critical }
  everything:
    type: custom
    url: "${upstreams.everything}"
    environment: staging
    allow: [sampling, elicitation, roots]
    # Nobody can know what a custom tool does: without these lines all of them are custom/high.
    tools:
      echo: { type: query, sensitivity: low }
      get-sum: { type: query, sensitivity: low }
      get-tiny-image: { type: query, sensitivity: low }
      get-annotated-message: { type: query, sensitivity: low }
      get-resource-links: { type: query, sensitivity: low }
      get-structured-content: { type: query, sensitivity: low }

models:
  tiny-gate:
    url: "${upstreams.model}"
    protocol: openai
    credential: "\${file:./model.key}"

routes:
  - { match: /mcp/orders, protocol: mcp, server: orders, identity: [keys, accounts] }
  - { match: /mcp/everything, protocol: mcp, server: everything, identity: [keys, accounts] }
  - { match: /v1, protocol: llm, model: tiny-gate, identity: [keys, accounts] }

policy: { bundle: ${JSON.stringify(policies)}, decision_log: { file: ./decisions.jsonl } }
# The second administrator of the demo is an API key; people who approve log in, with a second factor.
approvals: { allow_programs: true }
stores: { database: "sqlite:./portcullis.db" }
audit: { mode: best-effort, file: ./audit.jsonl }
`;
}

/** Under port 0 nobody knows the address beforehand. */
const nameLine = (port: number): string => (port === 0 ? '' : `public_url: "http://127.0.0.1:${port}"\n`);

/** @param isNamed agents can only be told where to log in when the address is known beforehand */
const accountsPart = (isNamed: boolean): string =>
  `# Anybody may make an account here, as often as they like: it is a demo. The administrator stands in demo.json.
accounts:
  enabled: true
  self_registration: true
  limits: { login_per_minute: 1000, register_per_hour: 1000, verify_per_minute: 10000 }
  # Agents that know nothing but an address of a route send their user here to log in.
  authorization_server: { enabled: ${isNamed} }
`;

/** A gateway in front of the fixture, and a shim that adds the key which the suite cannot send. */
import type { Server } from 'node:http';
import { createServer, request } from 'node:http';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import { configSchema } from '../../src/config/schema.ts';
import type { Gateway } from '../../src/gateway.ts';
import { createGateway } from '../../src/gateway.ts';
import { IDENTITY_SCHEMA } from '../../src/modules.ts';

const ROOT = join(import.meta.dirname, '../..');

/** `home` takes the database and the audit file. */
export async function startGateway(upstream: string, home: string): Promise<Gateway> {
  const config = configSchema(IDENTITY_SCHEMA).parse({
    version: 1,
    listen: { data: '127.0.0.1:0', admin: { address: '127.0.0.1:0' } },
    identity: { keys: { kind: 'api-key' } },
    servers: {
      fixture: { url: upstream, allow: ['sampling', 'elicitation', 'roots'] },
      closed: { url: upstream },
      asleep: { url: upstream, enabled: false },
    },
    routes: [
      { match: '/mcp', protocol: 'mcp', server: 'fixture', identity: ['keys'] },
      { match: '/closed', protocol: 'mcp', server: 'closed', identity: ['keys'] },
      { match: '/readable', protocol: 'mcp', server: 'fixture', identity: ['keys'], denial: 'result' },
      { match: '/tools', protocol: 'tools', identity: ['keys'] },
      { match: '/servers', protocol: 'tools', identity: ['keys'] },
    ],
    policy: { bundle: join(ROOT, 'policies'), watch: false },
    stores: { database: `sqlite:${join(home, 'gateway.db')}` },
    audit: { file: join(home, 'audit.jsonl') },
    logging: { level: 'error' },
  });
  const gateway = await createGateway(config, { baseDir: home });
  await gateway.start();
  return gateway;
}

/** Forwards to the gateway with a key; Host and Origin stay as the suite sent them. */
export async function startShim(gateway: string, key: string): Promise<{ server: Server; url: string }> {
  const { hostname, port } = new URL(gateway);
  const server = createServer((req, res) => {
    const headers = [...req.rawHeaders, 'X-API-Key', key];
    const onward = request({ hostname, port, method: req.method, path: req.url, headers, setHost: false }, (answer) => {
      res.writeHead(answer.statusCode ?? 502, answer.rawHeaders);
      res.flushHeaders();
      answer.pipe(res);
      answer.on('error', () => res.destroy());
    });
    onward.on('error', () => res.destroy());
    res.on('close', () => onward.destroy());
    req.pipe(onward);
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const address = server.address() as AddressInfo;
  return { server, url: `http://localhost:${address.port}/mcp` };
}

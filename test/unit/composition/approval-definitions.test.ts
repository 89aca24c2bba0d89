import { expect, test } from 'vitest';
import { definitions } from '../../../src/composition/approval-definitions.ts';
import { buildRoutes } from '../../../src/composition/routes.ts';
import { type PartialConfig, scenarioConfig } from '../../helpers/gateway.ts';
import { verifies } from '../../helpers/verifies.ts';

const BASE = {
  servers: { orders: { type: 'sql', url: 'http://127.0.0.1:1/mcp' } },
  models: { small: { url: 'http://127.0.0.1:2/v1', protocol: 'openai' } },
  routes: [
    { match: '/api', protocol: 'http', url: 'http://127.0.0.1:3', identity: ['keys'] },
    { match: '/v1', protocol: 'llm', model: 'small', identity: ['keys'] },
  ],
} as const satisfies PartialConfig;

/** What calls of the server and of both routes are bound to. */
function bound(partial: PartialConfig): readonly string[] {
  const config = scenarioConfig(partial, '/nowhere');
  const of = definitions(config);
  const [http, llm] = buildRoutes(config);
  if (http === undefined || llm === undefined) throw new Error('two routes were configured');
  return [of({ server: 'orders' }, http), of({ server: null }, http), of({ server: null }, llm)];
}

test('what no server defines is bound to where it goes, and to nothing else of the configuration', () => {
  verifies('SF-32');
  const was = bound(BASE);
  expect(new Set(was).size).toBe(3);
  const [http, llm] = BASE.routes;
  const server = { ...BASE.servers.orders, headers_timeout_ms: 1234, description: 'other words' };
  expect(bound({ ...BASE, servers: { orders: server } })).toEqual(was);
  const changed = bound({
    servers: { orders: { ...server, url: 'http://127.0.0.1:9/mcp' } },
    models: { small: { ...BASE.models.small, url: 'http://127.0.0.1:9/v1' } },
    routes: [{ ...http, rewrite: '/admin' }, llm],
  });
  for (const [at, one] of changed.entries()) expect(one).not.toBe(was[at]);
});

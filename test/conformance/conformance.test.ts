import { mkdtempSync, rmSync } from 'node:fs';
import type { Server } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { Gateway } from '../../src/gateway.ts';
import { verifies } from '../helpers/verifies.ts';
import { startFixture } from './fixture/server.ts';
import { startGateway, startShim } from './gateway.ts';
import { compare, REVISIONS, runSuite } from './suite.ts';

const home = mkdtempSync(join(tmpdir(), 'conformance-'));
let fixture: { server: Server; url: string };
let shim: { server: Server; url: string };
let gateway: Gateway;

beforeAll(async () => {
  fixture = await startFixture();
  gateway = await startGateway(fixture.url, home);
  const key = await gateway.keys.create({ name: 'suite', tenant_id: 'default', roles: ['admin'] });
  shim = await startShim(gateway.urls.data, key);
});

afterAll(async () => {
  shim.server.close();
  fixture.server.closeAllConnections();
  fixture.server.close();
  await gateway.close();
  rmSync(home, { recursive: true, force: true });
});

describe('the public MCP suite', () => {
  verifies('X-12');
  test.each(REVISIONS)(
    'finds of %s through the gateway exactly what it finds directly',
    { timeout: 90_000 },
    async (revision) => {
      const direct = await runSuite(fixture.url, revision);
      const proxied = await runSuite(shim.url, revision);
      expect(direct.checks.size).toBeGreaterThan(80);
      expect(compare(direct, proxied).filter((row) => row.direct !== row.proxied)).toEqual([]);
      expect([direct.exitCode, proxied.exitCode]).toEqual([0, 0]);
    },
  );
});

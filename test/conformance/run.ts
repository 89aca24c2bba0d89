/**
 * `npm run conformance`: the public MCP suite against our fixture, directly and through a gateway, line by line. Exits
 * with 1 when a scored scenario fails or a line differs. Source: mcp 5, contracts 8.
 */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { startFixture } from './fixture/server.ts';
import { startGateway, startShim } from './gateway.ts';
import type { Row, SuiteRun } from './suite.ts';
import { compare, REVISIONS, runSuite } from './suite.ts';

const home = mkdtempSync(join(tmpdir(), 'conformance-gateway-'));
const fixture = await startFixture();
const gateway = await startGateway(fixture.url, home);
const key = await gateway.keys.create({ name: 'conformance', tenant_id: 'default', roles: ['admin'] });
const shim = await startShim(gateway.urls.data, key);
let failures = 0;
try {
  for (const revision of REVISIONS) {
    const direct = await runSuite(fixture.url, revision);
    const proxied = await runSuite(shim.url, revision);
    const rows = compare(direct, proxied);
    print(revision, rows);
    const different = rows.filter((row) => row.direct !== row.proxied).length;
    console.log(`${revision}: exit ${direct.exitCode} direct, ${proxied.exitCode} through the gateway;`);
    console.log(`${rows.length} checks, ${different} different: ${tally(direct)} direct, ${tally(proxied)} proxied\n`);
    failures += different + direct.exitCode + proxied.exitCode;
  }
} finally {
  shim.server.close();
  fixture.server.closeAllConnections();
  fixture.server.close();
  await gateway.close();
  rmSync(home, { recursive: true, force: true });
}
process.exitCode = failures === 0 ? 0 : 1;

function tally({ checks }: SuiteRun): string {
  const statuses = [...checks.values()];
  const count = (status: string) => statuses.filter((each) => each === status).length;
  return `${count('SUCCESS')} passed, ${count('FAILURE')} failed`;
}

function print(revision: string, rows: readonly Row[]): void {
  const width = Math.max(...rows.map((row) => row.check.length));
  console.log(`${revision.padEnd(width)}  direct   gateway`);
  for (const { check, direct, proxied } of rows) {
    const mark = direct === proxied ? '' : '  <- differs';
    console.log(`${check.padEnd(width)}  ${direct.padEnd(7)}  ${proxied}${mark}`);
  }
}

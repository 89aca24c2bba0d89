/** What `serve` says of a setup that passes the schema and cannot be used: a sentence, never a stack. */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Readable } from 'node:stream';
import { afterAll, expect, test } from 'vitest';
import { main } from '../../../src/cli/cli.ts';
import { ROOT } from '../../helpers/processes.ts';

const home = mkdtempSync(join(tmpdir(), 'portcullis-serve-'));
afterAll(() => rmSync(home, { recursive: true }));

const FILES = {
  'junk.pem': 'no key at all',
  'syntax.mjs': 'export default class {',
  'throws.mjs': 'export default class { constructor() { throw new TypeError("no options given"); } }',
  'nothing.mjs': 'export default { a: 1 };',
  'idle.mjs': 'export default class {}',
} as const;
for (const [name, text] of Object.entries(FILES)) writeFileSync(join(home, name), text);

const own = (module: string) => ({ kind: 'custom', module });

test.each([
  [own('./nowhere.mjs'), 'identity.p.module: there is no file', 'nowhere.mjs'],
  [own('./syntax.mjs'), 'syntax.mjs: ', ''],
  [own('./throws.mjs'), 'throws.mjs: no options given', ''],
  [own('./nothing.mjs'), 'nothing.mjs: expected a class', ''],
  [own('./idle.mjs'), 'idle.mjs: what it makes has no method "authenticate"', ''],
  [{ kind: 'jwt', issuer: 'us', audience: 'us', public_key: 'junk.pem' }, 'junk.pem: ', ''],
  [{ kind: 'mtls', ca: 'junk.pem' }, 'junk.pem: holds no certificate', ''],
  [{ kind: 'oidc', issuer: 'https://idp.example.com', client_id: 'us' }, 'identity.p: set audience, or public_url', ''],
])('serve refuses %j in a sentence', async (provider, why, more) => {
  const config = {
    ...{ version: 1, identity: { p: provider } },
    listen: { data: '127.0.0.1:0', admin: { address: '127.0.0.1:0' } },
    policy: { bundle: join(ROOT, 'policies') },
    stores: { database: 'sqlite::memory:', shared: 'memory' },
    logging: { level: 'error' },
  };
  writeFileSync(join(home, 'p.json'), JSON.stringify(config));
  let err = '';
  const code = await main(['serve', '-c', join(home, 'p.json')], {
    stdin: Readable.from([]),
    out: () => undefined,
    err: (text) => {
      err += text;
    },
    env: {},
    cwd: home,
    signal: AbortSignal.abort(),
  });
  expect([code, err]).toEqual([1, expect.stringContaining(why)]);
  expect(err).toContain(more);
  expect(err).not.toMatch(/unexpected error|\n {4}at /);
});

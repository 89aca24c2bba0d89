import { mkdtempSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { main } from '../../../src/cli/cli.ts';
import { fakeIo } from './fake-io.ts';

const directory = mkdtempSync(join(tmpdir(), 'portcullis-users-'));
writeFileSync(join(directory, 'off.yaml'), 'version: 1\nidentity: { keys: { kind: api-key } }\n');
writeFileSync(
  join(directory, 'on.yaml'),
  'version: 1\naccounts: { enabled: true, roles: { operator: { permissions: [tasks.*] } } }\nidentity: { people: { kind: local } }\n',
);

async function users(config: string, ...argv: string[]) {
  const { io, written } = fakeIo({ cwd: directory });
  const code = await main(['users', ...argv, '-c', config], io);
  return { code, ...written };
}

test('says that nobody can log in with an account while accounts are switched off', async () => {
  const warning = 'warning: accounts.enabled is false: nobody can log in with an account\n';
  expect(await users('off.yaml', 'list')).toMatchObject({ code: 0, err: warning });
  expect(await users('on.yaml', 'list')).toMatchObject({ code: 0, err: '' });
});

test('names the roles there are for one that there is not', async () => {
  const argv = ['create', '--username', 'maria', '--email', 'maria@example.com', '--role', 'operater'];
  expect(await users('on.yaml', ...argv)).toEqual({
    code: 1,
    out: '',
    err: 'portcullis users: There is no role "operater"; there are admin, user, viewer, operator\n',
  });
});

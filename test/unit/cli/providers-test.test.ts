import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { Readable } from 'node:stream';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { main } from '../../../src/cli/cli.ts';
import { createAuthority } from '../../helpers/certificates.ts';
import { temporaryDirectory } from '../../helpers/processes.ts';
import {
  GATEWAY_DN,
  GATEWAY_PASSWORD,
  LDAP_BASE,
  NO_SLAPD,
  type Slapd,
  startSlapd,
} from '../../helpers/processes-slapd.ts';

describe.skipIf(NO_SLAPD !== null)(`providers test${NO_SLAPD === null ? '' : ` (skipped: ${NO_SLAPD})`}`, () => {
  const home = temporaryDirectory('portcullis-providers-');
  let server: Slapd;

  beforeAll(async () => {
    server = await startSlapd({ ca: await createAuthority('CN=Directory') });
    const staff = (url: string) => ({ kind: 'ldap', url, base_dn: LDAP_BASE, bind_dn: GATEWAY_DN, refusal_ms: 0 });
    const password = `\${env:LDAP_PASSWORD}`;
    const identity = {
      staff: { ...staff(server.url), bind_password: password },
      strange: { ...staff(server.secureUrl), bind_password: password },
      locked: { ...staff(server.url), bind_password: 'not the word of the gateway' },
      gone: { ...staff('ldap://127.0.0.1:9'), bind_password: password },
    };
    writeFileSync(join(home.path, 'p.yaml'), JSON.stringify({ version: 1, identity }));
  });
  afterAll(async () => {
    await server[Symbol.asyncDispose]();
    home[Symbol.dispose]();
  });

  async function run(input: string, ...args: string[]) {
    let out = '';
    let err = '';
    const code = await main(['providers', 'test', ...args, '-c', join(home.path, 'p.yaml')], {
      stdin: Readable.from([input]),
      out: (text) => {
        out += text;
      },
      err: (text) => {
        err += text;
      },
      env: { LDAP_PASSWORD: GATEWAY_PASSWORD },
      cwd: home.path,
      signal: new AbortController().signal,
    });
    return { code, out, err };
  }

  test('says that a directory answers, and who somebody is', async () => {
    expect(await run('', 'staff')).toMatchObject({ code: 0, out: 'staff  ldap  ok\n' });
    const { code, out } = await run('wonder land 1\n', 'staff', '--username', 'alice', '--json');
    expect(code).toBe(0);
    expect(JSON.parse(out)).toMatchObject({ name: 'staff', login: { id: 'alice', email: 'alice@example.org' } });
  });

  test('says why a login is refused, without the password', async () => {
    const { code, err } = await run('a wrong word\n', 'staff', '--username', 'alice');
    expect(code).toBe(1);
    expect(err).toContain('wrong password');
    expect(err).not.toContain('a wrong word');
  });

  test('says that a directory is not there, or that nothing has this name', async () => {
    expect(await run('', 'gone')).toMatchObject({ code: 3, err: expect.stringContaining('cannot be reached') });
    expect(await run('', 'strange')).toMatchObject({
      code: 3,
      err: expect.stringMatching(/cannot be reached: .*certificate/),
    });
    expect(await run('', 'locked')).toMatchObject({ code: 3, err: expect.stringContaining('refuses bind_dn: wrong') });
    const nobody = await run('', 'nobody');
    expect(nobody).toMatchObject({ code: 2, err: expect.stringMatching(/no provider "nobody"; it has staff, /) });
    expect(await run('', 'constructor')).toMatchObject({ code: 2 });
  });
});

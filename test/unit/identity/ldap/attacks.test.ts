/** Every hostile login of the corpus, against real servers: a strict one and one that takes no password for nobody. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { countAttacks } from '../../../helpers/attacks.ts';
import { createAuthority } from '../../../helpers/certificates.ts';
import { ROOT } from '../../../helpers/processes.ts';
import { NO_SLAPD, type Slapd, startSlapd } from '../../../helpers/processes-slapd.ts';
import { verifies } from '../../../helpers/verifies.ts';
import { NEVER } from '../setting.ts';
import { staff } from './staff.ts';

interface Case {
  readonly title: string;
  readonly login?: { readonly name: string; readonly password: string };
  readonly basic?: string;
  readonly server?: 'lenient';
  readonly options?: Record<string, unknown>;
  readonly expect: 'authenticated' | 'invalid';
  readonly detail?: string;
  /** False: the directory must not hear of it. */
  readonly asked?: boolean;
  readonly principal?: Record<string, unknown>;
}

const { cases } = JSON.parse(readFileSync(join(ROOT, 'test/corpus/ldap/attacks.json'), 'utf8')) as { cases: Case[] };

describe.skipIf(NO_SLAPD !== null)(`hostile logins${NO_SLAPD === null ? '' : ` (skipped: ${NO_SLAPD})`}`, () => {
  const servers: { strict?: Slapd; lenient?: Slapd } = {};

  beforeAll(async () => {
    const ca = await createAuthority();
    servers.strict = await startSlapd({ ca });
    servers.lenient = await startSlapd({ ca, lenient: true });
  });

  afterAll(async () => {
    await servers.strict?.[Symbol.asyncDispose]();
    await servers.lenient?.[Symbol.asyncDispose]();
  });

  test('the servers are as hostile as the cases need them', async () => {
    verifies('SF-56');
    // Without the check of the gateway this server would let anybody in by the name alone.
    const { Client } = await import('ldapts');
    const client = new Client({ url: servers.lenient?.url ?? '' });
    await client.bind('uid=alice,ou=people,dc=example,dc=org', '');
    await client.unbind();
  });

  countAttacks('LDAP', cases.filter((one) => one.expect !== 'authenticated').length);

  test.each(cases.map((one) => [one.title, one] as const))('%s', async (_title, one) => {
    verifies('S-69', 'S-70', 'SF-53', 'SF-54', 'SF-55', 'SF-56');
    const server = one.server === 'lenient' ? servers.lenient : servers.strict;
    if (server === undefined) throw new Error('the server did not start');
    await using people = await staff(server.url, one.options);
    const { provider, around } = people;
    const before = server.log().length;
    const result =
      one.login === undefined
        ? await people.basic(one.basic ?? '')
        : await provider.verify(one.login, around.facts(), NEVER);
    if (one.expect === 'authenticated') {
      expect(result).toMatchObject({ kind: 'authenticated', principal: one.principal ?? {} });
      return;
    }
    expect(result).toMatchObject({ kind: 'rejected', reason: 'invalid' });
    // The caller gets the same words for every cause.
    expect(result).toHaveProperty('challenge', 'Basic realm="portcullis", charset="UTF-8"');
    expect(result).toHaveProperty('detail', expect.stringMatching(new RegExp(one.detail ?? '')));
    if (one.asked === false) expect(server.log().slice(before)).not.toContain('BIND');
  });
});

/** `portcullis policy`: the help of one command, and what it says of a running gateway. */
import { rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { main } from '../../../src/cli/cli.ts';
import { POLICY_VERBS } from '../../../src/cli/policy-help.ts';
import type { TestGateway } from '../../helpers/gateway.ts';
import { ADMIN_TOKEN, POLICIES, startGateway } from '../../helpers/gateway.ts';
import { temporaryDirectory } from '../../helpers/processes.ts';
import { fakeIo } from './fake-io.ts';

async function policy(...argv: string[]) {
  const { io, written } = fakeIo({ env: { PORTCULLIS_ADMIN_TOKEN: ADMIN_TOKEN }, cwd: '/' });
  const code = await main(['policy', ...argv], io);
  return { code, ...written };
}

describe('the help of policy', () => {
  test.each(POLICY_VERBS)('%s --help speaks of this command alone, with its exit codes', async (verb) => {
    const { code, out } = await policy(verb, '--help');
    expect(code).toBe(0);
    expect(out).toMatch(new RegExp(`^Usage: portcullis policy ${verb} `));
    expect(out.match(/portcullis policy \w+/g)).toEqual([`portcullis policy ${verb}`]);
    expect(out).toMatch(/\nExit codes: 0 .*, 1 .*2 wrong usage/);
    const all = (await policy('--help')).out;
    expect(all).toContain(`  ${verb.padEnd(8)}  0 `);
  });

  test('of a command that there is not is the help of all', async () => {
    expect((await policy('nonsense', '--help')).out).toBe((await policy('--help')).out);
    expect(await policy('nonsense')).toMatchObject({ code: 2, err: expect.stringContaining('no such command') });
    expect(await policy()).toMatchObject({ code: 2, err: expect.stringContaining('expected build, verify') });
  });
});

describe('a running gateway', () => {
  const directory = temporaryDirectory('portcullis-policy-remote-');
  const data = join(directory.path, 'data.json');
  let gateway: TestGateway;
  const ask = (verb: string, ...more: string[]) => policy(verb, '--url', gateway.admin, ...more);

  beforeAll(async () => {
    await writeFile(data, JSON.stringify({ config: { version: 1 } }));
    gateway = await startGateway({ policy: { bundle: POLICIES, data, watch: false } });
  });
  afterAll(async () => {
    await gateway?.[Symbol.asyncDispose]();
    directory[Symbol.dispose]();
  });

  test('shows its policy to people, and as JSON to machines', async () => {
    const { code, out } = await ask('status');
    const machine = JSON.parse((await ask('status', '--json')).out) as { revision: string; source: { name: string } };
    expect(code).toBe(0);
    expect(out).toMatch(new RegExp(`^in force {6}${machine.revision}\nsince {9}\\d{4}-\\d\\d-\\d\\dT`));
    expect(out).toContain(`\nsource        local ${machine.source.name}\n`);
    expect(out).toMatch(/\nentrypoints {3}.*portcullis\/main\/decision/);
    expect(out).not.toMatch(/[{}[\]"]/);
  });

  test('says what came of a reload and a rollback', async () => {
    const before = JSON.parse((await ask('status', '--json')).out) as { revision: string };
    const sentence = 'portcullis policy: not rolled back: it was already, or there is no policy before this one\n';
    expect(await ask('rollback')).toEqual({ code: 1, out: '', err: sentence });
    await writeFile(data, JSON.stringify({ config: { version: 2 } }));
    const reloaded = await ask('reload');
    expect(reloaded).toMatchObject({ code: 0, out: expect.stringContaining(`\nbefore        ${before.revision}\n`) });
    const taken = await ask('rollback');
    expect(taken).toMatchObject({ code: 0, err: expect.stringContaining(`in force: ${before.revision}`) });
    expect(taken.out).toMatch(new RegExp(`^in force {6}${before.revision}\n`));
    expect(taken.out).toContain('\npinned        what was taken back stays out');
    await rm(data);
    const failed = await ask('reload');
    expect(failed.code).toBe(1);
    expect(failed.out).toMatch(/\nlast error {4}the policy data .* does not exist\n/);
    expect(failed.err).toContain('not activated, the policy before stays');
  });

  test('that is not there is another exit code', async () => {
    expect((await policy('status', '--url', 'http://127.0.0.1:1')).code).toBe(3);
    expect((await policy('status', '--url', 'nowhere')).code).toBe(2);
  });
});

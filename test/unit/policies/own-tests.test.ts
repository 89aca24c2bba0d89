/** The policies' own tests through the gateway's host: what `opa test` finds true is true in the module that decides. */
import { cp, readdir, readFile, rename, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { readTarGz } from '../../../src/policy/bundle-format.ts';
import { runOpaTests } from '../../../src/policy/compiler.ts';
import { findOpa, run } from '../../../src/policy/opa-command.ts';
import { BUILTINS } from '../../../src/policy/wasm/builtins.ts';
import { PolicyHost } from '../../../src/policy/wasm/host.ts';
import { DEFAULT_LIMITS, PolicyProgram } from '../../../src/policy/wasm/program.ts';
import { POLICIES } from '../../helpers/gateway.ts';
import { NO_COMPILER } from '../../helpers/policy-dir.ts';
import { ROOT, temporaryDirectory } from '../../helpers/processes.ts';

const NOW = Date.parse('2025-01-15T10:30:00Z');

async function json(path: string): Promise<Record<string, unknown>> {
  return JSON.parse(await readFile(path, 'utf8')) as Record<string, unknown>;
}

test.skipIf(NO_COMPILER !== null).each([
  ['the shipped policies', POLICIES, 140],
  ['the example policy', join(ROOT, 'examples/policies/gateway'), 8],
])('%s: every test of theirs holds in our host', { timeout: 60_000 }, async (_name, source, least) => {
  using directory = temporaryDirectory();
  const dir = join(directory.path, 'policies');
  await cp(source, dir, { recursive: true });
  await rm(join(dir, 'bundle'), { recursive: true, force: true });
  const { tests } = await runOpaTests(dir);
  expect(tests.length).toBeGreaterThanOrEqual(least);
  // Files of this name are left out of a module.
  for (const name of await readdir(dir)) {
    if (name.endsWith('_test.rego'))
      await rename(join(dir, name), join(dir, name.replace('_test.rego', '_checks.rego')));
  }
  const names = tests.map(({ package: from, name }) => `${from.replaceAll('.', '/')}/${name}`);
  const opa = await findOpa();
  const archive = join(directory.path, 'checks.tar.gz');
  const flags = ['-t', 'wasm', '--prune-unused', '--ignore', '*.json', ...names.flatMap((name) => ['-e', name])];
  const built = await run(opa.path ?? '', ['build', ...flags, '-o', archive, '.'], { cwd: dir });
  expect(built.stderr).toBe('');
  const wasm = readTarGz(await readFile(archive)).get('policy.wasm') ?? Buffer.alloc(0);
  const data =
    source === POLICIES
      ? { ...(await json(join(dir, 'data.json'))), profiles: await json(join(dir, 'profiles/strict.json')) }
      : {};
  const host = new PolicyHost(await PolicyProgram.load(wasm, BUILTINS, DEFAULT_LIMITS), JSON.stringify(data));
  const wrong = names.filter((name) => {
    const outcome = host.evaluate(name, {}, NOW);
    return outcome.kind !== 'value' || outcome.value !== true;
  });
  expect(wrong).toEqual([]);
});

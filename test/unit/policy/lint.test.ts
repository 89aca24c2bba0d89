import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, describe, expect, test } from 'vitest';
import { policyCommand } from '../../../src/cli/policy.ts';
import { sourceNames } from '../../../src/policy/compiler.ts';
import { type LintFinding, lint } from '../../../src/policy/lint.ts';
import { findOpa } from '../../../src/policy/opa-command.ts';

const scratch = await mkdtemp(join(tmpdir(), 'portcullis-lint-'));
const opa = await findOpa();
const missing = opa.path === null && process.env.CI !== 'true';
afterAll(() => rm(scratch, { recursive: true, force: true }));

async function policy(name: string, text: string): Promise<string> {
  const dir = await mkdtemp(join(scratch, `${name}-`));
  await writeFile(join(dir, 'a.rego'), text);
  return dir;
}

async function found(text: string): Promise<readonly string[]> {
  const dir = await policy('one', text);
  const findings = (await lint(dir, await sourceNames(dir))) as readonly LintFinding[];
  return findings.map(({ file, line, column, severity, code }) => `${file}:${line}:${column} ${severity} ${code}`);
}

async function check(dir: string, ...flags: string[]) {
  let [out, err] = ['', ''];
  const io = {
    ...{ cwd: dir, env: process.env, stdin: process.stdin },
    out: (text: string) => {
      out += text;
    },
    err: (text: string) => {
      err += text;
    },
  };
  const status = await policyCommand(['check', dir, ...flags], io as unknown as Parameters<typeof policyCommand>[1]);
  return { status, out, err };
}

const MANY = Array.from({ length: 5 }, (_, i) => `allow if input.user.id == "u${i}"`).join('\n\n');

describe.skipIf(missing)('policy check', () => {
  test('finds fields that the input never has', async () => {
    expect(await found('package a\n\ndeny contains "x" if input.user.rolls[_] == "admin"\n')).toEqual([
      'a.rego:3:22 error unknown-input-field',
    ]);
    expect(await found('package a\n\ndeny contains "x" if input.parameters.anything == "goes"\n')).toEqual([]);
  });

  test('finds objections that are skipped where a field is missing', async () => {
    const text = 'package a\n\ndeny contains "x" if input.parameters.confirm != true\n';
    expect(await found(text)).toEqual(['a.rego:3:22 error not-equal-on-optional']);
    expect(await found(text.replace('deny contains "x"', 'p'))).toEqual(['a.rego:3:6 warning not-equal-on-optional']);
    // A member of a server that may be null, beside a field that is always there.
    expect(await found(text.replace('parameters.confirm', 'server.enabled'))).toHaveLength(1);
    expect(await found(text.replace('parameters.confirm', 'user.mfa_verified'))).toEqual([]);
    expect(
      await found(text.replace('if input.parameters.confirm != true', 'if not input.parameters.confirm == true')),
    ).toEqual([]);
  });

  test('finds boolean answers without default, and rules that should be data', async () => {
    expect(await found(`package a\n\n${MANY}\n`)).toEqual([
      'a.rego:3:1 warning missing-default',
      'a.rego:3:1 warning rules-should-be-data',
    ]);
    expect(await found(`package a\n\ndefault allow := false\n\n${MANY.split('\n\n').slice(1).join('\n\n')}\n`)).toEqual(
      [],
    );
    const entrypoint = '# METADATA\n# entrypoint: true\nopen if input.user.id == "x"\n';
    expect(await found(`package a\n\n${entrypoint}`)).toEqual(['a.rego:5:1 warning missing-default']);
  });

  test('reports what does not parse, with its place', async () => {
    expect(await found('package a\n\nallow if {\n')).toEqual(['a.rego:4:1 error compile']);
  });

  test('exits with 1 on errors alone, and speaks JSON when asked', async () => {
    const fragile = await policy('fragile', `package a\n\n# METADATA\n# entrypoint: true\n${MANY}\n`);
    const warned = await check(fragile);
    expect(warned).toMatchObject({ status: 0, out: 'no errors\n' });
    expect(warned.err).toContain('a.rego:5:1: warning missing-default: allow is undefined where no rule holds');
    const json = JSON.parse((await check(fragile, '--json')).out) as { ok: boolean; findings: readonly unknown[] };
    expect(json).toMatchObject({ ok: true, findings: [{ code: 'missing-default' }, { code: 'rules-should-be-data' }] });
    const bound = '# METADATA\n# entrypoint: true\n# custom:\n#   portcullis:\n#     routes: "/v1"\ndecision := {}\n';
    const misbound = await policy('misbound', `package b\n\n${bound}`);
    expect(await check(misbound)).toMatchObject({ status: 1, out: '' });
    expect((await check(misbound)).err).toMatch(
      /^a\.rego:\d+:1: error compile: the routes of b\/decision have to be a list/,
    );
    const wrong = await policy('wrong', 'package a\n\ndeny contains "x" if input.usr.id == "x"\n');
    expect(await check(wrong)).toMatchObject({ status: 1, out: '' });
    expect(JSON.parse((await check(wrong, '--json')).out)).toMatchObject({
      ok: false,
      findings: [{ line: 3, column: 22 }],
    });
  });

  test('has nothing to say about the policies that ship with the gateway', async () => {
    const own = fileURLToPath(new URL('../../../policies/', import.meta.url));
    expect(await lint(own, await sourceNames(own))).toEqual([]);
  });
});

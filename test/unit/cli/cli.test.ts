import { execFile } from 'node:child_process';
import { mkdtempSync, readFileSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { parseAst } from 'rolldown/parseAst';
import { describe, expect, test } from 'vitest';
import { main } from '../../../src/cli/cli.ts';
import { COMMANDS } from '../../../src/cli/commands.ts';
import { verifies } from '../../helpers/verifies.ts';
import { fakeIo } from './fake-io.ts';

const ENTRY = join(import.meta.dirname, '../../../src/main.ts');
const program = promisify(execFile);

async function run(...argv: string[]) {
  const { io, written } = fakeIo({ cwd: '/nonexistent' });
  return { code: await main(argv, io), ...written };
}

describe('the command line', () => {
  test('--version prints the package’s version alone', async () => {
    const { version } = JSON.parse(readFileSync(join(ENTRY, '../../package.json'), 'utf8')) as { version: string };
    expect(await run('--version')).toEqual({ code: 0, out: `${version}\n`, err: '' });
  });

  test('--help lists every command on standard output', async () => {
    const { code, out } = await run('--help');
    expect(code).toBe(0);
    for (const { name, summary } of COMMANDS) expect(out).toMatch(new RegExp(`^ {2}${name} +${summary}$`, 'm'));
  });

  test.each(COMMANDS.map(({ name }) => name))('%s --help says how it is used and exits with 0', async (name) => {
    const { code, out } = await run(name, '--help');
    expect(out).toMatch(new RegExp(`^Usage: portcullis ${name}`));
    expect(code).toBe(0);
  });

  test('the first administrator is also made with `admin bootstrap`', async () => {
    verifies('V-38');
    const { code, out } = await run('admin', 'bootstrap', '--help');
    expect([code, out]).toEqual([0, expect.stringContaining('users bootstrap')]);
  });

  test('no command, an unknown one and an unknown option are usage errors with nothing on standard output', async () => {
    expect(await run()).toMatchObject({ code: 2, out: '' });
    const typo = await run('sevre');
    expect(typo).toMatchObject({ code: 2, out: '', err: expect.stringContaining('did you mean "serve"?') });
    expect(await run('config', '--nope')).toMatchObject({ code: 2, out: '', err: expect.stringContaining('--help') });
    expect(await run('config', 'explain')).toMatchObject({ code: 2, out: '' });
    expect(await run('audit', 'tail', '-n', 'many')).toMatchObject({ code: 2, out: '' });
    expect(await run('policy')).toMatchObject({ code: 2, out: '' });
    const option = await run('serve', '--port', '1');
    expect(option.err).toBe('portcullis serve: Unknown option \'--port\'\nTry "portcullis serve --help".\n');
  });

  test.each([
    [['serve', '--confg', 'x'], `serve: Unknown option '--confg' (did you mean "--config"?)`],
    [['policy', 'rolback'], 'policy: no such command: policy rolback (did you mean "rollback"?)'],
    [['users', 'list', '--jsno'], `users: Unknown option '--jsno' (did you mean "--json"?)`],
    [['auth', 'login', '--devcie'], `auth: Unknown option '--devcie' (did you mean "--device"?)`],
    [
      ['keys', 'create', '--expires-in-days', '-1'],
      'keys: --expires-in-days needs a value; write --expires-in-days=-… for one that begins with a dash',
    ],
    [['keys', 'creat'], 'keys: keys needs create, list, rotate or revoke (did you mean "create"?)'],
    [['approvals', 'aprove'], 'approvals: approvals needs list, show, approve or reject (did you mean "approve"?)'],
    [['serve', '-c', '/'], 'serve: cannot read /: it is a directory'],
  ])('%j says what is wrong in words', async (argv, words) => {
    const { err, out } = await run(...argv);
    expect(err.split('\nTry ')[0]?.trim()).toBe(`portcullis ${words}`);
    expect(out).toBe('');
  });

  test('commands without a configuration named take the usual one, and say that there is nothing', async () => {
    const cwd = mkdtempSync(join(tmpdir(), 'portcullis-usual-'));
    const policies = join(import.meta.dirname, '../../../policies');
    const lines = `policy: { bundle: "${policies}", decision_log: { file: ./own.jsonl } }`;
    writeFileSync(join(cwd, 'portcullis.yaml'), `version: 1\nstores: { database: "sqlite::memory:" }\n${lines}\n`);
    writeFileSync(join(cwd, 'own.jsonl'), '');
    const here = async (...argv: string[]) => {
      const { io, written } = fakeIo({ cwd });
      return { code: await main(argv, io), ...written };
    };
    expect(await here('switch', 'list')).toEqual({ code: 0, out: '', err: 'Nothing is switched off.\n' });
    const explained = await here('explain', 'dec_1');
    expect(explained).toMatchObject({ code: 1, err: expect.stringContaining('own.jsonl holds no decision of dec_1') });
    const linked = await here('users', 'link', 'maria', '--provider', 'corp', '--subject', 's');
    expect(linked).toMatchObject({ code: 2, err: expect.stringContaining('has no provider of kind oidc') });
    const checked = await here('config', 'check');
    expect(checked.err).toBe(`The configuration is good: ${join(cwd, 'portcullis.yaml')}\n`);
  });

  test('what cannot be reached exits with 3', async () => {
    expect(await run('config', 'check', '-c', 'absent.yaml')).toMatchObject({ code: 3, out: '' });
    expect(await run('audit', 'tail', '--file', 'absent.jsonl')).toMatchObject({ code: 3, out: '' });
    expect(await run('status', '--url', 'http://127.0.0.1:1')).toMatchObject({ code: 3, out: '' });
    expect(await run('policy', 'test', 'absent')).toMatchObject({
      code: 3,
      out: '',
      err: expect.stringContaining('there is no directory /nonexistent/absent'),
    });
    expect(await run('policy', 'eval', 'mcp/gateway/allow', 'absent.json')).toMatchObject({ code: 3, out: '' });
    expect(await run('policy', 'eval', '--data', 'absent.json')).toMatchObject({ code: 3, out: '' });
  });

  test('what the system refuses is a sentence with the path, not a trace', async () => {
    const directory = mkdtempSync(join(tmpdir(), 'portcullis-cli-'));
    const config = join(directory, 'portcullis.yaml');
    writeFileSync(
      config,
      'version: 1\nlisten: { data: "127.0.0.1:0", admin: { address: "127.0.0.1:0" } }\naudit: { file: ./portcullis.yaml/audit.jsonl }\n',
    );
    const { code, out, err } = await run('serve', '-c', config);
    expect({ code, out }).toEqual({ code: 1, out: '' });
    expect(err).toMatch(/^portcullis serve: .*portcullis\.yaml\b.*\n$/);
  });
});

/** Runs the entry as it is in a process that believes to be another runtime. */
async function pretend(prelude: string) {
  const source = readFileSync(ENTRY, 'utf8').replace(/^#!.*/, '');
  try {
    return { code: 0, ...(await program(process.execPath, ['--input-type=module', '-e', `${prelude}\n${source}`])) };
  } catch (error) {
    return error as { code: number; stdout: string; stderr: string };
  }
}

describe('the process', () => {
  test('runs as a program and gives the exit code', async () => {
    const { stdout } = await program(process.execPath, [ENTRY, '--version']);
    expect(stdout).toMatch(/^\d+\.\d+\.\d+\n$/);
    const failed: unknown = await program(process.execPath, [ENTRY, 'nothing']).catch((error: unknown) => error);
    expect(failed).toMatchObject({ code: 2, stdout: '' });
  });

  test('an output that is closed early is an end, not an error', async () => {
    const command = `"${process.execPath}" "${ENTRY}" config schema | head -c 1`;
    const { stdout, stderr } = await program('bash', ['-c', command]);
    expect({ stdout, stderr }).toEqual({ stdout: '{', stderr: '' });
  });

  test('an older Node gets one sentence', async () => {
    const old = await pretend("Object.defineProperty(process, 'versions', { value: { node: '20.19.2' } });");
    expect(old).toMatchObject({
      code: 1,
      stdout: '',
      stderr: 'portcullis needs Node.js 24 or newer; this is 20.19.2.\n',
    });
  });

  test('Windows gets one sentence', async () => {
    const windows = await pretend("Object.defineProperty(process, 'platform', { value: 'win32' });");
    expect(windows).toMatchObject({ code: 1, stdout: '' });
    expect(windows.stderr).toMatch(/^portcullis runs on Linux and macOS; .*\n$/);
  });

  test('the entry is plain JavaScript and imports nothing before its checks', () => {
    const ast = JSON.stringify(parseAst(readFileSync(ENTRY, 'utf8'), { lang: 'js' }));
    expect(ast).not.toContain('"ImportDeclaration"');
    expect(ast).toContain('"ImportExpression"');
  });
});

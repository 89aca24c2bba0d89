import { chmodSync, mkdirSync, mkdtempSync, writeFileSync } from 'node:fs';
import { createServer, type Server } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Readable } from 'node:stream';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { main } from '../../../src/cli/cli.ts';
import { linesOf } from '../../../src/cli/input-file.ts';
import { fakeIo } from './fake-io.ts';

const directory = mkdtempSync(join(tmpdir(), 'portcullis-inputs-'));
const GATEWAY = ['--url', 'http://127.0.0.1:1'];
const ENTRYPOINT = 'portcullis/main/decision';
const POLICIES = join(import.meta.dirname, '../../../policies');
let socket: Server;

beforeAll(async () => {
  writeFileSync(
    join(directory, 'portcullis.yaml'),
    'version: 1\nlisten: { data: "127.0.0.1:0", admin: { address: "127.0.0.1:1" } }\naccounts: { enabled: true }\nidentity: { keys: { kind: api-key }, people: { kind: local } }\n',
  );
  mkdirSync(join(directory, 'directory'), { mode: 0o700 });
  const contents = { empty: '', 'not UTF-8': Buffer.from('a: \xff\xfe\n', 'latin1'), 'of another format': '{"a": [\n' };
  for (const [name, content] of Object.entries(contents)) {
    writeFileSync(join(directory, name), content, { mode: 0o600 });
  }
  writeFileSync(join(directory, 'unreadable'), '{}');
  chmodSync(join(directory, 'unreadable'), 0);
  socket = createServer();
  await new Promise<void>((done) => socket.listen(join(directory, 'socket'), done));
});

afterAll(() => socket.close());

/** Root may read everything. */
const CLOSED = ['missing', 'directory', 'socket', ...(process.getuid?.() === 0 ? [] : ['unreadable'])];
const CONTENTS = ['empty', 'not UTF-8', 'of another format'];

/** A command line or the name of a variable, with `FILE` for the file; then the codes for each of CONTENTS, usually 1. */
type Row = readonly [argv: readonly string[], codes?: readonly number[], variable?: string];

const ALL_BAD = [1, 1, 1];
/** Nothing to do is no fault. */
const EMPTY_IS_GOOD = [0, 1, 1];

const CONFIGURED = [
  ['serve'],
  ['config', 'check'],
  ['config', 'print'],
  ['classify', '--server-type', 'sql'],
  ['keys', 'list'],
  ['users', 'list'],
  ['switch', 'list'],
  ['audit', 'tail'],
  ['providers'],
  ['doctor'],
  ['status'],
  ['policy', 'status'],
  ['policy', 'reload'],
  ['policy', 'rollback'],
  ['policy', 'shadow'],
  ['explain', 'id'],
  ['auth', 'login', '--provider', 'x'],
].map((argv): Row => [[...argv, '-c', 'FILE']]);

const NAMED: readonly Row[] = [
  [['classify', '--jsonl', 'FILE'], EMPTY_IS_GOOD],
  [['users', 'import', 'FILE'], EMPTY_IS_GOOD],
  [['audit', 'tail', '--file', 'FILE'], EMPTY_IS_GOOD],
  [['explain', '--input', 'FILE']],
  [['explain', 'id', '--log', 'FILE']],
  [['explain', 'id', '--log', '/dev/null', '--data', 'FILE']],
  [['explain', 'id', '--log', '/dev/null', '--key', 'FILE']],
  [['policy', 'eval', ENTRYPOINT, 'FILE']],
  [['policy', 'eval', '--jsonl', 'FILE'], EMPTY_IS_GOOD],
  [['policy', 'eval', '--data', 'FILE']],
  [['policy', 'bench', ENTRYPOINT, 'FILE']],
  [['policy', 'bench', '--data', 'FILE']],
  [['policy', 'replay', 'FILE'], EMPTY_IS_GOOD],
  [['policy', 'replay', '/dev/null', '--data', 'FILE']],
  [['policy', 'verify', 'FILE']],
  [['policy', 'verify', '/dev/null', '--key', 'FILE']],
  [['approvals', 'list', ...GATEWAY], ALL_BAD, 'PORTCULLIS_API_KEY_FILE'],
  [['delegate', '--to', 'x', ...GATEWAY], ALL_BAD, 'PORTCULLIS_API_KEY_FILE'],
  [['status', ...GATEWAY], ALL_BAD, 'PORTCULLIS_ADMIN_TOKEN_FILE'],
  [['auth', 'validate', '--service', 'http://127.0.0.1:1'], ALL_BAD, 'HOKUSAI_API_KEY_FILE'],
];

async function run([argv, , variable]: Row, name: string) {
  const file = join(directory, name);
  const { io, written } = fakeIo({ cwd: directory, env: variable === undefined ? {} : { [variable]: file } });
  const code = await main(
    argv.map((word) => (word === 'FILE' ? file : word)),
    io,
  );
  return { code, file, ...written };
}

const words = ([argv, , variable]: Row) => `${variable === undefined ? '' : `${variable}=FILE `}${argv.join(' ')}`;

describe('a file that a command names', () => {
  test.each([...CONFIGURED, ...NAMED].map((row) => [words(row), row] as const))(
    '%s: exits with 3 for one that cannot be read, and names it',
    async (_words, row) => {
      for (const name of CLOSED) {
        const { code, err, out, file } = await run(row, name);
        expect({ name, code, out }).toEqual({ name, code: 3, out: '' });
        expect(err).toContain(file);
        expect(err).not.toMatch(/ENOENT|EISDIR|ENXIO|unexpected error/);
        expect(err.trim().split('\n')).toHaveLength(1);
      }
    },
  );

  test.each([...CONFIGURED, ...NAMED].map((row) => [words(row), row] as const))(
    '%s: exits with 1 for one that holds something else, and says where or of which line',
    async (_words, row) => {
      for (const [index, name] of CONTENTS.entries()) {
        const { code, err, out } = await run(row, name);
        expect({ name, code }).toEqual({ name, code: (row[1] ?? ALL_BAD)[index] });
        expect(err).not.toContain('unexpected error');
        if (code !== 0)
          expect(err + out).toMatch(/empty|not UTF-8|of another format|"line":1|line 1|JSON|characters|key/);
      }
    },
  );

  test.each(['eval', 'bench', 'replay'])(
    'policy %s takes a directory or an archive as bundle, and nothing else',
    async (verb) => {
      for (const name of ['missing', 'socket']) {
        const row: Row = [['policy', verb, ...(verb === 'replay' ? ['/dev/null'] : []), '--bundle', 'FILE']];
        const { code, err, file } = await run(row, name);
        expect({ code, err: err.includes(file) }).toEqual({ code: 3, err: true });
      }
    },
  );

  test.each(['build', 'check'])('policy %s wants a directory with rules', async (verb) => {
    expect(await run([['policy', verb, 'FILE']], 'empty')).toMatchObject({
      code: 3,
      err: expect.stringMatching(/is no directory/),
    });
    const { code, err, file } = await run([['policy', verb, 'FILE']], 'directory');
    expect({ code, err }).toEqual({ code: 1, err: `portcullis policy: there is no .rego file in ${file}\n` });
  });

  test('may be a pipe, which can be read once', async () => {
    const { io, written } = fakeIo({ cwd: POLICIES });
    expect(await main(['explain', '--input', '/dev/null'], io)).toBe(1);
    expect(written.err).toContain('/dev/null is no JSON');
  });

  test('that has the kept logins is ours: one that others may read or that is something else is not used', async () => {
    const open = join(directory, 'open');
    writeFileSync(open, '{}', { mode: 0o644 });
    const status: Row = [['auth', 'status'], [], 'PORTCULLIS_CREDENTIALS'];
    expect(await run(status, 'missing')).toMatchObject({ code: 1, err: 'Nobody is logged in.\n' });
    expect(await run(status, 'directory')).toMatchObject({ code: 3, err: expect.stringMatching(/it is a directory/) });
    expect(await run(status, 'open')).toMatchObject({ code: 1, err: expect.stringMatching(/chmod 600/) });
    expect(await run(status, 'not UTF-8')).toMatchObject({ code: 1, err: expect.stringMatching(/is not UTF-8 text/) });
    expect(await run(status, 'of another format')).toMatchObject({
      code: 1,
      err: expect.stringMatching(/is not a file of kept logins/),
    });
  });
});

describe('lines', () => {
  test('keep their bytes, wherever chunks end', async () => {
    const chunks = ['a', 'b\nc', '\n\n', 'd\r\ne'].map((text) => Buffer.from(text));
    const lines = await Array.fromAsync(linesOf(Readable.from(chunks)));
    expect(lines.map(String)).toEqual(['ab', 'c', '', 'd\r', 'e']);
    const odd = await Array.fromAsync(linesOf(Readable.from([Buffer.from([0xff]), Buffer.from([0xfe, 10, 0xc3])])));
    expect(odd.map((each) => [...each])).toEqual([[0xff, 0xfe], [0xc3]]);
  });
});

test.skipIf(process.platform !== 'linux')('a file that fails while it is read is one that cannot be read', async () => {
  const { io, written } = fakeIo({ cwd: directory });
  expect(await main(['classify', '--server-type', 'sql', '--jsonl', '/proc/self/mem'], io)).toBe(3);
  expect(written.err).toContain('cannot read /proc/self/mem');
});

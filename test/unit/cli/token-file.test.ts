import { mkdtempSync, readdirSync, readFileSync, rmSync, statSync, utimesSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { changeLogins, type KeptLogin, readLogins, tokenFile } from '../../../src/cli/token-file.ts';
import { fakeIo } from './fake-io.ts';

const LOGIN: KeptLogin = {
  ...{ issuer: 'https://i.example', client_id: 'c', scope: '', resource: null, subject: null },
  ...{ access_token: 'a', refresh_token: null, expires_at: null },
};

let home: string;
beforeEach(() => {
  home = mkdtempSync(join(tmpdir(), 'portcullis-tokens-'));
});
afterEach(() => rmSync(home, { recursive: true }));

const ioOf = (env: Record<string, string> = { XDG_CONFIG_HOME: home }, signal?: AbortSignal) =>
  fakeIo({ env, cwd: home, ...(signal === undefined ? {} : { signal }) }).io;

describe('the file of kept logins', () => {
  test.each([
    [{ PORTCULLIS_CREDENTIALS: 'here.json', XDG_CONFIG_HOME: '/x' }, '{home}/here.json'],
    [{ XDG_CONFIG_HOME: '/x', HOME: '/h' }, '/x/portcullis/credentials.json'],
    [{ XDG_CONFIG_HOME: 'relative', HOME: '/h' }, '/h/.config/portcullis/credentials.json'],
    [{ XDG_CONFIG_HOME: '', HOME: '/h' }, '/h/.config/portcullis/credentials.json'],
  ])('is found by %j', (env, file) => {
    expect(tokenFile(ioOf(env as Record<string, string>))).toBe(file.replace('{home}', home));
  });

  test('is its owner’s alone, in a directory of theirs, and leaves nothing beside it', async () => {
    await changeLogins(ioOf(), async () => ({ 'https://g.example': LOGIN }));
    const folder = join(home, 'portcullis');
    expect(statSync(folder).mode & 0o777).toBe(0o700);
    expect(statSync(join(folder, 'credentials.json')).mode & 0o777).toBe(0o600);
    expect(readdirSync(folder)).toEqual(['credentials.json']);
    expect(readLogins(ioOf())).toEqual({ 'https://g.example': LOGIN });
  });

  test('is changed by one at a time, and each sees what the one before made of it', async () => {
    const names = Array.from({ length: 5 }, (_, n) => `https://g${n}.example`);
    await Promise.all(names.map((name) => changeLogins(ioOf(), async (now) => ({ ...now, [name]: LOGIN }))));
    expect(Object.keys(readLogins(ioOf())).toSorted()).toEqual(names);
  });

  test('stays as it is when the change fails, and is free for the next one', async () => {
    await changeLogins(ioOf(), async () => ({ 'https://g.example': LOGIN }));
    const before = readFileSync(tokenFile(ioOf()), 'utf8');
    const failing = changeLogins(ioOf(), async () => {
      throw new Error('refused');
    });
    await expect(failing).rejects.toThrow('refused');
    await changeLogins(ioOf(), async () => null);
    expect(readFileSync(tokenFile(ioOf()), 'utf8')).toBe(before);
  });

  test('is not kept from others by one who died; one who is at it is waited for', async () => {
    await changeLogins(ioOf(), async () => ({}));
    const lock = `${tokenFile(ioOf())}.lock`;
    writeFileSync(lock, '');
    const old = Date.now() / 1000 - 60;
    utimesSync(lock, old, old);
    await changeLogins(ioOf(), async () => ({ 'https://g.example': LOGIN }));
    expect(readLogins(ioOf())).toHaveProperty(['https://g.example']);
    writeFileSync(lock, '');
    const abort = new AbortController();
    const waiting = changeLogins(ioOf({ XDG_CONFIG_HOME: home }, abort.signal), async () => ({}));
    abort.abort();
    await expect(waiting).rejects.toThrow();
    expect(readLogins(ioOf())).toHaveProperty(['https://g.example']);
  });
});

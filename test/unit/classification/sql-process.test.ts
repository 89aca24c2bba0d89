import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { setImmediate as turn } from 'node:timers/promises';
import { beforeAll, describe, expect, test } from 'vitest';
import type { SqlExaminer } from '../../../src/classification/classifiers/sql-reading.ts';
import { loadInThread } from '../../../src/classification/classifiers/sql-thread.ts';

/** What stands in a file of `/proc`; nothing when its process has just ended. */
function read(path: string): string {
  try {
    return readFileSync(path, 'utf8');
  } catch {
    return '';
  }
}

/** Processes of the parsers that this process started. */
function parsers(): number[] {
  const found: number[] = [];
  for (const task of readdirSync('/proc/self/task')) {
    const children = read(`/proc/self/task/${task}/children`).split(' ').filter(Boolean);
    for (const child of children) if (read(`/proc/${child}/cmdline`).includes('sql-child.')) found.push(Number(child));
  }
  return found;
}

let examine: SqlExaminer = () => [];
beforeAll(async () => {
  examine = await loadInThread('sqlite');
});

const reasons = () => examine('SELECT a FROM t').map(({ reason }) => reason);

async function recovered(): Promise<void> {
  while (!reasons().includes('sql:select')) await turn();
}

// The children of a process are listed by Linux only.
describe.skipIf(!existsSync('/proc/self/task'))('the process of the SQL parsers', () => {
  test('is one, and is given none of the secrets in the environment', () => {
    expect(reasons()).toEqual(['sql:select']);
    const [pid, ...others] = parsers();
    expect(others).toEqual([]);
    const names = read(`/proc/${pid}/environ`)
      .split('\0')
      .map((entry) => entry.split('=')[0]);
    expect(names.filter((name) => name !== '' && !name?.startsWith('NODE_CHANNEL'))).toEqual([]);
  });

  test('may crash: statements are refused until another has taken its place, and the gateway goes on', async () => {
    const [pid = 0] = parsers();
    process.kill(pid, 'SIGSEGV');
    const seen = new Set<string>();
    while (parsers().includes(pid)) {
      for (const reason of reasons()) seen.add(reason);
      await turn();
    }
    await recovered();
    expect(seen.difference(new Set(['sql:select', 'sql:too-long', 'sql:unknown-dialect']))).toEqual(new Set());
    expect(parsers()).not.toContain(pid);
    expect(parsers()).toHaveLength(1);
  });

  test('may hang: it is killed, and meanwhile each statement is refused at once', async () => {
    const [pid = 0] = parsers();
    process.kill(pid, 'SIGSTOP');
    expect(reasons()).toEqual(['sql:too-long']);
    const started = performance.now();
    expect(reasons()).toEqual(['sql:too-long']);
    expect(performance.now() - started).toBeLessThan(250);
    await recovered();
    expect(parsers()).not.toContain(pid);
  });

  test('may be killed while it loads, again and again, which ended the whole process when it was a thread', async () => {
    for (let round = 0; round < 5; round++) {
      let pid: number | undefined;
      while (pid === undefined) {
        [pid] = parsers();
        await turn();
      }
      process.kill(pid, 'SIGKILL');
      while (parsers().includes(pid)) await turn();
    }
    await recovered();
    expect(reasons()).toEqual(['sql:select']);
  });
});

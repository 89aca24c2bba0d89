/** Starts contenders on loopback, reads their CPU time, and stops them again. */
import type { ChildProcess } from 'node:child_process';
import { fork, spawn } from 'node:child_process';
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import type { AddressInfo } from 'node:net';
import { createServer } from 'node:net';
import { setTimeout as pause } from 'node:timers/promises';

/** The contender gets one core, load and upstream the other: their noise stays out of its figure. */
const CONTENDER_CPU = '0';
export const LOAD_CPU = '1';

export interface Contender extends AsyncDisposable {
  readonly name: string;
  readonly url: string;
  readonly pid: number;
}

export function freePort(): Promise<number> {
  return new Promise((done) => {
    const server = createServer().listen(0, '127.0.0.1', () => {
      const { port } = server.address() as AddressInfo;
      server.close(() => done(port));
    });
  });
}

/** Path of a program, or null. */
export function find(program: string): string | null {
  const folders = [...(process.env.PATH ?? '').split(':'), '/usr/sbin', '/usr/local/sbin'];
  for (const folder of folders) if (existsSync(`${folder}/${program}`)) return `${folder}/${program}`;
  return null;
}

const pinned = (cpu: string, command: readonly string[]) =>
  find('taskset') ? ['taskset', '-c', cpu, ...command] : [...command];

async function answers(url: string, child: ChildProcess, name: string): Promise<void> {
  for (let i = 0; i < 400; i++) {
    if (child.exitCode !== null) throw new Error(`${name} ended with ${child.exitCode}`);
    const ok = await fetch(url).then(
      (response) => response.arrayBuffer().then(() => true),
      () => false,
    );
    if (ok) return;
    await pause(25);
  }
  throw new Error(`${name} does not answer at ${url}`);
}

function asContender(name: string, url: string, child: ChildProcess): Contender {
  return {
    name,
    url,
    pid: child.pid ?? 0,
    async [Symbol.asyncDispose]() {
      if (child.exitCode !== null) return;
      const gone = new Promise((done) => child.once('exit', done));
      child.kill('SIGTERM');
      await Promise.race([gone, pause(20_000, undefined, { ref: false })]);
      if (child.exitCode === null) child.kill('SIGKILL');
    },
  };
}

/** A program that listens where it is told. */
export async function startProgram(
  name: string,
  command: readonly string[],
  url: string,
  options: { cpu?: string; env?: NodeJS.ProcessEnv; probe?: string } = {},
): Promise<Contender> {
  const [program = '', ...args] = pinned(options.cpu ?? CONTENDER_CPU, command);
  const child = spawn(program, args, {
    stdio: ['ignore', 'ignore', 'inherit'],
    env: { ...process.env, ...options.env },
  });
  await answers(`${url}${options.probe ?? '/'}`, child, name);
  return asContender(name, url, child);
}

/** A script of ours that reports its URL over IPC. */
export async function startScript(
  name: string,
  file: string,
  args: readonly string[],
  cpu = CONTENDER_CPU,
): Promise<Contender> {
  const child = fork(file, args, { stdio: ['ignore', 'ignore', 'inherit', 'ipc'] });
  const url = await new Promise<string>((done, fail) => {
    child.once('message', (message) => done((message as { url: string }).url));
    child.once('exit', (code) => fail(new Error(`${name} ended with ${code}`)));
  });
  if (find('taskset')) spawn('taskset', ['-a', '-cp', cpu, String(child.pid)], { stdio: 'ignore' });
  return asContender(name, url, child);
}

/** User + system time of a process and its children, in microseconds; clock ticks are 10 ms. */
export function cpuMicros(pid: number): number {
  const pids = [pid, ...childrenOf(pid)];
  return pids.reduce((sum, each) => sum + ticksOf(each), 0) * 10_000;
}

function ticksOf(pid: number): number {
  try {
    const fields = readFileSync(`/proc/${pid}/stat`, 'utf8').split(') ')[1]?.split(' ') ?? [];
    return Number(fields[11]) + Number(fields[12]);
  } catch {
    return 0;
  }
}

function childrenOf(pid: number): number[] {
  const parents = new Map<number, number>();
  for (const entry of readdirSync('/proc')) {
    if (!/^\d+$/.test(entry)) continue;
    try {
      const fields = readFileSync(`/proc/${entry}/stat`, 'utf8').split(') ')[1]?.split(' ') ?? [];
      parents.set(Number(entry), Number(fields[1]));
    } catch {
      // It ended while we were reading.
    }
  }
  const below = (parent: number): number[] =>
    [...parents].filter(([, of]) => of === parent).flatMap(([child]) => [child, ...below(child)]);
  return below(pid);
}

/** Resident memory in MB. */
export function rssMegabytes(pid: number): number {
  const match = /VmRSS:\s+(\d+) kB/.exec(readFileSync(`/proc/${pid}/status`, 'utf8'));
  return Number(match?.[1] ?? 0) / 1024;
}

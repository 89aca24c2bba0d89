/** Real child processes for scenarios: started with captured output, waited for by what they print, and never left behind. */
import type { ChildProcess, SpawnOptions } from 'node:child_process';
import { fork, spawn } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

export const ROOT = join(import.meta.dirname, '../..');
/** The command line as the repository runs it. */
export const MAIN = join(ROOT, 'src/main.ts');

export interface Exit {
  readonly code: number | null;
  readonly signal: NodeJS.Signals | null;
}

export interface RunningProcess extends AsyncDisposable {
  readonly child: ChildProcess;
  readonly pid: number;
  readonly exited: Promise<Exit>;
  stdout(): string;
  stderr(): string;
  /** Resolves with the match as soon as the output has it; rejects when the process ends first. */
  printed(pattern: RegExp): Promise<RegExpExecArray>;
  kill(signal: NodeJS.Signals): void;
}

interface Watch {
  readonly pattern: RegExp;
  resolve(match: RegExpExecArray): void;
  reject(error: Error): void;
}

/** Follows a child's output and its end. The child is killed when it goes out of scope. */
export function follow(child: ChildProcess): RunningProcess {
  const text = { stdout: '', stderr: '' };
  const watches = new Set<Watch>();
  const check = () => {
    for (const watch of watches) {
      const match = watch.pattern.exec(text.stdout) ?? watch.pattern.exec(text.stderr);
      if (match === null) continue;
      watches.delete(watch);
      watch.resolve(match);
    }
  };
  for (const name of ['stdout', 'stderr'] as const) {
    child[name]?.setEncoding('utf8').on('data', (chunk: string) => {
      text[name] += chunk;
      check();
    });
  }
  // A test that times out never leaves its scope: what it started still ends with the test run.
  const endWithUs = () => child.kill('SIGKILL');
  process.once('exit', endWithUs);
  const exited = new Promise<Exit>((done, fail) => {
    child.once('error', fail);
    child.once('close', (code, signal) => {
      process.off('exit', endWithUs);
      for (const { pattern, reject } of watches) {
        reject(new Error(`ended (${code ?? signal}) without printing ${pattern}:\n${text.stdout}\n${text.stderr}`));
      }
      watches.clear();
      done({ code, signal });
    });
  });
  const pid = child.pid ?? -1;
  return {
    child,
    pid,
    exited,
    stdout: () => text.stdout,
    stderr: () => text.stderr,
    printed(pattern) {
      const { promise, resolve, reject } = Promise.withResolvers<RegExpExecArray>();
      watches.add({ pattern, resolve, reject });
      check();
      return promise;
    },
    kill: (signal) => void child.kill(signal),
    async [Symbol.asyncDispose]() {
      if (child.exitCode === null && child.signalCode === null) child.kill('SIGKILL');
      await exited;
    },
  };
}

/** What a started program may see of our environment: where programs and what was compiled of them are, and nothing else. */
export function cleanEnv(extra: NodeJS.ProcessEnv = {}): NodeJS.ProcessEnv {
  const { PATH, HOME, OPA_BIN, XDG_CACHE_HOME, PORTCULLIS_CACHE, NODE_COMPILE_CACHE } = process.env;
  const kept = { PATH, HOME, OPA_BIN, XDG_CACHE_HOME, PORTCULLIS_CACHE, NODE_COMPILE_CACHE };
  return { ...Object.fromEntries(Object.entries(kept).filter(([, value]) => value !== undefined)), ...extra };
}

/** `portcullis …` as a process of its own. */
export function startPortcullis(args: readonly string[], options: SpawnOptions = {}): RunningProcess {
  const env = cleanEnv(options.env);
  return follow(spawn(process.execPath, [MAIN, ...args], { stdio: ['ignore', 'pipe', 'pipe'], ...options, env }));
}

export interface Finished extends Exit {
  readonly stdout: string;
  readonly stderr: string;
}

/** Runs a program to its end. */
export async function runToEnd(file: string, args: readonly string[], options: SpawnOptions = {}): Promise<Finished> {
  await using running = follow(spawn(file, args, { stdio: ['ignore', 'pipe', 'pipe'], ...options }));
  const exit = await running.exited;
  return { ...exit, stdout: running.stdout(), stderr: running.stderr() };
}

export interface Example extends AsyncDisposable {
  readonly url: string;
  readonly child: ChildProcess;
  /** Ends it as a crash would, and resolves once it is gone. */
  crash(): Promise<void>;
}

/** Starts a server of `examples/` as the demo does; port 0 lets the system choose. */
export async function startExample(
  name: 'orders-server' | 'everything-server' | 'model-server',
  env: Record<string, string> = {},
  port = 0,
): Promise<Example> {
  const child = fork(join(ROOT, 'examples', `${name}.ts`), [String(port)], {
    env: cleanEnv(env),
    execArgv: ['--disable-warning=ExperimentalWarning'],
    stdio: ['ignore', 'ignore', 'inherit', 'ipc'],
  });
  const gone = new Promise<void>((done) => child.once('exit', () => done()));
  const url = await new Promise<string>((done, fail) => {
    child.once('message', (message) => done((message as { url: string }).url));
    child.once('exit', (code) => fail(new Error(`${name} ended with code ${code}`)));
  });
  const crash = async () => {
    child.kill('SIGKILL');
    await gone;
  };
  return { url, child, crash, [Symbol.asyncDispose]: crash };
}

/** Ports that were free a moment ago, for programs that have to be told one. */
export async function freePorts(count: number): Promise<number[]> {
  const servers = Array.from({ length: count }, () => createServer());
  const ports = await Promise.all(
    servers.map(
      (server) =>
        new Promise<number>((done, fail) => {
          server.once('error', fail);
          server.listen(0, '127.0.0.1', () => {
            const address = server.address();
            done(typeof address === 'object' && address !== null ? address.port : 0);
          });
        }),
    ),
  );
  await Promise.all(servers.map((server) => new Promise((done) => server.close(done))));
  return ports;
}

/** A directory that goes with its scope. */
export function temporaryDirectory(prefix = 'portcullis-scenario-'): { readonly path: string } & Disposable {
  const path = mkdtempSync(join(tmpdir(), prefix));
  return { path, [Symbol.dispose]: () => rmSync(path, { recursive: true, force: true }) };
}

/** True while a process of this id exists. */
export function isRunning(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch {
    return false;
  }
}

/** True while any process of this group exists: whatever a detached program started and did not take with it. */
export function groupIsRunning(leader: number): boolean {
  return isRunning(-leader);
}

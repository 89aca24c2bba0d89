/** Finds and runs the OPA command line: the only program that turns Rego into WASM. Source: architecture 8, contracts 5. */
import { execFile } from 'node:child_process';
import { createHash } from 'node:crypto';
import { access, constants, readFile, rename } from 'node:fs/promises';
import { homedir } from 'node:os';
import { delimiter, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { makeDirectory } from '../config/directories.ts';

/** The version everything is compiled with; `tools/opa/go.mod` names the same one. */
export const OPA_VERSION = '1.22.0';

/** Oldest Go that can build it. */
const GO_MINIMUM = [1, 25] as const;
const BUILD_TIMEOUT_MS = 900_000;
const RUN_TIMEOUT_MS = 120_000;

export interface OpaCommand {
  readonly path: string;
  readonly version: string;
  readonly found: 'OPA_BIN' | 'PATH' | 'built';
}

/** No compiler: the message names the three ways to get one. */
export interface NoCompiler {
  readonly path: null;
  readonly message: string;
}

export interface RunResult {
  readonly status: number;
  readonly stdout: string;
  readonly stderr: string;
}

/** The three ways, in their order: `OPA_BIN`, `opa` on PATH at the pinned version, the tool built with Go. */
export async function findOpa(env: NodeJS.ProcessEnv = process.env): Promise<OpaCommand | NoCompiler> {
  const notes: string[] = [];
  const named = env.OPA_BIN;
  if (named !== undefined && named !== '') {
    const version = await versionOf(named);
    if (version !== null) return { path: named, version, found: 'OPA_BIN' };
    notes.push(`OPA_BIN names ${named}, which does not run`);
  }
  for (const folder of (env.PATH ?? '').split(delimiter)) {
    const path = join(folder, 'opa');
    if (folder === '' || !(await isExecutable(path))) continue;
    const version = await versionOf(path);
    if (version === OPA_VERSION) return { path, version, found: 'PATH' };
    notes.push(`${path} is version ${version ?? 'unknown'}`);
  }
  const built = await buildTool(env, notes);
  if (built !== null) return { path: built, version: OPA_VERSION, found: 'built' };
  return { path: null, message: noCompilerMessage(notes) };
}

function noCompilerMessage(notes: readonly string[]): string {
  const ways =
    `No Rego compiler found. Set OPA_BIN to an opa ${OPA_VERSION} binary, or put opa ${OPA_VERSION} on PATH, ` +
    `or install Go ${GO_MINIMUM.join('.')} or later so that tools/opa can be built.`;
  return notes.length === 0 ? ways : `${ways} (${notes.join('; ')})`;
}

/** The entrypoint of a rule by the parts of its path, as OPA names it: escaped as Go's url.PathEscape does it. */
export function entrypointName(parts: readonly string[]): string {
  return parts.map((part) => encodeURIComponent(part).replaceAll(/%(?:24|26|2B|3D|3A|40)|[!'()*]/g, swapped)).join('/');
}

/** The two escapes disagree on these. */
const swapped = (text: string): string =>
  text.length === 3 ? decodeURIComponent(text) : `%${text.charCodeAt(0).toString(16).toUpperCase()}`;

/** Runs a program to its end. Never rejects: a program that cannot be started has status 127. */
export function run(
  path: string,
  args: readonly string[],
  options: { cwd?: string; env?: NodeJS.ProcessEnv; timeout?: number } = {},
): Promise<RunResult> {
  return new Promise((resolve) => {
    const limits = {
      timeout: options.timeout ?? RUN_TIMEOUT_MS,
      maxBuffer: 67_108_864,
      killSignal: 'SIGKILL' as const,
    };
    const place = { ...(options.cwd === undefined ? {} : { cwd: options.cwd }), env: options.env ?? process.env };
    execFile(path, args, { ...limits, ...place }, (error, stdout, stderr) => {
      const status = error === null ? 0 : typeof error.code === 'number' ? error.code : 127;
      // What came to its own end has said why, on one of the two; what was killed or never began has not.
      const isTold = stderr !== '' || (stdout !== '' && typeof error?.code === 'number');
      resolve({ status, stdout, stderr: error === null || isTold ? stderr : error.message });
    });
  });
}

async function versionOf(path: string): Promise<string | null> {
  const { status, stdout } = await run(path, ['version']);
  return status === 0 ? (/^Version: (\S+)/m.exec(stdout)?.[1] ?? null) : null;
}

async function isExecutable(path: string): Promise<boolean> {
  return access(path, constants.X_OK).then(
    () => true,
    () => false,
  );
}

/** The tool from `tools/opa`, built once and kept outside the repository under a name that follows its lock file. */
async function buildTool(env: NodeJS.ProcessEnv, notes: string[]): Promise<string | null> {
  const source = fileURLToPath(new URL('../../tools/opa', import.meta.url));
  const lock = await readFile(join(source, 'go.sum')).catch(() => null);
  if (lock === null) return null;
  const cache = env.PORTCULLIS_CACHE ?? join(env.XDG_CACHE_HOME ?? join(homedir(), '.cache'), 'portcullis');
  const target = join(cache, `opa-${OPA_VERSION}-${createHash('sha256').update(lock).digest('hex').slice(0, 12)}`);
  if ((await isExecutable(target)) && (await versionOf(target)) === OPA_VERSION) return target;
  if (!(await goIsNewEnough(env, notes))) return null;
  makeDirectory(cache);
  const partial = `${target}.${process.pid}`;
  const go = { ...env, CGO_ENABLED: '0', GOFLAGS: '-mod=readonly' };
  const built = await run('go', ['build', '-trimpath', '-o', partial, '.'], {
    cwd: source,
    env: go,
    timeout: BUILD_TIMEOUT_MS,
  });
  if (built.status !== 0) {
    notes.push(`go build failed: ${built.stderr.trim().split('\n').at(-1) ?? ''}`);
    return null;
  }
  await rename(partial, target);
  return target;
}

async function goIsNewEnough(env: NodeJS.ProcessEnv, notes: string[]): Promise<boolean> {
  const { status, stdout } = await run('go', ['version'], { env });
  const match = status === 0 ? /go(\d+)\.(\d+)/.exec(stdout) : null;
  if (match === null) return false;
  const [major, minor] = [Number(match[1]), Number(match[2])];
  if (major > GO_MINIMUM[0] || (major === GO_MINIMUM[0] && minor >= GO_MINIMUM[1])) return true;
  notes.push(`Go ${major}.${minor} is too old`);
  return false;
}

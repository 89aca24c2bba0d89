/** The load maker: wrk (Debian), closed loop over keep-alive connections. */
import { execFile } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import type { Contender } from './processes.ts';
import { cpuMicros, find, LOAD_CPU } from './processes.ts';

const run = promisify(execFile);

export interface Payload {
  readonly path: string;
  readonly headers: Readonly<Record<string, string>>;
  readonly body: string;
  /** A text in the body that is replaced by a running number, so that no two requests are equal. */
  readonly unique?: string;
}

export interface Sample {
  /** Microseconds of the contender's CPU per request. */
  readonly cpu: number;
  readonly rps: number;
  /** Milliseconds. */
  readonly p50: number;
  readonly p99: number;
  readonly errors: number;
}

function script(payload: Payload): string {
  const headers = Object.entries(payload.headers).map(
    ([name, value]) => `wrk.headers[${JSON.stringify(name)}] = ${JSON.stringify(value)}`,
  );
  const body = JSON.stringify(payload.body).replaceAll('\\/', '/');
  const request = payload.unique
    ? `local n = 0
local body = ${body}
function request() n = n + 1; return wrk.format(nil, nil, nil, (string.gsub(body, ${JSON.stringify(payload.unique)}, tostring(n)))) end`
    : `wrk.body = ${body}`;
  return `wrk.method = "POST"
${headers.join('\n')}
${request}
function done(summary, latency, requests)
  local e = summary.errors
  io.write(string.format("RESULT %d %d %f %f %d\\n", summary.requests, summary.duration, latency:percentile(50) / 1000, latency:percentile(99) / 1000, e.connect + e.read + e.write + e.status + e.timeout))
end
`;
}

export async function load(contender: Contender, payload: Payload, seconds: number, connections = 32): Promise<Sample> {
  const wrk = find('wrk');
  if (wrk === null) throw new Error('wrk is not installed (Debian package: wrk)');
  const dir = mkdtempSync(join(tmpdir(), 'bench-'));
  const file = join(dir, 'load.lua');
  writeFileSync(file, script(payload));
  const args = ['-t1', `-c${connections}`, `-d${seconds}s`, '-s', file, contender.url + payload.path];
  const command = find('taskset') ? ['taskset', '-c', LOAD_CPU, wrk, ...args] : [wrk, ...args];
  const before = cpuMicros(contender.pid);
  try {
    const { stdout } = await run(command[0] ?? wrk, command.slice(1));
    const cpu = cpuMicros(contender.pid) - before;
    const [, requests = 0, micros = 1, p50 = 0, p99 = 0, errors = 0] =
      /RESULT (\d+) (\d+) ([\d.]+) ([\d.]+) (\d+)/.exec(stdout)?.map(Number) ?? [];
    return { cpu: cpu / requests, rps: (requests / micros) * 1e6, p50, p99, errors };
  } finally {
    rmSync(dir, { recursive: true, force: true });
  }
}

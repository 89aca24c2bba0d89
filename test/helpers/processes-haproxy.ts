/** haproxy in front of gateways, as an operator would run it for rolling restarts. */
import { spawn } from 'node:child_process';
import { existsSync } from 'node:fs';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { expect, vi } from 'vitest';
import type { RunningProcess } from './processes.ts';
import { cleanEnv, follow } from './processes.ts';

const PLACES = ['/usr/sbin/haproxy', '/usr/local/sbin/haproxy', '/usr/bin/haproxy', '/opt/homebrew/bin/haproxy'];

/** Path of the program, or null: then its tests are skipped, except in CI, where its absence is a failure. */
export const HAPROXY = PLACES.find((path) => existsSync(path)) ?? null;

/** Balances over the backends; one that is not ready gets no new requests. Resolves once it listens. */
export async function startHaproxy(home: string, port: number, backends: readonly number[]): Promise<RunningProcess> {
  const file = join(home, 'haproxy.cfg');
  const servers = backends.map(
    (backend, at) => `  server gateway${at} 127.0.0.1:${backend} check inter 100ms fall 1 rise 1`,
  );
  // Retries are for connections that could not be made: no request is ever sent twice.
  const config = `global
  maxconn 2000
defaults
  mode http
  timeout connect 2s
  timeout client 30s
  timeout server 30s
  timeout check 5s
  retries 3
  retry-on conn-failure
  option redispatch
frontend data
  bind 127.0.0.1:${port}
  stats enable
  stats uri /haproxy
  default_backend gateways
backend gateways
  option httpchk GET /readyz
${servers.join('\n')}
`;
  await writeFile(file, config);
  const running = follow(
    spawn(HAPROXY ?? 'haproxy', ['-db', '-V', '-f', file], { env: cleanEnv(), stdio: ['ignore', 'pipe', 'pipe'] }),
  );
  return running;
}

/** Resolves once haproxy sends new requests to all of its backends: what a rolling restart waits for between two steps. */
export async function allUp(port: number, count: number): Promise<void> {
  await vi.waitFor(
    async () => {
      const table = await (await fetch(`http://127.0.0.1:${port}/haproxy;csv`)).text();
      const up = table.split('\n').filter((row) => /^gateways,gateway\d+,/.test(row) && row.split(',')[17] === 'UP');
      expect(up).toHaveLength(count);
    },
    { interval: 20, timeout: 10_000 },
  );
}

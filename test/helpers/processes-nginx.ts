/** nginx on loopback: what many serve their bundles with, and put before their services. */
import { spawn } from 'node:child_process';
import { existsSync } from 'node:fs';
import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { vi } from 'vitest';
import type { RunningProcess } from './processes.ts';
import { cleanEnv, follow } from './processes.ts';

const PLACES = ['/usr/sbin/nginx', '/usr/local/sbin/nginx', '/usr/bin/nginx', '/opt/homebrew/bin/nginx'];

/** Path of the program, or null: then its tests are skipped, except in CI, where its absence is a failure. */
export const NGINX = PLACES.find((path) => existsSync(path)) ?? null;

/** Serves the folder `www` below `home`, and what `more` says inside `http { }`. Resolves once it answers. */
export async function startNginx(home: string, port: number, more = ''): Promise<RunningProcess> {
  await mkdir(join(home, 'www'), { recursive: true });
  const temporary = ['client_body', 'proxy', 'fastcgi', 'uwsgi', 'scgi'].map(
    (name) => `${name}_temp_path ${home}/${name};`,
  );
  // Started by root its workers would be somebody else, who may not read what only we may.
  const user = process.getuid?.() === 0 ? 'user root;\n' : '';
  const config = `${user}daemon off;
worker_processes 1;
pid ${home}/nginx.pid;
error_log stderr;
events { worker_connections 256; }
http {
  access_log off;
  ${temporary.join('\n  ')}
  server {
    listen 127.0.0.1:${port};
    root ${home}/www;
    etag on;
  }
  ${more}
}
`;
  const file = join(home, 'nginx.conf');
  await writeFile(file, config);
  const running = follow(
    spawn(NGINX ?? 'nginx', ['-c', file, '-p', home, '-e', 'stderr'], {
      env: cleanEnv(),
      stdio: ['ignore', 'pipe', 'pipe'],
    }),
  );
  await vi.waitFor(() => fetch(`http://127.0.0.1:${port}/`), { interval: 20, timeout: 10_000 });
  return {
    ...running,
    // Killed, the first process would leave those that do its work behind.
    async [Symbol.asyncDispose]() {
      running.kill('SIGTERM');
      await running.exited;
    },
  };
}

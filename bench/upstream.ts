/** The upstream behind all contenders: nginx answering from its configuration, several times faster than any of them. */
import { mkdtempSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Contender } from './processes.ts';
import { find, freePort, LOAD_CPU, startProgram } from './processes.ts';

export const MCP_ANSWER = JSON.stringify({
  jsonrpc: '2.0',
  id: 1,
  result: { content: [{ type: 'text', text: '[{"id":1,"customer":"Ada","total":57}]' }] },
});
export const CHAT_ANSWER = JSON.stringify({
  id: 'chatcmpl-1',
  object: 'chat.completion',
  created: 1767225600,
  model: 'tiny-gate',
  choices: [{ index: 0, message: { role: 'assistant', content: 'The gate stays down.' }, finish_reason: 'stop' }],
  usage: { prompt_tokens: 9, completion_tokens: 5, total_tokens: 14 },
});

const SHELL = (dir: string, http: string) => `
daemon off; worker_processes 1; pid ${dir}/nginx.pid; error_log stderr crit;
events { worker_connections 4096; }
http {
  access_log off; keepalive_requests 100000000; keepalive_timeout 600s; default_type application/json;
  client_body_temp_path ${dir}/b; proxy_temp_path ${dir}/p; fastcgi_temp_path ${dir}/f; uwsgi_temp_path ${dir}/u; scgi_temp_path ${dir}/s;
${http}
}
`;

function nginxConfig(http: string): { dir: string; file: string } {
  const dir = mkdtempSync(join(tmpdir(), 'bench-nginx-'));
  const file = join(dir, 'nginx.conf');
  writeFileSync(file, SHELL(dir, http));
  return { dir, file };
}

async function startNginx(name: string, http: (port: number) => string, cpu: string): Promise<Contender> {
  const nginx = find('nginx');
  if (nginx === null) throw new Error('nginx is not installed (Debian package: nginx-light)');
  const port = await freePort();
  const { dir, file } = nginxConfig(http(port));
  return startProgram(name, [nginx, '-p', dir, '-e', 'stderr', '-c', file], `http://127.0.0.1:${port}`, { cpu });
}

export const startUpstream = (): Promise<Contender> =>
  startNginx(
    'upstream',
    (port) => `  server {
    listen 127.0.0.1:${port} backlog=4096;
    location /mcp { return 200 '${MCP_ANSWER}'; }
    location /v1/chat/completions { return 200 '${CHAT_ANSWER}'; }
    location / { return 200 '{}'; }
  }`,
    LOAD_CPU,
  );

/** nginx as a plain proxy: what a C program needs for nothing but forwarding. */
export const startNginxProxy = (upstream: string): Promise<Contender> =>
  startNginx(
    'nginx (plain proxy)',
    (port) => `  upstream u { server ${upstream.replace('http://', '')}; keepalive 100; keepalive_requests 100000000; }
  server {
    listen 127.0.0.1:${port} backlog=4096;
    location / { proxy_pass http://u; proxy_http_version 1.1; proxy_set_header Connection ""; }
  }`,
    '0',
  );

export async function startHaproxy(upstream: string): Promise<Contender> {
  const haproxy = find('haproxy');
  if (haproxy === null) throw new Error('haproxy is not installed (Debian package: haproxy)');
  const port = await freePort();
  const file = join(mkdtempSync(join(tmpdir(), 'bench-haproxy-')), 'haproxy.cfg');
  writeFileSync(
    file,
    `global
  nbthread 1
defaults
  mode http
  timeout client 60s
  timeout server 60s
  timeout connect 5s
  http-reuse always
frontend f
  bind 127.0.0.1:${port}
  default_backend b
backend b
  server s ${upstream.replace('http://', '')}
`,
  );
  return startProgram('haproxy (plain proxy)', [haproxy, '-f', file], `http://127.0.0.1:${port}`);
}

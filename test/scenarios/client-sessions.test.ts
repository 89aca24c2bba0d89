/** Programs that log in: the package's client, and what a program of any language writes for itself. */
import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { Session } from '../../src/client.ts';
import { PortcullisClient } from '../../src/client.ts';
import { ACCOUNTS, authClient, IDENTITY, PASSWORD, steppedClock } from '../helpers/accounts.ts';
import { startGateway, type TestGateway } from '../helpers/gateway.ts';
import { cleanEnv, runToEnd, temporaryDirectory } from '../helpers/processes.ts';
import { startService, startTasks } from '../helpers/upstreams.ts';
import { verifies } from '../helpers/verifies.ts';

const clock = steppedClock(Date.now());
const LIFE_S = 900;
let gateway: TestGateway;
let tasks: Awaited<ReturnType<typeof startTasks>>;
let authUrl: string;
beforeAll(async () => {
  tasks = await startTasks();
  gateway = await startGateway(
    {
      listen: { data: '127.0.0.1:0', auth: '127.0.0.1:0', admin: { address: '127.0.0.1:0' } },
      accounts: { ...ACCOUNTS, tokens: { access_seconds: LIFE_S } },
      identity: IDENTITY,
      routes: [
        {
          ...{ match: '/tasks', protocol: 'http', url: tasks.url, identity: ['accounts', 'keys'] },
          permissions: { GET: ['tasks.read'], POST: ['tasks.create'] },
        },
      ],
    },
    { clock },
  );
  authUrl = gateway.gateway.urls.auth ?? '';
  const account = { username: 'john_doe', email: 'john@example.com', password: PASSWORD };
  expect((await authClient(authUrl)('POST', '/auth/register', account)).status).toBe(201);
});
afterAll(async () => {
  await gateway?.[Symbol.asyncDispose]();
  await tasks?.[Symbol.asyncDispose]();
});

const account = { username: 'john_doe', password: PASSWORD };

/** What was asked of `/auth`, in order. */
function counting() {
  const asked: string[] = [];
  const counted: typeof fetch = (input, init) => {
    const { pathname } = new URL(String(input));
    if (pathname.startsWith('/auth/')) asked.push(pathname);
    return fetch(input, init);
  };
  return { asked, fetch: counted };
}

function kept(first: Session | null = null) {
  const saved: (Session | null)[] = [first];
  return { saved, load: () => saved.at(-1) ?? null, save: (session: Session | null) => void saved.push(session) };
}

describe('the client of the package', () => {
  test('asks one listener for tokens and another for the service, and refreshes once for everybody', async () => {
    verifies('V-32', 'VF-25');
    const { asked, fetch } = counting();
    const client = new PortcullisClient({ url: gateway.url, authUrl, ...account, fetch });
    expect((await client.fetch('/tasks')).status).toBe(200);
    clock.advance(LIFE_S * 1000);
    const all = await Promise.all(Array.from({ length: 5 }, () => client.fetch('/tasks')));
    expect(all.map(({ status }) => status)).toEqual([200, 200, 200, 200, 200]);
    expect(asked).toEqual(['/auth/login', '/auth/refresh']);
    expect(await client.validate()).toBe(true);
    await client.logout();
    expect(asked).toEqual(['/auth/login', '/auth/refresh', '/auth/me', '/auth/logout']);
    await expect(client.fetch(`${authUrl}/auth/me`)).rejects.toThrow(/not the gateway/);
  });

  test('a session that was kept goes on without a password, and what is kept is always the last one', async () => {
    verifies('VF-25');
    const store = kept();
    const first = new PortcullisClient({ url: gateway.url, authUrl, ...account, sessions: store });
    expect((await first.fetch('/tasks')).status).toBe(200);
    const { asked, fetch } = counting();
    const second = new PortcullisClient({ url: gateway.url, authUrl, sessions: store, fetch });
    expect((await second.fetch('/tasks')).status).toBe(200);
    expect(asked).toEqual([]);
    clock.advance(LIFE_S * 1000);
    expect((await second.fetch('/tasks')).status).toBe(200);
    expect(asked).toEqual(['/auth/refresh']);
    // The first has a used-up token in its memory; the place they share has the new one.
    expect((await first.fetch('/tasks')).status).toBe(200);
    expect(store.saved.filter((one) => one !== null)).toHaveLength(2);
    await first.logout();
    expect(store.load()).toBeNull();
    await expect(second.fetch('/tasks')).rejects.toThrow();
    await expect(new PortcullisClient({ url: gateway.url, sessions: kept() }).fetch('/tasks')).rejects.toThrow(
      /no session/,
    );
  });

  test('two processes that renew at the same moment throw away nothing of each other', async () => {
    const first = { access_token: 'a1', refresh_token: 'r1' } as Session;
    const theirs = { access_token: 'a2', refresh_token: 'r2' } as Session;
    for (const [status, isKept] of [
      [409, true],
      [401, true],
      [409, false],
      [401, false],
    ] as const) {
      const store = kept(first);
      await using service = await startService((request, response) => {
        if (request.url !== '/auth/refresh') {
          const isGood = request.headers.authorization === 'Bearer a2';
          return response.writeHead(isGood ? 200 : 401).end('{}');
        }
        // The other one had its answer while our question was on its way.
        if (isKept) store.save(theirs);
        return response.writeHead(status).end('{}');
      });
      const answer = new PortcullisClient({ url: service.url, sessions: store }).fetch('/tasks');
      if (isKept) expect((await answer).status).toBe(200);
      else await expect(answer).rejects.toMatchObject({ status });
      expect(store.load()).toEqual(isKept ? theirs : status === 409 ? first : null);
    }
  });

  test('a service that is away ends no session', async () => {
    let isAway = false;
    await using front = await startService(async (request, response) => {
      const body = await new Response(request as never).text();
      if (isAway && request.url === '/auth/refresh') return response.writeHead(503).end();
      const answer = await fetch(`${authUrl}${request.url}`, {
        method: request.method ?? 'POST',
        headers: { 'content-type': 'application/json' },
        body,
      });
      return response.writeHead(answer.status, { 'content-type': 'application/json' }).end(await answer.text());
    });
    const store = kept();
    const client = new PortcullisClient({ url: gateway.url, authUrl: front.url, ...account, sessions: store });
    expect((await client.fetch('/tasks')).status).toBe(200);
    clock.advance(LIFE_S * 1000);
    isAway = true;
    await expect(client.fetch('/tasks')).rejects.toMatchObject({ status: 503 });
    isAway = false;
    expect((await client.fetch('/tasks')).status).toBe(200);
    expect(store.saved.filter((one) => one !== null)).toHaveLength(2);
  });
});

describe('programs without the package', () => {
  test('a class of JavaScript logs in and calls a protected service with what it got', async () => {
    verifies('V-32');
    class Swarm {
      base: string;
      access: string | undefined;
      constructor(base: string) {
        this.base = base;
      }
      async login(username: string, password: string) {
        const response = await fetch(`${this.base}/auth/login`, {
          method: 'POST',
          headers: { 'Content-Type': 'application/json' },
          body: JSON.stringify({ username, password }),
        });
        const pair = (await response.json()) as { access_token: string; refresh_token: string };
        this.access = pair.access_token;
        return pair;
      }
      request(url: string, options: RequestInit = {}) {
        if (this.access === undefined) throw new Error('not logged in');
        return fetch(url, { ...options, headers: { ...options.headers, Authorization: `Bearer ${this.access}` } });
      }
    }
    const swarm = new Swarm(authUrl);
    expect(await swarm.login(account.username, PASSWORD)).toMatchObject({ token_type: 'bearer', role: 'user' });
    const listed = await swarm.request(`${gateway.url}/tasks`);
    expect([listed.status, await listed.json()]).toEqual([200, [...tasks.tasks.values()]]);
    const headers = { 'Content-Type': 'application/json' };
    const made = await swarm.request(`${gateway.url}/tasks`, {
      method: 'POST',
      headers,
      body: '{"title":"from a class"}',
    });
    expect(made.status).toBe(201);
  });

  test('Python logs in, calls, refreshes and logs out with nothing but its standard library', {
    timeout: 30_000,
  }, async ({ skip }) => {
    verifies('V-32');
    const there = await runToEnd('python3', ['--version'], { env: cleanEnv() }).catch(() => null);
    if (there?.code !== 0) skip('python3 is not installed');
    using place = temporaryDirectory();
    const file = join(place.path, 'swarm.py');
    await writeFile(
      file,
      `import json, os, urllib.error, urllib.request

class Swarm:
    def __init__(self, base):
        self.base, self.headers = base, {"Content-Type": "application/json"}

    def call(self, url, method="GET", body=None):
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(url, data=data, headers=self.headers, method=method)
        try:
            with urllib.request.urlopen(request, timeout=10) as response:
                text = response.read()
                return response.status, json.loads(text) if text else None
        except urllib.error.HTTPError as error:
            return error.code, None

    def take(self, pair):
        self.refresh_token = pair["refresh_token"]
        self.headers["Authorization"] = "Bearer " + pair["access_token"]

    def login(self, username, password):
        status, pair = self.call(self.base + "/auth/login", "POST", {"username": username, "password": password})
        assert status == 200 and pair["token_type"] == "bearer", status
        self.take(pair)

    def refresh(self):
        status, pair = self.call(self.base + "/auth/refresh", "POST", {"refresh_token": self.refresh_token})
        assert status == 200, status
        self.take(pair)

swarm = Swarm(os.environ["AUTH"])
tasks = os.environ["SERVICE"] + "/tasks"
statuses = [swarm.call(tasks)[0]]
swarm.login("john_doe", os.environ["PASSWORD"])
statuses.append(swarm.call(tasks)[0])
statuses.append(swarm.call(tasks, "POST", {"title": "from python"})[0])
swarm.refresh()
statuses.append(swarm.call(tasks)[0])
statuses.append(swarm.call(swarm.base + "/auth/logout", "POST")[0])
statuses.append(swarm.call(tasks)[0])
print(statuses)
`,
    );
    const env = cleanEnv({ AUTH: authUrl, SERVICE: gateway.url, PASSWORD });
    const done = await runToEnd('python3', [file], { env });
    expect(done.stderr).toBe('');
    expect(JSON.parse(done.stdout)).toEqual([401, 200, 201, 200, 204, 401]);
    expect(await readFile(file, 'utf8')).not.toContain(PASSWORD);
  });
});

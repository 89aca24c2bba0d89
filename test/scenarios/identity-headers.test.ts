/** What clients and proxies say of callers, replayed from data through real listeners, and what an upstream is told. */
import { readFileSync } from 'node:fs';
import { type IncomingMessage, request } from 'node:http';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { countAttacks } from '../helpers/attacks.ts';
import type { TestGateway } from '../helpers/gateway.ts';
import { leading, type PartialConfig, startGateway } from '../helpers/gateway.ts';
import { ROOT } from '../helpers/processes.ts';
import type { Recorder, Service } from '../helpers/upstreams.ts';
import { record, startService } from '../helpers/upstreams.ts';
import { verifies } from '../helpers/verifies.ts';

interface Case {
  readonly name: string;
  /** Whether the gateway takes this machine for one of its proxies. */
  readonly via: 'client' | 'proxy';
  readonly caller: 'developer' | 'nobody' | 'umlaut' | 'both' | 'anonymous';
  readonly headers: readonly (readonly [string, string])[];
  readonly status: number;
  /** What the upstream has to see under a name; null: nothing, `*`: the id of the request in the answer. */
  readonly seen?: Readonly<Record<string, string | null>>;
  /** Of the client, in the audit. */
  readonly address?: string;
}

const corpus = (name: string) => readFileSync(join(ROOT, 'test/corpus/http', name), 'utf8');
const cases = JSON.parse(corpus('told-upstream.json')) as Case[];
const { names, twins } = JSON.parse(corpus('identity-headers.json')) as { names: string[]; twins: string[] };

let service: Service;
let upstream: Recorder;
let gateways: Record<Case['via'], TestGateway>;
let keys: Record<Case['via'], Record<string, string>>;
/** Of the last request. */
let seen: IncomingMessage | null = null;

beforeAll(async () => {
  service = await startService((incoming, response) => {
    seen = incoming;
    response.end('{}');
  });
  upstream = await record(service.url);
  const config: PartialConfig = {
    public_url: 'http://127.0.0.1:1',
    routes: [
      {
        ...{ match: '/api', protocol: 'http', url: upstream.url, identity: ['keys'], anonymous: true },
        ...{ tenant_header: true, user_header: true },
      },
      {
        ...{ match: '/signed', protocol: 'http', url: upstream.url, identity: ['keys'] },
        identity_token: { header: 'X-Acme-Caller' },
      },
    ],
  };
  gateways = {
    client: await startGateway(config),
    proxy: await startGateway({ ...config, trusted_proxies: ['127.0.0.1'] }),
  };
  keys = { client: await keysOf(gateways.client), proxy: await keysOf(gateways.proxy) };
});

afterAll(async () => {
  for (const one of [gateways?.client, gateways?.proxy, upstream, service]) await one?.[Symbol.asyncDispose]();
});

async function keysOf(gateway: TestGateway) {
  return {
    developer: await gateway.key('developer'),
    nobody: await gateway.key('nobody', { roles: [] }),
    umlaut: await gateway.key('developer', { owner_id: 'Jörg ",' }),
    both: await gateway.key('developer', { owner_id: 'user-both', roles: ['developer', 'analyst'] }),
  };
}

/** Sends names and values exactly as they are given, also twice. */
function send(via: Case['via'], headers: readonly (readonly [string, string])[], key: string | undefined) {
  const url = new URL('/api/things', gateways[via].url);
  const own = key === undefined ? [] : [['x-api-key', key] as const];
  const flat = [['Host', url.host] as const, ...own, ...headers].flat();
  const { promise, resolve, reject } = Promise.withResolvers<IncomingMessage>();
  const outgoing = request(url, { headers: flat, agent: false }, (answer) => {
    answer.resume();
    answer.on('end', () => resolve(answer));
  });
  outgoing.on('error', reject);
  outgoing.end();
  return promise;
}

describe(`${cases.length} things said of callers`, () => {
  verifies('HW-10', 'VF-20', 'VF-21', 'HF-14');

  countAttacks('forwarded and identity headers', cases.length);

  test('are at least 40', () => {
    expect(cases.length).toBeGreaterThanOrEqual(40);
    expect(new Set(cases.map(({ name }) => name)).size).toBe(cases.length);
  });

  test.each(cases.map((each) => [each.name, each] as const))('%s', async (_name, each) => {
    seen = null;
    const answer = await send(each.via, each.headers, keys[each.via][each.caller]);
    expect(answer.statusCode).toBe(each.status);
    const told = (seen as IncomingMessage | null)?.headers;
    if (each.status !== 200) expect(told).toBeUndefined();
    for (const [name, value] of Object.entries(each.seen ?? {})) {
      const expected = value === '*' ? answer.headers['x-request-id'] : (value ?? undefined);
      expect(told?.[name], name).toBe(expected);
    }
    expect(JSON.stringify(told ?? {})).not.toMatch(/forged|Zm9yZ2Vk/);
    // Nothing is said with an empty header.
    expect(Object.entries(told ?? {}).filter(([, value]) => value === '')).toEqual([]);
    if (each.address === undefined) return;
    const id = answer.headers['x-request-id'];
    const events = await gateways[each.via].audited((all) => all.some(({ request_id }) => request_id === id));
    expect(leading(events).find(({ request_id }) => request_id === id)).toMatchObject({ source_ip: each.address });
  });

  test.each(['client', 'proxy'] as const)('no known name of an identity header gets through from a %s', async (via) => {
    for (const name of [...names, ...twins]) {
      const spelling = via === 'client' ? name : name.toUpperCase();
      await send(via, [[spelling, 'forged by name']], keys[via].developer);
    }
    expect(upstream.sent().includes('forged by name')).toBe(false);
  });
});

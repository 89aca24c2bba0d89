/** The compose file and its four profiles, as far as they can be judged without a container runtime; each configuration runs. */
import { randomBytes } from 'node:crypto';
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { parse } from 'yaml';
import { loadConfigText } from '../src/config/load.ts';
import { createGateway } from '../src/gateway.ts';
import { IDENTITY_SCHEMA } from '../src/modules.ts';
import { ROOT, temporaryDirectory } from './helpers/processes.ts';
import { startTasks } from './helpers/upstreams.ts';
import { verifies } from './helpers/verifies.ts';

interface Service {
  readonly image: string;
  readonly profiles: readonly string[];
  readonly command: readonly string[];
  readonly environment?: Readonly<Record<string, string>>;
  readonly ports?: readonly string[];
  readonly volumes?: readonly string[];
  readonly networks: readonly string[];
  readonly depends_on?: readonly string[] | Readonly<Record<string, unknown>>;
  readonly read_only?: boolean;
}

const FOLDER = join(ROOT, 'config/compose');
const source = readFileSync(join(FOLDER, 'compose.yaml'), 'utf8');
const compose = parse(source, { merge: true }) as {
  services: Record<string, Service>;
  volumes: Record<string, unknown>;
  networks: Record<string, unknown>;
};
const PROFILES = ['off', 'on', 'full', 'proxy'] as const;
const services = Object.entries(compose.services);
const strong = () => randomBytes(32).toString('base64url');
const secrets: Record<string, string> = {
  LANGFUSE_DB_PASSWORD: strong(),
  REDIS_PASSWORD: strong(),
  PORTCULLIS_PEPPER: strong(),
};

function gatewayOf(profile: string): Service {
  const found = compose.services[`gateway-${profile}`];
  if (found === undefined) throw new Error(`no gateway in profile ${profile}`);
  return found;
}

/** What the container of a profile starts with. */
function settingsOf(profile: string) {
  const { environment = {}, command } = gatewayOf(profile);
  const filled = (text: string) => text.replaceAll(/\$\{(\w+):-\}/g, (_all, name: string) => secrets[name] ?? '');
  const env = Object.fromEntries(Object.entries(environment).map(([name, value]) => [name, filled(value)]));
  return { env, file: String(command.at(-1)).replace('/app/', `${ROOT}/`) };
}

function load(profile: string, change = (text: string) => text, more: Record<string, string> = {}) {
  const { env, file } = settingsOf(profile);
  const text = change(readFileSync(file, 'utf8'));
  return loadConfigText(text, file, { env: { ...env, ...more }, providers: IDENTITY_SCHEMA, publicTexts: [] });
}

describe('the compose file', () => {
  test.each(PROFILES)('profile %s has one gateway, the service behind it, and what they need', (profile) => {
    verifies('V-41');
    const mine = services.filter(([, one]) => one.profiles.includes(profile)).map(([name]) => name);
    expect(mine.filter((name) => name.startsWith('gateway'))).toEqual([`gateway-${profile}`]);
    expect(mine).toContain('tasks');
    expect(mine.includes('postgres')).toBe(profile === 'full' || profile === 'proxy');
    expect(mine.includes('redis')).toBe(profile === 'full' || profile === 'proxy');
    const needed = gatewayOf(profile).depends_on ?? [];
    for (const name of Array.isArray(needed) ? needed : Object.keys(needed)) expect(mine).toContain(name);
  });

  test.each(PROFILES)('profile %s starts with a configuration that is checked and says where it listens', (profile) => {
    verifies('V-41', 'V-33');
    const { config, problems } = load(profile);
    expect(problems).toEqual([]);
    const { listen } = config ?? {};
    const addresses = [listen?.data, listen?.auth].flatMap((one) => (one === undefined ? [] : [one.address]));
    const inside = (gatewayOf(profile).ports ?? []).map((port) => port.split(':').at(-1));
    expect(addresses.map((address) => address.split(':').at(-1)).toSorted()).toEqual(inside.toSorted());
  });

  test('names pinned images, opens the HTTPS port alone, and holds no secret', () => {
    for (const [name, { image, ports = [], networks, volumes = [] }] of services) {
      expect(image, name).toMatch(/:\d+\.\d+/);
      for (const port of ports) expect(port).toMatch(name === 'gateway-proxy' ? /^8443:8443$/ : /^127\.0\.0\.1:/);
      for (const network of networks) expect(Object.keys(compose.networks)).toContain(network);
      for (const volume of volumes.filter((one) => !one.startsWith('.'))) {
        expect(Object.keys(compose.volumes)).toContain(volume.split(':')[0]);
      }
    }
    for (const profile of PROFILES) expect(gatewayOf(profile).read_only).toBe(true);
    for (const line of source.split('\n').filter((text) => /PASSWORD|PEPPER/.test(text) && !text.startsWith('#'))) {
      expect(line).toMatch(/\$\$?\{(?:LANGFUSE_DB_PASSWORD|REDIS_PASSWORD|PORTCULLIS_PEPPER):/);
    }
    expect(existsSync(join(ROOT, 'Dockerfile'))).toBe(true);
  });

  test('without its secrets nothing of `full` and `proxy` starts', () => {
    for (const profile of ['full', 'proxy']) {
      expect(load(profile, undefined, { PORTCULLIS_PEPPER: '' }).config).toBeNull();
    }
    expect(source).toContain('--requirepass "$${REDIS_PASSWORD:?');
  });
});

describe('on one machine', () => {
  test.each([
    ['off', 200],
    ['on', 401],
  ] as const)('profile %s answers %i to somebody without a credential', async (profile, status) => {
    verifies('V-41', 'V-05');
    using home = temporaryDirectory('portcullis-compose-');
    await using tasks = await startTasks();
    const here = (text: string) =>
      text
        .replaceAll('http://tasks:7006', tasks.url)
        .replaceAll(/0\.0\.0\.0:\d+/g, '127.0.0.1:0')
        .replace('sqlite:/data', `sqlite:${home.path}`)
        .replace('/dev/stdout', join(home.path, 'audit.jsonl'));
    const { config } = load(profile, here, { PORTCULLIS_ADMIN_PORT: '0' });
    if (config === null) throw new Error('not loaded');
    const gateway = await createGateway(config, { baseDir: FOLDER, writeLog: () => {} });
    await gateway.start();
    try {
      expect((await fetch(`${gateway.urls.data}/tasks`)).status).toBe(status);
    } finally {
      await gateway.close();
    }
  });
});

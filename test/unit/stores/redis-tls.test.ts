/** Redis over TLS, a real server: its certificate is checked in every respect, and there is no way not to. */
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { loadConfigText } from '../../../src/config/load.ts';
import { IDENTITY_SCHEMA } from '../../../src/modules.ts';
import { openRedisShared } from '../../../src/stores/redis-shared.ts';
import { type Authority, type CertificateWish, createAuthority, SERVER_AUTH } from '../../helpers/certificates.ts';
import { startGateway } from '../../helpers/gateway.ts';
import { call } from '../../helpers/gateway-calls.ts';
import { temporaryDirectory } from '../../helpers/processes.ts';
import { NO_REDIS, type ServerFiles, type StoreServer, startRedis } from '../../helpers/processes-stores.ts';
import { verifies } from '../../helpers/verifies.ts';

const HERE = { subject: 'CN=redis', ip: ['127.0.0.1'], dns: ['localhost'], usages: [SERVER_AUTH] };
const DAY_MS = 86_400_000;

describe.skipIf(NO_REDIS !== null)(`Redis over TLS${NO_REDIS ? ` (${NO_REDIS})` : ''}`, () => {
  const folder = temporaryDirectory('portcullis-redis-tls-');
  let authority: Authority;
  let good: StoreServer;

  async function filesOf(name: string, wish: CertificateWish, from = authority): Promise<ServerFiles> {
    const issued = await from.issue(wish);
    const at = (end: string) => join(folder.path, `${name}.${end}`);
    writeFileSync(at('pem'), issued.cert);
    writeFileSync(at('key'), issued.key, { mode: 0o600 });
    writeFileSync(at('ca'), from.cert);
    return { cert: at('pem'), key: at('key'), ca: at('ca') };
  }

  beforeAll(async () => {
    authority = await createAuthority('CN=Stores');
    good = await startRedis(undefined, await filesOf('good', HERE));
  });
  afterAll(async () => {
    await good?.[Symbol.asyncDispose]();
    folder[Symbol.dispose]();
  });

  test('is used when the authority is the configured one', async () => {
    verifies('HF-18');
    await using shared = await openRedisShared({ url: good.url, ca: authority.cert });
    await shared.set('name', 'value', 60_000);
    expect(await shared.get('name')).toBe('value');
  });

  test('carries what gateways share, with `shared_ca`', async () => {
    verifies('HF-18');
    const stores = { database: 'sqlite:./portcullis.db', shared: good.url, shared_ca: join(folder.path, 'good.ca') };
    await using gateway = await startGateway({
      stores,
      rate_limit: { limits: [{ name: 'few', limit: 1, window_seconds: 60 }] },
    });
    const key = await gateway.key('viewer');
    const statuses = [await call(`${gateway.url}/tools`, { key }), await call(`${gateway.url}/tools`, { key })];
    expect(statuses.map(({ status }) => status)).toEqual([200, 429]);
    await expect(startGateway({ stores: { ...stores, shared_ca: undefined } as never })).rejects.toThrow(
      /Redis cannot be reached/,
    );
  });

  test('is refused with another authority, and with none but the system’s', async () => {
    verifies('HF-18');
    const stranger = await createAuthority('CN=Stores');
    // Again and again: a complaint of the server that comes after the refusal must not end the process.
    for (let time = 0; time < 20; time++) {
      await expect(openRedisShared({ url: good.url, ca: stranger.cert })).rejects.toThrow('Redis cannot be reached');
    }
    await expect(openRedisShared({ url: good.url })).rejects.toThrow('Redis cannot be reached');
    for (const trick of ['?rejectUnauthorized=false', '?tls=false', '?checkServerIdentity=']) {
      await expect(openRedisShared({ url: good.url + trick })).rejects.toThrow('Redis cannot be reached');
    }
  });

  test.each<[string, CertificateWish]>([
    ['for another address', { ...HERE, ip: ['10.0.0.1'], dns: ['redis.internal'] }],
    ['for nothing but a common name', { subject: 'CN=127.0.0.1', usages: [SERVER_AUTH] }],
    [
      'that has expired',
      { ...HERE, notBefore: new Date(Date.now() - 2 * DAY_MS), notAfter: new Date(Date.now() - DAY_MS) },
    ],
  ])('is refused with a certificate %s', async (name, wish) => {
    verifies('HF-18');
    await using server = await startRedis(undefined, await filesOf(name.replaceAll(' ', '-'), wish));
    await expect(openRedisShared({ url: server.url, ca: authority.cert })).rejects.toThrow('Redis cannot be reached');
  });

  test('is not spoken to in the clear', async () => {
    await expect(openRedisShared({ url: good.url.replace('rediss:', 'redis:') })).rejects.toThrow();
  });
});

test('an authority for a store without TLS is a mistake with a line', () => {
  verifies('HF-18');
  const text = 'version: 1\nstores:\n  shared: redis://127.0.0.1:6379\n  shared_ca: ./ca.pem\n';
  const { problems } = loadConfigText(text, '/etc/portcullis.yaml', { env: {}, providers: IDENTITY_SCHEMA });
  expect(problems.map((problem) => problem.text)).toEqual([expect.stringMatching(/portcullis\.yaml:4:.*rediss/)]);
});

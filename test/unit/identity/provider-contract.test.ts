/** The one contract, for each kind of provider that can be asked here without another service of ours. */
import { writeFileSync } from 'node:fs';
import type { IncomingMessage } from 'node:http';
import { afterAll, describe } from 'vitest';
import { Secret } from '../../../src/core/secret.ts';
import { certificateCredential } from '../../../src/identity/client-certificate.ts';
import { issueKey } from '../../../src/identity/key-issuing.ts';
import type { Credential } from '../../../src/identity/provider.ts';
import { apiKey } from '../../../src/identity/providers/api-key.ts';
import { jwt } from '../../../src/identity/providers/jwt.ts';
import { mtls } from '../../../src/identity/providers/mtls.ts';
import { identityProviderContract } from '../../contract/identity-provider.ts';
import { createAuthority } from '../../helpers/certificates.ts';
import { temporaryDirectory } from '../../helpers/processes.ts';
import { NO_SLAPD, startSlapd } from '../../helpers/processes-slapd.ts';
import { AUDIENCE, forge, ISSUER, jwks } from './forge.ts';
import { staff } from './ldap/staff.ts';
import { bearer, keyHeader, setting } from './setting.ts';

const files = temporaryDirectory('portcullis-contract-');
afterAll(() => files[Symbol.dispose]());

const basic = (text: string): Credential => ({
  kind: 'basic',
  value: new Secret(Buffer.from(text).toString('base64')),
  source: 'authorization',
});

identityProviderContract('jwt', async () => {
  writeFileSync(`${files.path}/jwks.json`, JSON.stringify(jwks()));
  const around = await setting({ baseDir: files.path });
  const options = jwt.schema.parse({ kind: 'jwt', issuer: ISSUER, audience: AUDIENCE, jwks: 'jwks.json' });
  const provider = await jwt.create(options, around.env);
  const now = around.facts().now / 1000;
  return {
    provider,
    facts: around.facts(),
    good: bearer(forge({}, now)),
    bad: [
      bearer(forge({ claims: { aud: 'others' } }, now)),
      bearer(`${forge({}, now).slice(0, -8)}AAAAAAAA`),
      bearer(forge({ claims: { cnf: { 'x5t#S256': 'x' } } }, now)),
      bearer(forge({ claims: { cnf: { jkt: 'x' } } }, now)),
    ],
    foreign: basic('alice:x'),
    [Symbol.asyncDispose]: () => around[Symbol.asyncDispose](),
  };
});

identityProviderContract('api-key', async () => {
  const around = await setting({ name: 'staff' });
  const provider = await apiKey.create(apiKey.schema.parse({ kind: 'api-key' }), around.env);
  const { key } = await issueKey(around.env, { name: 'ci', tenant_id: 'acme' });
  const text = key.reveal();
  return {
    provider,
    facts: around.facts(),
    good: keyHeader(text),
    bad: [
      keyHeader(`${text.slice(0, -1)}${text.endsWith('A') ? 'B' : 'A'}`),
      keyHeader(text.replace('_dev_', '_live_')),
    ],
    foreign: basic('alice:x'),
    async [Symbol.asyncDispose]() {
      await provider.close?.();
      await around[Symbol.asyncDispose]();
    },
  };
});

identityProviderContract('mtls', async () => {
  const root = await createAuthority('CN=Root');
  writeFileSync(`${files.path}/ca.pem`, root.cert);
  const around = await setting({ baseDir: files.path });
  const options = mtls.schema.parse({ kind: 'mtls', ca: 'ca.pem', proxies: ['127.0.0.1'] });
  const provider = await mtls.create(options, around.env);
  const socket = { remoteAddress: '127.0.0.1' };
  const facts = around.facts({ now: Date.now(), incoming: { socket } as unknown as IncomingMessage });
  const shown = async (from: typeof root) => {
    const { der } = await from.issue();
    const credential = certificateCredential({ 'client-cert': `:${der.toString('base64')}:` }, facts);
    if (credential === null) throw new Error('no certificate was shown');
    return credential;
  };
  return {
    provider,
    facts,
    good: await shown(root),
    bad: [await shown(await createAuthority('CN=Root'))],
    foreign: bearer('a.b.c'),
    [Symbol.asyncDispose]: () => around[Symbol.asyncDispose](),
  };
});

describe.skipIf(NO_SLAPD !== null)(`with a directory${NO_SLAPD === null ? '' : ` (skipped: ${NO_SLAPD})`}`, () => {
  identityProviderContract('ldap', async () => {
    const server = await startSlapd({ ca: await createAuthority('CN=Directory') });
    const people = await staff(server.url);
    return {
      provider: people.provider,
      facts: people.around.facts(),
      good: basic('alice:wonder land 1'),
      bad: [basic('alice:wrong'), basic('mallory:x'), basic('alice:')],
      foreign: bearer('a.b.c'),
      async [Symbol.asyncDispose]() {
        await people[Symbol.asyncDispose]();
        await server[Symbol.asyncDispose]();
      },
    };
  });
});

/** Client certificates of real TLS connections, through the gateway's own listener. */
import { writeFileSync } from 'node:fs';
import { Agent, request } from 'node:https';
import { connect, type TLSSocket } from 'node:tls';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { Secret } from '../../../../src/core/secret.ts';
import { Bindings, bindingOf } from '../../../../src/identity/bound-token.ts';
import { certificateCredential } from '../../../../src/identity/client-certificate.ts';
import { linkOf } from '../../../../src/identity/link.ts';
import { mtlsSchema } from '../../../../src/identity/mtls-options.ts';
import { fromOwn } from '../../../../src/identity/own-provider.ts';
import type { AuthResult, IdentityFacts, IdentityProvider } from '../../../../src/identity/provider.ts';
import { mtls } from '../../../../src/identity/providers/mtls.ts';
import { type Authority, createAuthority, type Issued } from '../../../helpers/certificates.ts';
import { temporaryDirectory } from '../../../helpers/processes.ts';
import { verifies } from '../../../helpers/verifies.ts';
import { type OpenDoor, openDoor } from '../../http/open-door.ts';
import { bearer, NEVER, type Setting, setting } from '../setting.ts';

const files = temporaryDirectory('portcullis-mtls-');
const at = (name: string) => `${files.path}/${name}`;

describe('a client certificate of the connection', () => {
  let root: Authority;
  let issuing: Authority;
  let other: Authority;
  let alice: Issued;
  let around: Setting;
  let provider: IdentityProvider;
  let opened: OpenDoor;
  let results: (AuthResult | null)[] = [];
  let thumbprints: (string | null)[] = [];
  /** Of providers of one's own: one that takes certificates, one that does not. */
  let own: unknown[] = [];
  const ofOnesOwn = [true, false].map((takesCertificates) =>
    fromOwn({ takesCertificates, authenticate: ({ kind, source }) => `asked about ${kind} of ${source}` }),
  );
  let now = Date.now();

  const factsFor = (incoming: IdentityFacts['incoming']): IdentityFacts => ({
    ...around.facts({ now }),
    ...(incoming === undefined ? {} : { incoming }),
  });

  beforeAll(async () => {
    root = await createAuthority('CN=Root');
    issuing = await root.authority('CN=Issuing');
    other = await createAuthority('CN=Other');
    alice = await issuing.issue({ subject: 'CN=alice,O=Acme', uri: ['spiffe://acme.test/alice'] });
    const server = await root.issue({ subject: 'CN=localhost', dns: ['localhost'], usages: ['1.3.6.1.5.5.7.3.1'] });
    writeFileSync(at('server.pem'), server.cert);
    writeFileSync(at('server.key'), server.key);
    writeFileSync(at('ca.pem'), `${root.cert}${issuing.cert}${other.cert}`);
    writeFileSync(at('crl.pem'), await issuing.crl([]));
    around = await setting({ baseDir: files.path, clock: { now: () => now } });
    provider = await mtls.create(mtlsSchema.parse({ kind: 'mtls', ca: 'ca.pem' }), around.env);
    opened = await openDoor({
      tls: { cert: at('server.pem'), key: at('server.key'), client_ca: at('ca.pem') },
      trustedProxies: ['127.0.0.0/8'],
      onRequest: async ({ incoming, headers, outgoing }) => {
        const facts = factsFor(incoming);
        const credential = certificateCredential(headers, facts);
        results.push(credential === null ? null : await provider.authenticate(credential, facts, NEVER));
        if (credential !== null) own = ofOnesOwn.map((one) => one.authenticate(credential, facts, NEVER));
        thumbprints.push(linkOf(incoming)?.thumbprint ?? null);
        outgoing.writeHead(200, ['content-length', '0']);
        outgoing.end();
      },
    });
  });

  afterAll(async () => {
    await opened[Symbol.asyncDispose]();
    await around[Symbol.asyncDispose]();
    files[Symbol.dispose]();
  });

  async function ask(who: Issued | null, headers: Record<string, string> = {}, agent?: Agent) {
    results = [];
    thumbprints = [];
    own = [];
    const identity = who === null ? {} : { cert: `${who.cert}${issuing.cert}`, key: who.key };
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    const call = request(
      {
        port: opened.port,
        host: '127.0.0.1',
        servername: 'localhost',
        ca: root.cert,
        headers,
        ...identity,
        ...(agent === undefined ? { agent: false } : { agent }),
      },
      (answer) => {
        answer.resume();
        answer.on('end', resolve);
      },
    );
    call.on('error', reject);
    call.end();
    await promise;
    return results[0];
  }

  test('tells who it is, over an intermediate authority', async () => {
    verifies('S-73', 'SF-57', 'HF-14');
    expect(await ask(alice)).toMatchObject({
      kind: 'authenticated',
      principal: {
        id: 'spiffe://acme.test/alice',
        teams: ['Acme'],
        auth: { provider: 'staff', method: 'client-cert', mfa_verified: false, key_id: thumbprints[0] },
      },
    });
    expect(thumbprints[0]).toHaveLength(43);
  });

  test('is shown to those providers of one’s own that take certificates', async () => {
    await ask(alice);
    expect(own).toEqual(['asked about client-cert of tls', { kind: 'not-applicable' }]);
  });

  test('is not there when the client shows none', async () => {
    expect(await ask(null)).toBeNull();
    expect(thumbprints).toEqual([null]);
  });

  test('of another authority ends the connection', async () => {
    verifies('SF-57');
    const stranger = await (await createAuthority('CN=Nobody')).issue();
    await expect(ask(stranger)).rejects.toThrow();
    expect(results).toEqual([]);
  });

  test('is what counts, whatever a header of a proxy that is not the provider’s says', async () => {
    verifies('HF-14');
    const mallory = await issuing.issue({ subject: 'CN=root,O=Acme' });
    expect(await ask(alice, { 'client-cert': `:${mallory.der.toString('base64')}:` })).toEqual({
      kind: 'not-applicable',
    });
    expect(await ask(null, { 'x-forwarded-for': '10.0.0.1', 'x-ssl-client-verify': 'SUCCESS' })).toBeNull();
  });

  test('holds for a session that was taken up again, and is judged anew', async () => {
    verifies('SF-57');
    const identity = { cert: `${alice.cert}${issuing.cert}`, key: alice.key };
    const options = { port: opened.port, host: '127.0.0.1', servername: 'localhost', ca: root.cert, ...identity };
    const talk = (socket: TLSSocket): Promise<string> => {
      const { promise, resolve, reject } = Promise.withResolvers<string>();
      socket.on('error', reject);
      socket.on('data', (bytes: Buffer) => resolve(bytes.toString('latin1')));
      socket.write('GET / HTTP/1.1\r\nHost: localhost\r\n\r\n');
      return promise;
    };
    const first = connect({ ...options, maxVersion: 'TLSv1.2' });
    const session = Promise.withResolvers<Buffer>();
    first.once('session', session.resolve);
    await talk(first);
    const kept = await session.promise;
    first.destroy();
    results = [];
    const second = connect({ ...options, maxVersion: 'TLSv1.2', session: kept });
    await talk(second);
    expect(second.isSessionReused()).toBe(true);
    expect(results[0]).toMatchObject({ kind: 'authenticated', principal: { id: 'spiffe://acme.test/alice' } });
    second.destroy();
  });

  test('is not taken any more, on a connection that stays open, once its authority is taken off the list', async () => {
    verifies('S-72');
    const agent = new Agent({ keepAlive: true, maxSockets: 1 });
    const carol = await other.issue({ subject: 'CN=carol' });
    expect(await ask(carol, {}, agent)).toMatchObject({ kind: 'authenticated' });
    writeFileSync(at('ca.pem'), `${root.cert}${issuing.cert}`);
    now += 3000;
    expect(await ask(carol, {}, agent)).toMatchObject({
      kind: 'rejected',
      reason: 'invalid',
      detail: 'no path to an authority that is trusted',
    });
    writeFileSync(at('ca.pem'), 'half a fi');
    now += 3000;
    expect(await ask(alice)).toMatchObject({ kind: 'authenticated' });
    writeFileSync(at('ca.pem'), `${root.cert}${issuing.cert}${other.cert}`);
    now += 3000;
    expect(await ask(carol, {}, agent)).toMatchObject({ kind: 'authenticated' });
    agent.destroy();
  });

  test('leaves tokens to other providers', () => {
    verifies('S-75');
    expect(provider.authenticate(bearer('a.b.c'), around.facts(), NEVER)).toEqual({ kind: 'not-applicable' });
  });

  test('cannot be given as a text', () => {
    const text = alice.der.toString('base64');
    const credential = { kind: 'client-cert', value: new Secret(text), source: 'tls' } as const;
    expect(provider.authenticate(credential, around.facts(), NEVER)).toEqual({ kind: 'not-applicable' });
  });

  test('that was revoked is refused, and nobody is let in by a list that is out of date', async () => {
    verifies('SF-57');
    const options = mtlsSchema.parse({ kind: 'mtls', ca: 'ca.pem', crl: 'crl.pem' });
    const checking = await mtls.create(options, around.env);
    const before = provider;
    provider = checking;
    expect(await ask(alice)).toMatchObject({ kind: 'authenticated' });
    writeFileSync(at('crl.pem'), await issuing.crl([alice.certificate.serialNumber]));
    now += 3000;
    expect(await ask(alice)).toMatchObject({ reason: 'invalid', detail: 'the certificate was revoked' });
    const old = { thisUpdate: new Date(Date.now() - 9e7), nextUpdate: new Date(Date.now() - 1000) };
    writeFileSync(at('crl.pem'), await issuing.crl([], old));
    now += 3000;
    expect(await ask(alice)).toMatchObject({ reason: 'unavailable' });
    expect(await checking.health?.()).toMatchObject({ state: 'degraded' });
    // Somebody else's signature under the issuer's name.
    const impostor = await createAuthority('CN=Issuing');
    writeFileSync(at('crl.pem'), await impostor.crl([]));
    now += 3000;
    expect(await ask(alice)).toMatchObject({ reason: 'unavailable' });
    provider = before;
  });

  test('is remembered no longer than the list of its issuer speaks for', async () => {
    verifies('SF-57');
    const ends = { thisUpdate: new Date(now - 1000), nextUpdate: new Date(Math.ceil(now / 1000) * 1000 + 60_000) };
    writeFileSync(at('crl.pem'), await issuing.crl([], ends));
    const before = provider;
    provider = await mtls.create(mtlsSchema.parse({ kind: 'mtls', ca: 'ca.pem', crl: 'crl.pem' }), around.env);
    expect(await ask(alice)).toMatchObject({ kind: 'authenticated' });
    now = ends.nextUpdate.getTime() - 1;
    expect(await ask(alice)).toMatchObject({ kind: 'authenticated' });
    now += 1;
    expect(await ask(alice)).toMatchObject({ reason: 'unavailable' });
    provider = before;
  });

  test('over authorities that only the client sends needs nothing but the root in ca', async () => {
    verifies('S-73', 'SF-57');
    const between = await issuing.authority('CN=Between');
    const bob = await between.issue({ subject: 'CN=bob' });
    const hers = await other.authority('CN=Other Between');
    const eve = await hers.issue({ subject: 'CN=eve' });
    writeFileSync(at('root.pem'), root.cert);
    writeFileSync(at('both.pem'), `${root.cert}${other.cert}`);
    const answers: (AuthResult | null)[] = [];
    const make = (options: object) => mtls.create(mtlsSchema.parse({ kind: 'mtls', ...options }), around.env);
    const narrow = await make({ ca: 'root.pem' });
    const revoking = await make({ ca: 'root.pem', crl: 'crl.pem' });
    const check = async (client_ca: string, chain: string, key: string, who: IdentityProvider) => {
      answers.length = 0;
      await using door = await openDoor({
        tls: { cert: at('server.pem'), key: at('server.key'), client_ca: at(client_ca) },
        onRequest: async ({ incoming, headers, outgoing }) => {
          const facts = factsFor(incoming);
          const credential = certificateCredential(headers, facts);
          answers.push(credential === null ? null : await who.authenticate(credential, facts, NEVER));
          outgoing.writeHead(200, ['content-length', '0']);
          outgoing.end();
        },
      });
      const options = { port: door.port, host: '127.0.0.1', servername: 'localhost', ca: root.cert, cert: chain, key };
      await new Promise<void>((done) => {
        const call = request({ ...options, agent: false }, (answer) => answer.resume().on('end', done));
        call.on('error', () => done()).end();
      });
      return answers[0] ?? null;
    };
    const whole = `${bob.cert}${between.cert}${issuing.cert}`;
    expect(await check('root.pem', whole, bob.key, narrow)).toMatchObject({ principal: { id: 'bob' } });
    // A link left out: TLS itself finds no path.
    expect(await check('root.pem', `${bob.cert}${between.cert}`, bob.key, narrow)).toBeNull();
    // The listener trusts more than the provider: its word is not enough, for either of them.
    const reason = { kind: 'rejected', detail: 'no path to an authority that is trusted' };
    expect(await check('both.pem', whole, bob.key, await make({ ca: 'root.pem' }))).toMatchObject(reason);
    expect(await check('both.pem', `${eve.cert}${hers.cert}`, eve.key, narrow)).toMatchObject(reason);
    // Nor when it trusts somebody under a label that only TLS reads.
    writeFileSync(at('labels.pem'), `${root.cert}${other.cert.replaceAll(' CERTIFICATE', ' TRUSTED CERTIFICATE')}`);
    expect(await check('labels.pem', `${eve.cert}${hers.cert}`, eve.key, narrow)).toMatchObject(reason);
    expect(await check('root.pem', whole, bob.key, revoking)).toMatchObject({
      detail: 'an authority between is not in ca, so that revocation cannot be checked',
    });
  });

  test('cannot be asked for again in the middle of a connection', async () => {
    verifies('SF-57');
    const identity = { cert: `${alice.cert}${issuing.cert}`, key: alice.key };
    const options = { port: opened.port, host: '127.0.0.1', servername: 'localhost', ca: root.cert, ...identity };
    const socket = connect({ ...options, maxVersion: 'TLSv1.2' });
    const { promise, resolve } = Promise.withResolvers<string>();
    socket.on('error', ({ message }) => resolve(message));
    socket.once('data', () =>
      socket.renegotiate({}, (error) => resolve(error === null ? 'renegotiated' : error.message)),
    );
    socket.write('GET / HTTP/1.1\r\nHost: localhost\r\n\r\n');
    expect(await promise).toContain('no renegotiation');
    socket.destroy();
  });

  test('makes a bound token good, and nothing else does', async () => {
    await ask(alice);
    const incoming = opened.seen.at(-1)?.incoming;
    const [thumbprint = null] = thumbprints;
    const principal = (results[0] as Extract<AuthResult, { kind: 'authenticated' }>).principal;
    const result = { kind: 'authenticated', principal } as const;
    const bindings = new Bindings();
    bindings.note(principal, bindingOf({ cnf: { 'x5t#S256': thumbprint } }));
    expect(bindings.hold(result, around.facts())).toMatchObject({ kind: 'rejected', reason: 'invalid' });
    // That connection is closed by now, so it proves nothing any more.
    expect(bindings.hold(result, factsFor(incoming))).toMatchObject({ kind: 'rejected' });
  });
});

describe('the binding of a token', () => {
  test.each([
    [{}, 'none'],
    [{ cnf: { 'x5t#S256': 'abc' } }, { thumbprint: 'abc' }],
    [{ cnf: { jkt: 'abc' } }, 'unknown'],
    [{ cnf: { 'x5t#S256': 'abc', jkt: 'abc' } }, 'unknown'],
    [{ cnf: { 'x5t#S256': 7 } }, 'unknown'],
    [{ cnf: 'abc' }, 'unknown'],
    [{ cnf: null }, 'unknown'],
    [{ cnf: [] }, 'unknown'],
    [{ cnf: {} }, 'unknown'],
  ])('of %j', (claims, binding) => {
    expect(bindingOf(claims)).toEqual(binding);
  });
});

/** What a service beside the gateway makes of the gateway's answers about keys. */
import { describe, expect, test } from 'vitest';
import { GatewayError } from '../../../src/core/errors.ts';
import { Secret } from '../../../src/core/secret.ts';
import { AuthService } from '../../../src/identity/auth-service.ts';
import { generateKey } from '../../../src/identity/key-format.ts';

const key = generateKey('pc', 'dev');
const GOOD = {
  ...{ valid: true, key_id: key.id, user_id: 'usr_1', tenant_id: 'acme', username: 'alice' },
  ...{ role: 'viewer', permissions: ['tasks.read'], expires_at: null },
};

/** `answer`: of the next question; it may move the clock. */
function opened(answer: (clock: { at: number }) => Response | Promise<Response>, more = {}) {
  const clock = { at: 1_000_000, now: () => clock.at };
  const silent = () => {};
  const said: unknown[] = [];
  const sent: unknown[] = [];
  let asked = 0;
  const service = new AuthService({
    ...{ url: 'http://127.0.0.1:1', secret: null, issuer: 'i', audience: 'i', cacheMs: 10_000, timeoutMs: 1500, clock },
    logger: { debug: silent, info: silent, warn: (...all) => void said.push(all), error: silent },
    serviceKey: null,
    ...more,
    fetch: async (_input, init) => {
      sent.push({ headers: init?.headers, body: JSON.parse(String(init?.body ?? 'null')) });
      asked++;
      return answer(clock);
    },
  });
  const who = (address: string | null = null) => service.authenticate({ 'x-api-key': key.text }, address);
  return { clock, said, sent, asked: () => asked, who };
}

describe('an answer about a key', () => {
  test('makes a caller of the tenant that the key belongs to', async () => {
    expect(await opened(() => Response.json(GOOD)).who()).toMatchObject({ id: 'usr_1', tenant_id: 'acme' });
  });

  test.each([
    ['the page of a captive portal', () => new Response('<html>Log in</html>', { status: 200 })],
    ['no tenant', () => Response.json({ ...GOOD, tenant_id: undefined })],
    ['another key', () => Response.json({ ...GOOD, key_id: 'other' })],
    ['a truth that is a text', () => Response.json({ ...GOOD, valid: 'true' })],
    ['a list', () => Response.json([GOOD])],
    ['nothing', () => new Response(null, { status: 204 })],
  ])('that is %s lets nobody in', async (_what, answer) => {
    const { who } = opened(answer);
    expect(await who()).toMatchObject({ code: 'AUTH_UNAVAILABLE', status: 503 });
  });

  test('is remembered from when it was asked for: what is revoked a moment later counts in time', async () => {
    const { clock, who, asked } = opened((at) => {
      at.at += 1400;
      return Response.json(GOOD);
    });
    const start = clock.at;
    expect(await who()).not.toBeInstanceOf(GatewayError);
    clock.at = start + 9999;
    await who();
    expect(asked()).toBe(1);
    clock.at = start + 10_000;
    await who();
    expect(asked()).toBe(2);
  });

  test('does not get into the log, whatever stands in it', async () => {
    const { who, said } = opened(() => new Response(`k ${key.text.slice(0, 24)}`, { status: 200 }));
    await who();
    expect(said).toHaveLength(1);
    expect(String((said[0] as [{ err: unknown }])[0].err)).not.toContain(key.text.slice(0, 16));
  });

  test('is nobody else’s who asks later, where nothing is remembered', async () => {
    const answers = [Promise.withResolvers<Response>(), Promise.withResolvers<Response>()];
    const waiting = answers.map(({ promise }) => promise);
    const { who, asked } = opened(() => waiting.shift() ?? new Response(null, { status: 500 }), { cacheMs: 0 });
    const [before, after] = [who(), who()];
    expect(asked()).toBe(2);
    // Withdrawn between the two questions, and the answer to the first is the last to come.
    answers[1]?.resolve(new Response(null, { status: 401 }));
    expect(await after).toMatchObject({ code: 'INVALID_CREDENTIALS' });
    answers[0]?.resolve(Response.json(GOOD));
    expect(await before).toMatchObject({ id: 'usr_1' });
  });

  test('is waited for together only as long as it would be remembered', async () => {
    const first = Promise.withResolvers<Response>();
    const waiting = [first.promise, Response.json(GOOD)];
    const { who, asked, clock } = opened(() => waiting.shift() ?? new Response(null, { status: 500 }));
    const early = [who(), who()];
    expect(asked()).toBe(1);
    clock.at += 10_000;
    expect(await who()).toMatchObject({ id: 'usr_1' });
    expect(asked()).toBe(2);
    first.resolve(Response.json(GOOD));
    await Promise.all(early);
  });

  test('that is bound to addresses counts only for the address that was asked about', async () => {
    const bound = () => Response.json({ ...GOOD, address_bound: true });
    const unknowing = opened(bound);
    expect(await unknowing.who()).toMatchObject({ code: 'INVALID_CREDENTIALS' });
    expect(unknowing.said).toHaveLength(1);
    const { who, sent, asked } = opened(bound, { serviceKey: new Secret('pc_dev_service') });
    for (const address of ['192.0.2.7', '192.0.2.8', '192.0.2.7'])
      expect(await who(address)).toMatchObject({ id: 'usr_1' });
    expect(asked()).toBe(2);
    expect(sent[0]).toMatchObject({ headers: { 'x-api-key': 'pc_dev_service' }, body: { client_ip: '192.0.2.7' } });
  });
});

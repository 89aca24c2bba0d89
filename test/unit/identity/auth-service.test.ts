/** What a service beside the gateway makes of the gateway's answers about keys. */
import { describe, expect, test } from 'vitest';
import { GatewayError } from '../../../src/core/errors.ts';
import { AuthService } from '../../../src/identity/auth-service.ts';
import { generateKey } from '../../../src/identity/key-format.ts';

const key = generateKey('pc', 'dev');
const GOOD = {
  ...{ valid: true, key_id: key.id, user_id: 'usr_1', tenant_id: 'acme', username: 'alice' },
  ...{ role: 'viewer', permissions: ['tasks.read'], expires_at: null },
};

/** `answer`: of the next question; it may move the clock. */
function opened(answer: (clock: { at: number }) => Response | Promise<Response>) {
  const clock = { at: 1_000_000, now: () => clock.at };
  const silent = () => {};
  const said: unknown[] = [];
  let asked = 0;
  const service = new AuthService({
    ...{ url: 'http://127.0.0.1:1', secret: null, issuer: 'i', audience: 'i', cacheMs: 10_000, timeoutMs: 1500, clock },
    logger: { debug: silent, info: silent, warn: (...all) => void said.push(all), error: silent },
    fetch: async () => {
      asked++;
      return answer(clock);
    },
  });
  return { clock, said, asked: () => asked, who: () => service.authenticate({ 'x-api-key': key.text }) };
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
});

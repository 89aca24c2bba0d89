import { expect, test } from 'vitest';
import type { GatewayError } from '../../../src/core/errors.ts';
import type { Received } from '../../../src/core/exchange.ts';
import { makePrincipal } from '../../../src/core/principal.ts';
import { RunningExchanges } from '../../../src/pipeline/running.ts';

function exchange(): Received {
  const controller = new AbortController();
  const abort = (reason: GatewayError) => controller.abort(reason);
  return { abort, cancel: controller.signal } as unknown as Received;
}

test('a stream whose key an external service keeps does not end because our database does not know it', () => {
  const running = new RunningExchanges({
    graceMs: () => 0,
    keysElsewhere: (provider) => provider === 'hokusai',
    onCut: () => undefined,
    onTunnelCut: () => undefined,
  });
  const [remote, local] = [exchange(), exchange()];
  const keyOf = (provider: string) =>
    makePrincipal({ id: 'a', auth: { key_id: 'k1', expires_at: 100 } }, provider, 'api-key');
  running.enter(remote, keyOf('hokusai'), '/x');
  expect(running.keyIds()).toEqual([]);
  running.enter(local, keyOf('keys'), '/x');
  expect(running.keyIds()).toEqual(['k1']);
  expect(running.applyKeys(new Set(['k1']), new Map())).toBe(1);
  expect([remote.cancel.aborted, local.cancel.aborted]).toEqual([false, true]);
  // It still ends with the key itself.
  expect(running.cutExpired(101_000)).toBe(1);
});

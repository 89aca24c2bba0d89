import { EventEmitter } from 'node:events';
import { describe, expect, test } from 'vitest';
import { stopSignal } from '../../../src/cli/process.ts';

function signalled() {
  const events = new EventEmitter();
  const exits: number[] = [];
  let now = 5000;
  const signal = stopSignal(
    { on: (name, listener) => events.on(name, listener), exit: (code) => exits.push(code) },
    () => now,
  );
  const send = (name: 'SIGINT' | 'SIGTERM', afterMs: number) => {
    now += afterMs;
    events.emit(name);
    return { aborted: signal.aborted, exits: [...exits] };
  };
  return { signal, send };
}

describe('a signal to end', () => {
  test.each(['SIGINT', 'SIGTERM'] as const)('%s asks for an orderly end, and a later one ends at once', (name) => {
    const { signal, send } = signalled();
    expect(signal.aborted).toBe(false);
    expect(send(name, 0)).toEqual({ aborted: true, exits: [] });
    expect(send(name, 1001)).toEqual({ aborted: true, exits: [name === 'SIGINT' ? 130 : 143] });
  });

  test('that comes again within a second is the same one, however often', () => {
    const { send } = signalled();
    send('SIGINT', 0);
    for (const afterMs of [0, 3, 400, 597]) expect(send('SIGINT', afterMs).exits).toEqual([]);
    expect(send('SIGTERM', 0).exits).toEqual([]);
    expect(send('SIGINT', 1).exits).toEqual([130]);
  });
});

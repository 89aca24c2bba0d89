/** Shared state of the operator's own: anything with the methods of `Shared`, from a file or from the program around us. */
import { resolve } from 'node:path';
import type { ModuleEnv } from '../core/module.ts';
import { loadOwn, type OwnModule, requireMethods } from '../core/own-module.ts';
import type { Shared } from './shared.ts';

const METHODS: readonly (keyof Shared & string)[] = [
  ...(['hit', 'take', 'get', 'set', 'claim', 'delete', 'publish', 'subscribe'] as const),
];

/** Loads the module that `stores.shared` names. Throws with a sentence for the operator when it is of no use. */
export async function loadOwnShared(config: OwnModule, env: ModuleEnv): Promise<Shared> {
  const made = await loadOwn(config, env, 'stores.shared');
  requireMethods(made, METHODS, resolve(env.baseDir, config.module));
  const own = made as Omit<Shared, typeof Symbol.asyncDispose> & Partial<AsyncDisposable> & { close?(): Promise<void> };
  return borrowed(own, async () =>
    own[Symbol.asyncDispose] === undefined ? own.close?.() : own[Symbol.asyncDispose]?.(),
  );
}

/** The same methods; disposing does what is said here: nothing, for what belongs to the program around the gateway. */
export function borrowed(shared: Omit<Shared, typeof Symbol.asyncDispose>, dispose = async () => {}): Shared {
  return {
    hit: (key, windowMs) => rejecting(() => shared.hit(key, windowMs)),
    take: (key, bucket) => rejecting(() => shared.take(key, bucket)),
    get: (key) => shared.get(key),
    set: (key, value, ttlMs) => shared.set(key, value, ttlMs),
    claim: (key, value, ttlMs) => shared.claim(key, value, ttlMs),
    delete: (key) => shared.delete(key),
    publish: (channel, message) => shared.publish(channel, message),
    subscribe: (channel, listener) => shared.subscribe(channel, listener),
    [Symbol.asyncDispose]: dispose,
  };
}

/** A throw counts as a rejection: who counts is then told of an outage, and goes on without. */
function rejecting<T>(ask: () => T | Promise<T>): T | Promise<T> {
  try {
    return ask();
  } catch (error) {
    return Promise.reject(error);
  }
}

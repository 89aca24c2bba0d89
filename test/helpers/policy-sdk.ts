/** Evaluates a compiled module with the public SDK: an opinion that is not ours. */
import { loadPolicy } from '@open-policy-agent/opa-wasm';

const DAYS = ['Sunday', 'Monday', 'Tuesday', 'Wednesday', 'Thursday', 'Friday', 'Saturday'];

export interface SdkPolicy {
  evaluate(input: unknown, entrypoint: string): unknown;
  /** RFC 3339 instant that policies see from now on. */
  at(instant: string): void;
  readonly entrypoints: Readonly<Record<string, number>>;
}

export async function sdkPolicy(wasm: Buffer, data: object): Promise<SdkPolicy> {
  let now = Date.parse('2025-01-15T10:30:00Z');
  const policy = await loadPolicy(new Uint8Array(wasm).buffer, 20, {
    'time.now_ns': () => now * 1e6,
    'time.clock': (ns: number) => {
      const date = new Date(ns / 1e6);
      return [date.getUTCHours(), date.getUTCMinutes(), date.getUTCSeconds()];
    },
    'time.weekday': (ns: number) => DAYS[new Date(ns / 1e6).getUTCDay()],
  });
  policy.setData(data);
  return {
    evaluate: (input, entrypoint) => policy.evaluate(input, entrypoint)[0]?.result,
    at: (instant) => {
      now = Date.parse(instant);
    },
    entrypoints: policy.entrypoints,
  };
}

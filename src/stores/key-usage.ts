/** How often the keys of the key service were asked about, by the hour. Source: acceptance HW-07, HW-08. */
import type { Database } from './database.ts';

/** Uses of one key. A use is a gateway asking whether it is good; gateways remember the answer for a while. */
export interface KeyUses {
  readonly total: number;
  /** In the last 24 hours, the current one included. */
  readonly last_24_hours: number;
}

export interface KeyUsageStore {
  /** Counts one use. @param at epoch milliseconds */
  count(keyId: string, at: number): Promise<void>;
  /** @param now epoch milliseconds */
  of(keyId: string, now: number): Promise<KeyUses>;
}

const HOUR_MS = 3_600_000;
const hourOf = (at: number): number => Math.floor(at / HOUR_MS);

export function createKeyUsageStore({ queries }: Database): KeyUsageStore {
  return {
    async count(keyId, at) {
      await queries
        .insertInto('key_usage')
        .values({ key_id: keyId, hour: hourOf(at), uses: 1 })
        .onConflict((conflict) =>
          conflict.columns(['key_id', 'hour']).doUpdateSet((e) => ({ uses: e('key_usage.uses', '+', 1) })),
        )
        .execute();
    },
    async of(keyId, now) {
      const rows = await queries.selectFrom('key_usage').select(['hour', 'uses']).where('key_id', '=', keyId).execute();
      const sum = (from: number) => rows.reduce((all, { hour, uses }) => (hour > from ? all + uses : all), 0);
      return { total: sum(Number.NEGATIVE_INFINITY), last_24_hours: sum(hourOf(now) - 24) };
    },
  };
}

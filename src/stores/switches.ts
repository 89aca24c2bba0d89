/** What operators have switched off, kept in the database so that every process and every start knows it. Source: security 2.10. */
import { hash } from 'node:crypto';
import type { Database } from './database.ts';
import type { SwitchRow } from './tables.ts';

export const SWITCH_KINDS = ['principal', 'key', 'tenant', 'server', 'tool'] as const;
export type SwitchKind = (typeof SWITCH_KINDS)[number];

/** What a switch is about. Names are exact: no patterns, no case folding. */
export interface SwitchTarget {
  readonly kind: SwitchKind;
  /** Id of a principal or key, name of a tenant, server or tool. */
  readonly name: string;
  /** The tenant of a principal, the server of a tool; empty for the others. */
  readonly within: string;
}

/** Times are epoch milliseconds. */
export interface SwitchedOff extends SwitchTarget {
  /** Follows from the target, so that switching off twice is switching off once. */
  readonly id: string;
  readonly reason: string;
  /** Whether callers may read the reason. */
  readonly is_public: boolean;
  readonly created_at: number;
  /** Who did it, e.g. `cli:root`. */
  readonly created_by: string;
  /** When it comes back on by itself; null: never. */
  readonly until: number | null;
}

/** A technical failure rejects. */
export interface SwitchStore {
  /** Grows with every change by any process. */
  version(): Promise<number>;
  /** All that are off, lapsed ones included, by id. */
  list(): Promise<SwitchedOff[]>;
  /** Puts it in the place of a switch with the same target. */
  off(record: SwitchedOff): Promise<void>;
  /** What was switched back on; null when there is no such switch. */
  on(id: string): Promise<SwitchedOff | null>;
  /** Changes when another process has written; null when the backend cannot tell. */
  externalVersion(): number | null;
}

/** `swi_` and a digest of the target. */
export function switchId({ kind, name, within }: SwitchTarget): string {
  return `swi_${hash('sha256', JSON.stringify([kind, within, name]), 'base64url').slice(0, 22)}`;
}

function fromRow({ is_public, kind, ...row }: SwitchRow): SwitchedOff {
  return { ...row, kind: kind as SwitchKind, is_public: is_public !== 0 };
}

/** Switches in the SQL database. */
export function createSwitchStore(database: Database): SwitchStore {
  const { queries } = database;
  return {
    async version() {
      const row = await queries.selectFrom('switch_version').select('version').executeTakeFirstOrThrow();
      return row.version;
    },
    async list() {
      return (await queries.selectFrom('switches').selectAll().orderBy('id').execute()).map(fromRow);
    },
    off: (record) => replace(database, record),
    on: (id) => remove(database, id),
    externalVersion: () => database.externalVersion(),
  };
}

async function replace({ queries }: Database, record: SwitchedOff): Promise<void> {
  const row: SwitchRow = { ...record, is_public: record.is_public ? 1 : 0 };
  await queries.transaction().execute(async (transaction) => {
    await transaction.deleteFrom('switches').where('id', '=', record.id).execute();
    // Those whose time is over are of no use to anybody.
    await transaction.deleteFrom('switches').where('until', '<=', record.created_at).execute();
    await transaction.insertInto('switches').values(row).execute();
    await transaction
      .updateTable('switch_version')
      .set((e) => ({ version: e('version', '+', 1) }))
      .execute();
  });
}

async function remove({ queries }: Database, id: string): Promise<SwitchedOff | null> {
  return queries.transaction().execute(async (transaction) => {
    const row = await transaction.selectFrom('switches').selectAll().where('id', '=', id).executeTakeFirst();
    if (row === undefined) return null;
    await transaction.deleteFrom('switches').where('id', '=', id).execute();
    await transaction
      .updateTable('switch_version')
      .set((e) => ({ version: e('version', '+', 1) }))
      .execute();
    return fromRow(row);
  });
}

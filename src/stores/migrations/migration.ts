import type { Kysely } from 'kysely';
import type { Tables } from '../tables.ts';

/** One schema change. Expand first, contract in a later release: two versions of the program may share a database for a while. */
export interface Migration {
  /** Ascending, never reused. */
  readonly version: number;
  readonly name: string;
  up(database: Kysely<Tables>): Promise<void>;
}

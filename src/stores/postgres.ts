/**
 * Postgres as the database, for gateways on several machines. A statement trigger on each table tells every other
 * gateway of a write, also of one made by hand. Source: architecture 7; postgresql.org/docs/current/sql-notify.html
 */
import { randomBytes } from 'node:crypto';
import { PostgresDialect, sql } from 'kysely';
import pg from 'pg';
import type { Backend, Queries } from './database.ts';

export interface PostgresOptions {
  /** Milliseconds to wait for a connection. */
  readonly patience: number;
  onConnectionError(error: Error): void;
}

const CHANNEL = 'portcullis_writes';

/** OID of int8, which the driver gives as text: our figures are epoch milliseconds and counts, far below 2^53. */
const INT8 = 20;

/** Two figures that no other program locks by, read as ASCII: `port`, `cull`. */
const SCHEMA_LOCK = [0x706f7274, 0x63756c6c] as const;

/** Connects. Throws with a sentence for the operator when it cannot. */
export async function openPostgres(url: string, { patience, onConnectionError }: PostgresOptions): Promise<Backend> {
  // By this name the triggers tell whose write it was.
  const self = `portcullis-${randomBytes(8).toString('hex')}`;
  const settings: pg.PoolConfig = {
    connectionString: url,
    application_name: self,
    connectionTimeoutMillis: patience,
    statement_timeout: 10_000,
    types: {
      getTypeParser: (oid: number, format?: 'text' | 'binary') =>
        oid === INT8 && format !== 'binary' ? Number : pg.types.getTypeParser(oid, format as 'text'),
    } as pg.CustomTypesConfig,
  };
  const pool = new pg.Pool({ ...settings, max: 10 });
  pool.on('error', onConnectionError);
  const listener = new WriteListener(settings, self, onConnectionError);
  try {
    await listener.start();
  } catch (cause) {
    await pool.end();
    throw new Error(`the database cannot be reached: ${(cause as Error).message}`, { cause });
  }
  return {
    dialect: new PostgresDialect({ pool }),
    externalVersion: () => listener.version(),
    // One figure where the schema's lock has two: neither is ever taken for the other.
    async inTurn(transaction, name) {
      await sql`select pg_advisory_xact_lock(hashtextextended(${name}, 0))`.execute(transaction);
    },
    ...watchedSchema(),
    async close() {
      await listener.close();
      if (!pool.ended) await pool.end();
    },
  };
}

/** One process at a time changes the schema, and each table it makes gets the trigger that announces writes. */
function watchedSchema(): Pick<Backend, 'lockSchema' | 'started'> {
  let before: ReadonlySet<string> = new Set();
  return {
    async lockSchema(transaction) {
      await sql`select pg_advisory_xact_lock(${SCHEMA_LOCK[0]}::int, ${SCHEMA_LOCK[1]}::int)`.execute(transaction);
      before = new Set(await tableNames(transaction));
    },
    async started(transaction) {
      // Tables that were there belong to somebody else, or have their trigger.
      const made = (await tableNames(transaction)).filter((name) => !before.has(name));
      if (made.length > 0) await announceWrites(transaction, made);
    },
  };
}

async function tableNames(transaction: Queries): Promise<string[]> {
  const { rows } = await sql<{ name: string }>`
    select tablename as name from pg_tables where schemaname = current_schema()
  `.execute(transaction);
  return rows.map(({ name }) => name);
}

async function announceWrites(transaction: Queries, tables: readonly string[]): Promise<void> {
  await sql`
    create or replace function portcullis_written() returns trigger language plpgsql as $$
    begin
      perform pg_notify('portcullis_writes', current_setting('application_name'));
      return null;
    end $$
  `.execute(transaction);
  for (const name of tables) {
    await sql`
      create trigger portcullis_written after insert or update or delete on ${sql.table(name)}
      for each statement execute function portcullis_written()
    `.execute(transaction);
  }
}

/** Milliseconds between two tries to listen again. */
const RETRY_MS = 250;

/** Hears of other gateways' writes. While it cannot, it says that there may have been one, each time it is asked. */
class WriteListener {
  readonly #settings: pg.ClientConfig;
  readonly #self: string;
  readonly #onError: (error: Error) => void;
  #client: pg.Client | null = null;
  #version = 0;
  #closed = false;
  #retry: NodeJS.Timeout | null = null;

  constructor(settings: pg.ClientConfig, self: string, onError: (error: Error) => void) {
    this.#settings = settings;
    this.#self = self;
    this.#onError = onError;
  }

  version(): number {
    if (this.#client === null) this.#version++;
    return this.#version;
  }

  async start(): Promise<void> {
    const client = new pg.Client({ ...this.#settings, keepAlive: true });
    client.on('error', (error) => this.#lost(client, error));
    client.on('end', () => this.#lost(client, null));
    client.on('notification', ({ payload }) => {
      if (payload !== this.#self) this.#version++;
    });
    await client.connect();
    await client.query(`listen ${CHANNEL}`);
    if (this.#closed) {
      await client.end();
      return;
    }
    this.#client = client;
    // What was written before it listened was not heard.
    this.#version++;
  }

  #lost(client: pg.Client, error: Error | null): void {
    if (this.#client !== client || this.#closed) return;
    this.#client = null;
    if (error !== null) this.#onError(error);
    client.end().catch(() => {});
    this.#again();
  }

  #again(): void {
    this.#retry = setTimeout(() => {
      this.start().catch((error: unknown) => {
        this.#onError(error as Error);
        if (!this.#closed) this.#again();
      });
    }, RETRY_MS).unref();
  }

  async close(): Promise<void> {
    this.#closed = true;
    if (this.#retry !== null) clearTimeout(this.#retry);
    const client = this.#client;
    this.#client = null;
    await client?.end();
  }
}

/** Where requests for approval are kept, with what an approver has to see and never a secret. Source: design 2.4, contracts 7. */
import type { Action, Sensitivity } from '../core/call.ts';
import type { PublicReason } from '../core/errors.ts';
import type { PrincipalType } from '../core/principal.ts';
import { EVERY_TENANT } from './api-keys.ts';
import type { Database } from './database.ts';
import type { ApprovalRow } from './tables.ts';

/** `expired`: nobody decided in time, or the approved call was not made in time. */
export type ApprovalState = 'pending' | 'approved' | 'rejected' | 'expired' | 'used';

/** Who asked, as it was then. */
export interface ApprovalRequester {
  readonly id: string;
  readonly type: PrincipalType;
  readonly username: string | null;
  readonly email: string | null;
  readonly roles: readonly string[];
  readonly key_id: string | null;
  /** Ids of those who act for the requester, outermost first. */
  readonly actors: readonly string[];
  /** User names and addresses of those who act, as far as they are known: none of them may decide either. */
  readonly actor_names?: readonly string[];
}

/** The one call that is asked for. A call that differs in any of these is another call. */
export interface ApprovalCall {
  readonly action: Action;
  readonly server: string | null;
  readonly tool: string | null;
  /** Type and id of what the action is done to. */
  readonly resource: string;
  /** `sha256:<hex>` over the canonical form of the real arguments. */
  readonly arguments_digest: string;
  /** Digest of the tool's definition, or null when it was not known. */
  readonly schema_hash: string | null;
  /** Digest of where a tool's server is; absent in those of a release before, and where `schema_hash` is of that. */
  readonly target?: string;
  readonly tool_type: string;
  readonly sensitivity_level: Sensitivity;
  /** Revision of the policy that asked for the approval. */
  readonly policy_revision: string;
}

/** What an approver is shown besides. */
export interface ApprovalContext {
  /** Arguments without secrets. */
  readonly parameters: unknown;
  readonly classification_reasons: readonly string[];
  readonly resources: readonly string[];
  readonly reasons: readonly PublicReason[];
  readonly request_id: string;
  readonly source_ip: string;
}

export interface Approver {
  readonly id: string;
  readonly type: PrincipalType;
  readonly username: string | null;
  readonly key_id: string | null;
  /** Who vouched for them; absent in records of earlier versions. */
  readonly provider?: string;
}

/** One request for approval. Times are epoch milliseconds. */
export interface ApprovalRecord {
  readonly id: string;
  readonly tenant_id: string;
  readonly state: ApprovalState;
  /** Digest of requester and call while this is the current answer to that question; null afterwards. */
  readonly open_key: string | null;
  readonly requester: ApprovalRequester;
  readonly call: ApprovalCall;
  readonly context: ApprovalContext;
  readonly created_at: number;
  readonly expires_at: number;
  readonly decided_at: number | null;
  readonly decided_by: Approver | null;
  readonly decision_reason: string | null;
  /** Id of the one token; made when it is approved. */
  readonly token_id: string | null;
  readonly used_at: number | null;
}

export interface ApprovalVerdict {
  readonly state: 'approved' | 'rejected';
  readonly at: number;
  readonly by: Approver;
  readonly reason: string | null;
  readonly token_id: string | null;
}

export interface ApprovalPage {
  readonly state?: ApprovalState;
  readonly requester_id?: string;
  /** 1 to 1000, default 100. */
  readonly limit?: number;
  /** Id of the last one of the page before. */
  readonly before?: string;
}

/** Every call names the tenant. A technical failure throws. */
export interface ApprovalStore {
  find(tenant: string, id: string): Promise<ApprovalRecord | null>;
  /** The current request for this call, whatever came of it. */
  findOpen(tenant: string, openKey: string): Promise<ApprovalRecord | null>;
  /** `exists`: another one asked for the same meanwhile. `too-many`: the requester waits for `maxPending` already. */
  insert(record: ApprovalRecord, maxPending: number): Promise<'inserted' | 'exists' | 'too-many'>;
  /** Newest first. */
  list(tenant: string, page?: ApprovalPage): Promise<ApprovalRecord[]>;
  /** False when it is not pending any more. One of several deciding at once wins, over all processes. */
  decide(tenant: string, id: string, verdict: ApprovalVerdict): Promise<boolean>;
  /** Burns the token: true for exactly one caller over all processes, and only while it is approved and in time. */
  use(tenant: string, id: string, tokenId: string, at: number): Promise<boolean>;
  /** Ends what is over: gives those that ended by this very call. With an id only that one. */
  expire(tenant: string | typeof EVERY_TENANT, at: number, id?: string): Promise<ApprovalRecord[]>;
  countPending(tenant: string | typeof EVERY_TENANT, at: number): Promise<number>;
  /** Removes closed ones that ended before this time. */
  purge(tenant: string | typeof EVERY_TENANT, before: number): Promise<number>;
}

interface Facts {
  readonly requester: ApprovalRequester;
  readonly call: ApprovalCall;
  readonly context: ApprovalContext;
}

function toRow({ requester, call, context, decided_by, ...rest }: ApprovalRecord): ApprovalRow {
  const facts: Facts = { requester, call, context };
  return {
    ...rest,
    requester_id: requester.id,
    facts: JSON.stringify(facts),
    decided_by: decided_by === null ? null : JSON.stringify(decided_by),
  };
}

function fromRow({ facts, decided_by, requester_id: _, state, ...rest }: ApprovalRow): ApprovalRecord {
  return {
    ...rest,
    ...(JSON.parse(facts) as Facts),
    state: state as ApprovalState,
    decided_by: decided_by === null ? null : (JSON.parse(decided_by) as Approver),
  };
}

/** Requests that end in one sweep. */
const SWEEP = 500;

/** Approvals in the SQL database. */
export function createApprovalStore(database: Database): ApprovalStore {
  const { queries } = database;
  return {
    find: (tenant, id) => findBy(database, tenant, 'id', id),
    findOpen: (tenant, openKey) => findBy(database, tenant, 'open_key', openKey),
    insert: (record, maxPending) => insert(database, record, maxPending),
    async list(tenant, page = {}) {
      let query = queries
        .selectFrom('approvals')
        .selectAll()
        .where('tenant_id', '=', tenant)
        .orderBy('id', 'desc')
        .limit(Math.min(Math.max(Math.trunc(page.limit ?? 100), 1), 1000));
      if (page.state !== undefined) query = query.where('state', '=', page.state);
      if (page.requester_id !== undefined) query = query.where('requester_id', '=', page.requester_id);
      if (page.before !== undefined) query = query.where('id', '<', page.before);
      return (await query.execute()).map(fromRow);
    },
    async decide(tenant, id, { state, at, by, reason, token_id }) {
      const result = await queries
        .updateTable('approvals')
        .set({ state, decided_at: at, decided_by: JSON.stringify(by), decision_reason: reason, token_id })
        .where('tenant_id', '=', tenant)
        .where('id', '=', id)
        .where('state', '=', 'pending')
        .where('expires_at', '>', at)
        .executeTakeFirst();
      return result.numUpdatedRows === 1n;
    },
    async use(tenant, id, tokenId, at) {
      const result = await queries
        .updateTable('approvals')
        .set({ state: 'used', used_at: at, open_key: null })
        .where('tenant_id', '=', tenant)
        .where('id', '=', id)
        .where('token_id', '=', tokenId)
        .where('state', '=', 'approved')
        .where('expires_at', '>', at)
        .executeTakeFirst();
      return result.numUpdatedRows === 1n;
    },
    expire: (tenant, at, id) => expire(database, tenant, at, id),
    countPending: (tenant, at) => countPending(database, tenant, at),
    purge: (tenant, before) => purge(database, tenant, before),
  };
}

async function findBy({ queries }: Database, tenant: string, column: 'id' | 'open_key', value: string) {
  const row = await queries
    .selectFrom('approvals')
    .selectAll()
    .where('tenant_id', '=', tenant)
    .where(column, '=', value)
    .executeTakeFirst();
  return row === undefined ? null : fromRow(row);
}

async function insert(database: Database, record: ApprovalRecord, maxPending: number) {
  const { tenant_id, requester } = record;
  return database.queries.transaction().execute(async (transaction) => {
    // Two that count at once would both find room.
    await database.inTurn(transaction, JSON.stringify(['approvals', tenant_id, requester.id]));
    const { waiting } = await transaction
      .selectFrom('approvals')
      .select((e) => e.fn.countAll<number | bigint | string>().as('waiting'))
      .where('tenant_id', '=', tenant_id)
      .where('requester_id', '=', requester.id)
      .where('state', '=', 'pending')
      .where('expires_at', '>', record.created_at)
      .executeTakeFirstOrThrow();
    if (Number(waiting) >= maxPending) return 'too-many';
    const result = await transaction
      .insertInto('approvals')
      .values(toRow(record))
      .onConflict((conflict) => conflict.column('open_key').doNothing())
      .executeTakeFirst();
    return result.numInsertedOrUpdatedRows === 1n ? 'inserted' : 'exists';
  });
}

/** One statement, however many are due: of several processes that sweep at once one ends each, and reports it. */
async function expire(
  { queries }: Database,
  tenant: string | typeof EVERY_TENANT,
  at: number,
  id?: string,
): Promise<ApprovalRecord[]> {
  let due = queries
    .selectFrom('approvals')
    .select('id')
    .where('expires_at', '<=', at)
    .where('open_key', 'is not', null);
  if (tenant !== EVERY_TENANT) due = due.where('tenant_id', '=', tenant);
  if (id !== undefined) due = due.where('id', '=', id);
  const ended = await queries
    .updateTable('approvals')
    // What was rejected stays so; it only no longer answers for the next call of that kind.
    .set(({ case: when }) => ({
      state: when().when('state', '=', 'rejected').then('rejected').else('expired').end(),
      open_key: null,
    }))
    .where('id', 'in', due.limit(SWEEP))
    .where('open_key', 'is not', null)
    .returningAll()
    .execute();
  return ended.filter(({ state }) => state === 'expired').map(fromRow);
}

async function countPending({ queries }: Database, tenant: string | typeof EVERY_TENANT, at: number): Promise<number> {
  let query = queries
    .selectFrom('approvals')
    .select((e) => e.fn.countAll<number | bigint | string>().as('waiting'))
    .where('state', '=', 'pending')
    .where('expires_at', '>', at);
  if (tenant !== EVERY_TENANT) query = query.where('tenant_id', '=', tenant);
  return Number((await query.executeTakeFirstOrThrow()).waiting);
}

async function purge({ queries }: Database, tenant: string | typeof EVERY_TENANT, before: number): Promise<number> {
  let query = queries.deleteFrom('approvals').where('open_key', 'is', null).where('expires_at', '<', before);
  if (tenant !== EVERY_TENANT) query = query.where('tenant_id', '=', tenant);
  return Number((await query.executeTakeFirst()).numDeletedRows);
}

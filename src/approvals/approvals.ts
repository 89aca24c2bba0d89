/**
 * A person says yes to exactly one call. The pipeline asks here for an approval, has a presented token verified before
 * the decision, and burns it after the decision and before anything is forwarded. Source: design 2.4, contracts 7.
 */
import { randomBytes } from 'node:crypto';
import type { Call } from '../core/call.ts';
import type { Clock } from '../core/clock.ts';
import type { ApprovalFacts, Decision } from '../core/decision.ts';
import type { ErrorCode, ErrorExtras } from '../core/errors.ts';
import { GatewayError } from '../core/errors.ts';
import type { Classified, Permitted } from '../core/exchange.ts';
import { makeId } from '../core/ids.ts';
import type { Logger } from '../core/module.ts';
import type { Principal } from '../core/principal.ts';
import { scrubText } from '../core/redaction.ts';
import type { Route } from '../core/route.ts';
import type { ApprovalGate } from '../pipeline/stages/approve.ts';
import type { EVERY_TENANT } from '../stores/api-keys.ts';
import type { ApprovalCall, ApprovalPage, ApprovalRecord, ApprovalStore, Approver } from '../stores/approvals.ts';
import { answerOf, reasonsOf } from './answers.ts';
import type { ApprovalEvent, Origin } from './approval.ts';
import { argumentsOf, digestOf } from './digest.ts';
import { closed, decided, invalid, unaskable } from './refusals.ts';
import { actorsOf, callOf, isSamePerson, mismatch, requesterOf, requireFit } from './rules.ts';
import type { ApprovalTokens, TokenClaims } from './token.ts';

export interface ApprovalsOptions {
  readonly store: ApprovalStore;
  readonly tokens: ApprovalTokens;
  readonly clock: Clock;
  readonly logger: Logger;
  /** How long a request stays open and its token good; a policy may shorten it. */
  readonly ttlMs: number;
  /** An approver must have proved a second factor. */
  readonly requireMfa: boolean;
  /** Also services, and keys that were made with a second factor, may decide. */
  readonly allowPrograms: boolean;
  /** Open requests of one caller. */
  readonly maxPending: number;
  readonly retentionMs: number;
  /** Tools that their server does not list may be approved: the yes is bound to the server then. */
  readonly allowUnlisted: boolean;
  /** What a call is bound to that no server defines. */
  definitionOf(call: Call, route: Route): string;
  /** The symbol of the stores: the sweep goes over all tenants. */
  readonly everyTenant: typeof EVERY_TENANT;
  /** Base of the links, or null for relative ones. */
  readonly publicUrl: string | null;
  /** Other ids of the same person: an account here and who it is at other providers. */
  aliases(id: string): Promise<readonly string[]>;
  /** Rejects with a GatewayError where the database says by now that this credential is good for nothing. */
  requireStanding(principal: Principal): Promise<void>;
  /** Whether who approved is switched off, or has no account any more. */
  isOff(record: ApprovalRecord, approver: Approver): Promise<boolean>;
  /** Takes secrets out of what approvers see. */
  redact(value: unknown, server: string | null, tool: string | null): unknown;
  /** Told of every step once, in the process where it happened. Must not throw. */
  onEvent(event: ApprovalEvent): void;
}

const WHOLE = 'it has no caller or cannot be shown whole';
const UNLISTED = 'its server does not list such a tool, so nobody could tell what is approved';
const UNTOLD = 'its server does not say now how it defines the tool: try again';
const MAX_REASON = 2000;

export class Approvals implements ApprovalGate {
  readonly #options: ApprovalsOptions;
  /** What the facts of a verified approval stand for, until it is used. */
  readonly #verified = new WeakMap<ApprovalFacts, ApprovalRecord>();

  constructor(options: ApprovalsOptions) {
    this.#options = options;
  }

  // --- for the pipeline ---

  isOwn(principal: Principal, token: string): boolean {
    const claims = this.#options.tokens.read(token);
    return claims !== null && isFor(claims, principal);
  }

  async verify(
    classified: Classified,
    token: string,
    revision: string | null,
    isDescribed: boolean,
  ): Promise<ApprovalFacts> {
    const { principal } = classified;
    const claims = this.#options.tokens.read(token);
    if (claims === null) throw invalid('not_ours', 'The approval token is not valid');
    if (!isFor(claims, principal)) throw invalid('other_principal', 'The approval was given to another caller');
    const record = await this.find(principal.tenant_id, claims.approval_id);
    if (record === null) throw invalid('unknown', 'The approval is not known');
    const asked = argumentsOf(classified);
    const call = asked === null ? null : this.#callOf(classified, asked.digest, revision ?? '', isDescribed);
    const wrong =
      call === null
        ? { why: 'other_call', message: 'The approval is for one call, and this is not one that can be approved' }
        : mismatch(record, principal, call);
    if (wrong !== null) throw invalid(wrong.why, wrong.message, record.id);
    if (record.token_id !== claims.jti) throw invalid('replaced', 'The approval token is not valid', record.id);
    if (record.state !== 'approved') throw closed(record);
    if (await this.#stored(() => this.#isWithdrawn(record)))
      throw invalid('approver_off', 'Who approved the call may decide nothing any more', record.id);
    const facts: ApprovalFacts = {
      present: true,
      verified: true,
      id: record.id,
      approver_id: record.decided_by?.id ?? null,
      expires_at: record.expires_at,
      reason: record.decision_reason,
    };
    this.#verified.set(facts, record);
    return facts;
  }

  async use({ facts, decisions, principal, received }: Permitted): Promise<void> {
    const { store, clock } = this.#options;
    const record = this.#verified.get(facts.approval);
    if (record === undefined || record.token_id === null) throw invalid('not_ours', 'The approval token is not valid');
    if (decisions.some(({ revision }) => revision !== record.call.policy_revision)) {
      throw invalid('changed_policy', 'The policy was changed after the approval', record.id);
    }
    const { tenant_id, id, token_id } = record;
    const at = clock.now();
    const isBurnt = await this.#stored(() => store.use(tenant_id, id, token_id, at));
    if (!isBurnt) throw closed((await this.find(tenant_id, id)) ?? { ...record, state: 'used' });
    this.#report('used', { ...record, state: 'used', used_at: at, open_key: null }, principal, originOf(received));
  }

  async request(
    classified: Classified,
    decision: Decision,
    isDescribed: boolean,
  ): Promise<{ readonly code: ErrorCode; readonly extras: ErrorExtras }> {
    const record = await this.#open(classified, decision, isDescribed);
    return answerOf(record, decision, { publicUrl: this.#options.publicUrl, request_id: classified.received.id });
  }

  async #open(classified: Classified, decision: Decision, isDescribed: boolean): Promise<ApprovalRecord> {
    const { store, maxPending } = this.#options;
    const draft = this.#draft(classified, decision, isDescribed);
    const { tenant_id } = draft;
    return this.#stored(async () => {
      const known = await this.#current(tenant_id, draft.open_key);
      if (known !== null) return known;
      const outcome = await store.insert(draft, maxPending);
      if (outcome === 'too-many') {
        const message = `At most ${maxPending} approvals may be waited for`;
        throw new GatewayError('RATE_LIMIT_EXCEEDED', { message, details: { limit: maxPending }, retryAfter: 60 });
      }
      if (outcome === 'exists') {
        const other = await this.#current(tenant_id, draft.open_key);
        if (other === null) throw new Error('an approval was asked for and was over at once');
        return other;
      }
      this.#report('requested', draft, classified.principal, originOf(classified.received));
      return draft;
    });
  }

  /** The answer that stands for this call, if it still does. */
  async #current(tenant: string, openKey: string): Promise<ApprovalRecord | null> {
    const { store, clock } = this.#options;
    const known = await store.findOpen(tenant, openKey);
    if (known === null) return null;
    const isWithdrawn = await this.#isWithdrawn(known);
    if (known.expires_at > clock.now() && !isWithdrawn) return known;
    await this.#expire(tenant, known.id, isWithdrawn ? known.expires_at : undefined);
    return null;
  }

  #callOf(classified: Classified, digest: string, revision: string, isDescribed: boolean): ApprovalCall | null {
    const { definitionOf, allowUnlisted } = this.#options;
    const [call] = classified.calls;
    if (call === undefined) return null;
    const definition = definitionOf(call, classified.route);
    return callOf(classified, { digest, revision, definition, isDescribed, allowUnlisted });
  }

  #draft(
    classified: Classified,
    decision: Decision,
    isDescribed: boolean,
  ): ApprovalRecord & { readonly open_key: string } {
    const { principal, received, calls } = classified;
    const asked = argumentsOf(classified);
    const call = asked === null ? null : this.#callOf(classified, asked.digest, decision.revision, isDescribed);
    const [first] = calls;
    if (asked === null || call === null || first === undefined || principal.type === 'anonymous')
      throw unaskable(WHOLE);
    if (call.schema_hash === null) throw unaskable(isDescribed ? UNLISTED : UNTOLD);
    const now = this.#options.clock.now();
    const requester = requesterOf(principal);
    const { tenant_id } = principal;
    const who = [tenant_id, requester.id, requester.type, requester.actors];
    return {
      id: makeId('apr_', now),
      tenant_id,
      state: 'pending',
      open_key: digestOf([...who, { ...call }]),
      requester,
      call,
      context: {
        parameters: this.#options.redact(asked.shown, call.server, call.tool),
        classification_reasons: first.classification.reasons,
        resources: first.classification.resources,
        reasons: reasonsOf(decision),
        request_id: received.id,
        source_ip: received.peer.address,
      },
      created_at: now,
      expires_at: now + this.#ttlOf(decision),
      decided_at: null,
      decided_by: null,
      decision_reason: null,
      token_id: null,
      used_at: null,
    };
  }

  #ttlOf({ obligations }: Decision): number {
    let ttl = this.#options.ttlMs;
    for (const obligation of obligations) {
      if (obligation.type !== 'require_approval' || obligation.ttl_seconds === undefined) continue;
      ttl = Math.min(ttl, Math.max(1, obligation.ttl_seconds) * 1000);
    }
    return ttl;
  }

  // --- for people ---

  /** Null when the tenant has none of this id. What is over by now is told as expired. */
  find(tenant: string, id: string): Promise<ApprovalRecord | null> {
    const { store, clock } = this.#options;
    return this.#stored(async () => {
      const record = await store.find(tenant, id);
      if (record === null || !isOver(record, clock.now())) return record;
      await this.#expire(tenant, id);
      return store.find(tenant, id);
    });
  }

  /** Newest first. */
  list(tenant: string, page: ApprovalPage): Promise<ApprovalRecord[]> {
    return this.#stored(async () => {
      await this.#expire(tenant);
      return this.#options.store.list(tenant, page);
    });
  }

  /** The token of an approved request, for its requester alone; null for everybody else and in every other state. */
  tokenFor(record: ApprovalRecord, principal: Principal): string | null {
    return isRequester(record, principal) ? this.#options.tokens.issue(record) : null;
  }

  /**
   * Approves or rejects. The caller has checked the permission.
   * @throws GatewayError NOT_FOUND, FORBIDDEN, MFA_REQUIRED, UNPROCESSABLE, CONFLICT when it was decided before
   */
  async decide(
    principal: Principal,
    id: string,
    verdict: { readonly action: 'approve' | 'reject'; readonly reason: string | null },
    origin: Origin,
  ): Promise<ApprovalRecord> {
    const { store, clock } = this.#options;
    const { tenant_id } = principal;
    const record = await this.find(tenant_id, id);
    if (record === null) throw new GatewayError('NOT_FOUND');
    await this.#requireApprover(record, principal);
    const reason = verdict.reason === null ? null : scrubText(verdict.reason.trim().slice(0, MAX_REASON));
    if (verdict.action === 'reject' && (reason === null || reason === '')) {
      throw new GatewayError('UNPROCESSABLE', {
        message: 'reason: a rejection needs one',
        details: { field: 'reason' },
      });
    }
    if (record.state !== 'pending') throw decided(record);
    const state = verdict.action === 'approve' ? 'approved' : 'rejected';
    const at = clock.now();
    const { id: approver, type, username, auth } = principal;
    const by = { id: approver, type, username, key_id: auth.key_id, provider: auth.provider };
    const token_id = state === 'approved' ? randomBytes(16).toString('base64url') : null;
    const isMine = await this.#stored(() => store.decide(tenant_id, id, { state, at, by, reason, token_id }));
    if (!isMine) throw decided((await this.find(tenant_id, id)) ?? record);
    const after: ApprovalRecord = {
      ...record,
      state,
      decided_at: at,
      decided_by: by,
      decision_reason: reason,
      token_id,
    };
    this.#report(state, after, principal, origin);
    return after;
  }

  /** What is remembered of the approver is asked for again: an account may have been taken away a moment ago. */
  async #requireApprover({ requester }: ApprovalRecord, principal: Principal): Promise<void> {
    const { aliases, requireStanding } = this.#options;
    const known = await this.#stored(() => aliases(principal.id));
    if (isSamePerson(requester, principal, known)) {
      throw new GatewayError('FORBIDDEN', { message: 'Another person than the requester has to decide' });
    }
    requireFit(principal, this.#options);
    await this.#stored(() => requireStanding(principal));
  }

  /** Whether the yes of somebody who may do nothing any more was given; it is worth nothing then. */
  async #isWithdrawn(record: ApprovalRecord): Promise<boolean> {
    return record.state === 'approved' && record.decided_by !== null && this.#options.isOff(record, record.decided_by);
  }

  // --- time ---

  /** Rejects what nobody decided in time, and forgets what is long over. Never rejects. */
  async sweep(): Promise<void> {
    const { store, clock, retentionMs, logger } = this.#options;
    try {
      await this.#expire(this.#options.everyTenant);
      await store.purge(this.#options.everyTenant, clock.now() - retentionMs);
    } catch (error) {
      logger.error({ err: error }, 'approvals_sweep_failed');
    }
  }

  async #expire(tenant: string | typeof EVERY_TENANT, id?: string, by?: number): Promise<void> {
    const { store, clock } = this.#options;
    const at = Math.max(clock.now(), by ?? 0);
    for (const record of await store.expire(tenant, at, id)) this.#report('expired', record, null, null);
  }

  #report(type: ApprovalEvent['type'], approval: ApprovalRecord, principal: Principal | null, origin: Origin | null) {
    this.#options.onEvent({ type, approval, at: this.#options.clock.now(), principal, origin });
  }

  /** What cannot be looked up or written is not permitted. */
  async #stored<T>(work: () => Promise<T>): Promise<T> {
    try {
      return await work();
    } catch (cause) {
      if (cause instanceof GatewayError) throw cause;
      throw new GatewayError('STORE_UNAVAILABLE', { retryAfter: 1, cause });
    }
  }
}

function isFor({ sub, tenant }: TokenClaims, { id, tenant_id, type }: Principal): boolean {
  return sub === id && tenant === tenant_id && type !== 'anonymous';
}

function isOver(record: ApprovalRecord, now: number): boolean {
  return (record.state === 'pending' || record.state === 'approved') && record.expires_at <= now;
}

/** The same caller in the same way: neither another key type nor somebody acting for it. */
export function isRequester({ tenant_id, requester }: ApprovalRecord, principal: Principal): boolean {
  return (
    tenant_id === principal.tenant_id &&
    requester.id === principal.id &&
    requester.type === principal.type &&
    JSON.stringify(requester.actors) === JSON.stringify(actorsOf(principal))
  );
}

function originOf(received: Classified['received']): Origin {
  const user_agent = received.headers['user-agent'] ?? null;
  return { request_id: received.id, source_ip: received.peer.address, user_agent };
}

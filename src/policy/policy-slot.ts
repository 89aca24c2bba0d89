/**
 * The place of the policy in force: what comes in, what it replaces, and how to take it back. One thing happens at a
 * time; whatever fails leaves what was there. Source: policy-engine 5 and 7.
 */
import { createHash } from 'node:crypto';
import type { Clock } from '../core/clock.ts';
import type { Logger } from '../core/module.ts';
import { type ActivationOptions, type ActivePolicy, activateBundle, tryOut } from './activation.ts';
import { claimsOnNothing, claimsText, nothingText, settleClaims } from './bindings.ts';
import { checkDeltaRoots, type Delta } from './bundle-contents.ts';
import { canonicalJson } from './canonical-json.ts';
import { dataOperations, type PatchOperation, PatchRefused } from './data-document.ts';
import { requireDataShape } from './data-shape.ts';
import { KeyMaker } from './decision-key.ts';
import type { PolicyStatus } from './engine.ts';
import { LogRules } from './log-rules.ts';
import type { Delivered, LoadReason, News, PolicySource, SourceStatus } from './sources.ts';
import { PolicyLoadError } from './wasm/program.ts';

export interface PolicySlotOptions {
  readonly source: PolicySource;
  readonly activation: ActivationOptions;
  readonly clock: Clock;
  readonly logger: Logger;
  /** Called in the instant in which another policy is in force. */
  onSwap(): void;
  /** Hears of every activation that was tried by the source itself. */
  onDelivery?: ((ok: boolean) => void) | undefined;
}

/** What was in force before, and (where only data changed) how to get there. */
interface Before {
  readonly policy: ActivePolicy;
  readonly undo: readonly PatchOperation[] | null;
}

export class PolicySlot {
  readonly #options: PolicySlotOptions;
  #active: ActivePolicy | null = null;
  #previous: Before | null = null;
  #activatedAt: number | null = null;
  #lastError: string | null = null;
  /** Content that was taken back and must not return by itself. */
  #pinned: string | null;
  /** What is in force came back by a rollback, and nothing has come since. */
  #isRolledBack = false;
  #turn: Promise<unknown> = Promise.resolve();

  constructor(options: PolicySlotOptions) {
    this.#options = options;
    this.#pinned = options.source.pinned;
  }

  get active(): ActivePolicy | null {
    return this.#active;
  }
  get lastError(): string | null {
    return this.#lastError;
  }

  status(maxAgeMs: number | null): PolicyStatus {
    const active = this.#active;
    const source = this.#options.source.status();
    return {
      revision: active?.revision ?? null,
      bundle_revision: active?.bundle.label ?? null,
      activated_at: this.#activatedAt,
      last_error: this.#lastError,
      entrypoints: active === null ? [] : [...active.host.entrypoints.keys()].sort(),
      routes: active?.bindings ?? [],
      unknown_routes: claimsOnNothing(this.#options.activation.routes ?? [], active?.bundle.claims ?? []),
      previous_revision: this.#previous?.policy.revision ?? null,
      pinned: this.#pinned !== null,
      stale: maxAgeMs !== null && this.#isOlder(source, maxAgeMs),
      source,
    };
  }

  /** Nothing was heard of the service for that long; a directory is what it is. */
  #isOlder({ kind, last_successful_request: last }: SourceStatus, maxAgeMs: number): boolean {
    return kind === 'service' && (last === null || this.#options.clock.now() - last > maxAgeMs);
  }

  /** Loads what the source has now. What a person asks for (`reload`) ends a pin. Never rejects. */
  load(why: LoadReason): Promise<void> {
    return this.#inTurn(async () => {
      if (why === 'reload') await this.#unpin();
      try {
        const bundle = await this.#options.source.load(why);
        if (this.#isPinned(bundle)) return await this.#kept(bundle.revision);
        const next = await activateBundle(bundle, this.#options.activation);
        // It may have been taken back while it was made ready.
        if (this.#isPinned(bundle)) return await this.#kept(bundle.revision);
        if (next.revision === this.#active?.revision) this.#renew(next);
        else this.#swap(next, null);
        // What was taken back before a restart stays out after it.
        if (why !== 'start') await this.#unpin();
        await this.#settled(null);
      } catch (fault) {
        await this.#settled(fault);
      }
    });
  }

  /** Takes what a source has found by itself. Never rejects. */
  deliver(news: News): Promise<Delivered> {
    return this.#inTurn(async () => {
      try {
        if (news.kind === 'refused') throw new PolicyLoadError(news.reason);
        const done =
          news.kind === 'delta' ? await this.#change(news.delta, news.base) : await this.#replace(news.bundle);
        this.#options.onDelivery?.(true);
        return done;
      } catch (fault) {
        this.#fail(fault);
        this.#options.onDelivery?.(false);
        return { ok: false, reason: this.#lastError ?? '' };
      }
    });
  }

  async #replace(bundle: ActivePolicy['bundle']): Promise<Delivered> {
    if (this.#isPinned(bundle)) return this.#stayed(bundle.revision);
    const active = this.#active;
    if (bundle.revision !== active?.revision) {
      const next = await activateBundle(bundle, this.#options.activation);
      // It may have been taken back while it was made ready.
      if (this.#isPinned(bundle)) return this.#stayed(bundle.revision);
      this.#swap(next, null);
    } else {
      // The same content under another name: nothing to make ready.
      const { label, roots, modules, plan, sources, sequence = null } = bundle;
      this.#active = { ...active, bundle: { ...active.bundle, label, roots, modules, plan, sources, sequence } };
    }
    await this.#unpin();
    this.#succeed();
    return { ok: true, revision: bundle.revision, taken: true };
  }

  async #change(delta: Delta, base: string): Promise<Delivered> {
    const active = this.#active;
    if (active === null || active.revision !== base) throw new PolicyLoadError('the delta is for another snapshot');
    checkDelta(delta, active);
    // From the change to the swap without a pause: no decision is made by new data under the old revision.
    const undo = patch(active, delta.operations);
    const next = changed(active, delta);
    // After a restart a service may send the changes again that were taken back.
    if (this.#pinned !== null && this.#pinned === contentOf(next.bundle, next.document.text())) {
      patch(active, undo);
      return this.#stayed(next.revision);
    }
    try {
      requireDataShape(next.document.root, next.host.entrypoints, delta.operations);
      tryOut(next, this.#options.activation);
    } catch (fault) {
      patch(active, undo);
      throw fault;
    }
    this.#swap(next, undo);
    this.#succeed();
    if (next.logRules !== null) await this.#renewLogRules(next);
    return { ok: true, revision: next.revision, taken: true };
  }

  /** Rules for records have a module of their own, which takes its data whole. */
  async #renewLogRules({ revision, host, bundle, document }: ActivePolicy): Promise<void> {
    const logRules = await LogRules.load(host.entrypoints, bundle.wasm, document.text());
    // A rollback may have come meanwhile, whose rules are those of its data.
    if (this.#active !== null && this.#active.revision === revision) this.#active = { ...this.#active, logRules };
  }

  /** One reference changes between two requests; nothing decided by the old one is used again. */
  #swap(next: ActivePolicy, undo: readonly PatchOperation[] | null): void {
    this.#previous = this.#active === null ? null : { policy: this.#active, undo };
    this.#isRolledBack = false;
    this.#renew(next);
  }

  /** The same content, made ready anew: a rollback still goes back to what was in force before it, or nowhere. */
  #renew(next: ActivePolicy): void {
    const told = this.#active?.bundle.claims;
    this.#active = next;
    this.#activatedAt = this.#options.clock.now();
    this.#options.onSwap();
    // Changes of data come often, and change nothing of this.
    if (next.bundle.claims !== told) this.#tellOfNothing(next);
  }

  /** What is bound to a route that is not there decides nowhere: a name was mistyped, or the route is yet to come. */
  #tellOfNothing({ bundle, revision }: ActivePolicy): void {
    if (bundle.claims.length === 0) return;
    for (const claim of claimsOnNothing(this.#options.activation.routes ?? [], bundle.claims)) {
      this.#options.logger.warn({ revision, ...claim }, nothingText(claim));
    }
  }

  /**
   * Back to what was in force before, at once; false when there is none. What is taken back does not return by itself:
   * only another content does, or a reload that a person asks for. It goes one step: a second one would bring back what
   * was just taken back, which two people in one incident must not do to each other.
   */
  rollback(): boolean {
    const { source, logger } = this.#options;
    if (this.#previous === null || this.#active === null || this.#isRolledBack) return false;
    const from = this.#active;
    const { policy, undo } = this.#previous;
    this.#pinned = contentOf(from.bundle, from.document.text());
    const redo = undo === null ? null : patch(from, undo);
    this.#swap(policy, redo);
    this.#isRolledBack = true;
    this.#lastError = null;
    logger.warn({ revision: policy.revision, from: from.revision }, 'policy rolled back');
    void source
      .pin(this.#pinned, policy.bundle)
      .catch((error: unknown) => logger.error({ err: error }, 'policy_pin_not_kept'));
    return true;
  }

  #isPinned(bundle: ActivePolicy['bundle']): boolean {
    // Without a policy there is nothing else to decide by.
    return this.#pinned !== null && this.#active !== null && this.#pinned === contentOf(bundle, bundle.dataText);
  }

  async #stayed(revision: string): Promise<Delivered> {
    await this.#kept(revision);
    return { ok: true, revision: this.#active?.revision ?? '', taken: false };
  }

  async #kept(revision: string): Promise<void> {
    this.#options.logger.info(
      { revision: this.#active?.revision, kept_out: revision },
      'policy was rolled back; it stays out',
    );
  }

  async #unpin(): Promise<void> {
    if (this.#pinned === null) return;
    this.#pinned = null;
    await this.#options.source.pin(null, null);
  }

  async #settled(fault: unknown): Promise<void> {
    if (fault === null) this.#succeed();
    else this.#fail(fault);
    await this.#options.source.settled(this.#active?.revision ?? null, this.#lastError);
  }

  #succeed(): void {
    this.#lastError = null;
    this.#options.logger.info({ revision: this.#active?.revision }, 'policy activated');
  }

  #fail(fault: unknown): void {
    const reason = fault instanceof PolicyLoadError ? fault.message : `unexpected fault: ${String(fault)}`;
    this.#lastError = reason;
    const message =
      this.#active === null
        ? 'policy not activated; there is none, so every request is denied'
        : 'policy not activated; the one before stays';
    this.#options.logger.error({ reason, revision: this.#active?.revision ?? null }, message);
  }

  #inTurn<T>(act: () => Promise<T>): Promise<T> {
    const mine = this.#turn.then(act);
    this.#turn = mine.catch(() => undefined);
    return mine;
  }

  /** Resolves when nothing is under way. */
  async idle(): Promise<void> {
    await this.#turn;
  }
}

function checkDelta({ operations, roots, modules, claims, base }: Delta, { revision, bundle }: ActivePolicy): void {
  if (base !== null && base !== revision && base !== bundle.label) {
    throw new PolicyLoadError(
      `the delta is for another base (${base.slice(0, 100)}) than what is in force (${bundle.label ?? revision})`,
    );
  }
  if (roots !== null && JSON.stringify([...roots].sort()) !== JSON.stringify([...bundle.roots].sort())) {
    throw new PolicyLoadError('the delta has other roots than its snapshot');
  }
  // A delta that says nothing of modules changes none.
  if (modules !== null && modules !== '[]' && modules !== bundle.modules) {
    throw new PolicyLoadError('the delta has other modules than its snapshot');
  }
  if (claims.length > 0 && claimsText(settleClaims(claims)) !== claimsText(bundle.claims)) {
    throw new PolicyLoadError('the delta binds other routes than its snapshot');
  }
  checkDeltaRoots(operations, bundle.roots);
}

/** Changes document and module alike; gives what takes it back. Throws PolicyLoadError: then nothing has changed. */
function patch({ document, host }: ActivePolicy, operations: readonly PatchOperation[]): readonly PatchOperation[] {
  const told = dataOperations(operations);
  let undo: readonly PatchOperation[];
  try {
    undo = document.apply(operations);
  } catch (cause) {
    if (!(cause instanceof PatchRefused)) throw cause;
    throw new PolicyLoadError(`the delta does not fit its snapshot: ${cause.message}`, { cause });
  }
  try {
    host.patch(told);
  } catch (cause) {
    document.apply(undo);
    throw cause;
  }
  return undo;
}

/** The policy with changed data. Its revision says which changes led there. */
function changed(active: ActivePolicy, delta: Delta): ActivePolicy {
  const { bundle, document } = active;
  const digest = createHash('sha256').update(active.revision).update('\0').update(delta.digest).digest('hex');
  const touched = delta.operations.some(({ path }) => path[0] === 'config');
  return {
    ...active,
    revision: `sha256:${digest}`,
    bundle: { ...bundle, label: delta.label ?? bundle.label, sequence: delta.sequence ?? bundle.sequence ?? null },
    keys: touched ? new KeyMaker(bundle.readSet, document.root) : active.keys,
  };
}

/** The same for the same module, data and bound routes, in whatever order the members stand. */
function contentOf({ wasm, claims }: ActivePolicy['bundle'], dataText: string): string {
  const hash = createHash('sha256').update(wasm).update('\0').update(canonicalJson(dataText));
  if (claims.length > 0) hash.update('\0').update(claimsText(claims));
  return hash.digest('hex');
}

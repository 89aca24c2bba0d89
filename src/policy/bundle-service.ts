/**
 * Policies from a bundle service: asked again and again (or holding on until there is news), verified before anything
 * of them is believed, kept on disk once they are in force. Source: OPA bundle service API, policy-engine 3.
 */
import type { Logger } from '../core/module.ts';
import type { Bundle } from './bundle.ts';
import { type Contents, readContents } from './bundle-contents.ts';
import { type Download, DownloadError, download } from './bundle-download.ts';
import { BundleOrder, OlderBundleError } from './bundle-order.ts';
import type { SigningRules } from './bundle-signing.ts';
import { type BundleStore, sha256 } from './bundle-store.ts';
import {
  type Back,
  type Deliver,
  type LoadReason,
  type PolicySource,
  SourceRecord,
  type SourceStatus,
} from './sources.ts';
import { PolicyLoadError } from './wasm/program.ts';

export interface BundleServiceOptions {
  readonly url: string;
  /** Credentials, if any. */
  readonly headers: Readonly<Record<string, string>>;
  readonly ca: string | null;
  readonly signing: SigningRules | null;
  readonly minMs: number;
  readonly maxMs: number;
  /** Seconds a service that can do so may hold a request open; null: ask at intervals. */
  readonly longPollSeconds: number | null;
  /** Of the archive as it comes. */
  readonly maxBytes: number;
  /** Of all that is in it. */
  readonly maxUnpackedBytes: number;
  readonly store: BundleStore | null;
  /** Bundles that do not say their place in the order are refused. */
  readonly requireNewer?: boolean | undefined;
  readonly now: () => number;
  readonly logger: Logger;
}

const TIMEOUT_MS = 30_000;
/** A start does not wait that long where there is something to start from. */
const START_TIMEOUT_MS = 5000;
const FIRST_RETRY_MS = 100;
const NOTHING_NAMED = 'the bundle service says that nothing is new, though nothing was named';
/** A rollback goes one step back, and a second one forth again. */
const MAX_REMEMBERED = 8;

/** Opens the source: what is kept on disk is looked up, nothing is asked yet. */
export async function openBundleService(options: BundleServiceOptions): Promise<PolicySource> {
  const { store, requireNewer = false } = options;
  const order = new BundleOrder((await store?.order()) ?? null, requireNewer);
  return new BundleService(options, (await store?.pinned()) ?? null, order);
}

class BundleService implements PolicySource {
  readonly pinned: string | null;
  readonly #options: BundleServiceOptions;
  readonly #record: SourceRecord;
  readonly #order: BundleOrder;
  readonly #stop = new AbortController();
  /** Of the bundle in force; a refused one is asked for again. */
  #etag: string | null = null;
  /** The revision that ETag stands for. */
  #base: string | null = null;
  /** The service has said that it can hold on. */
  #holds: boolean;
  /** Loaded, but not yet known to be good. */
  #candidate: (Kept & { readonly revision: string }) | null = null;
  /** The archives that were in force lately, by the revision in them. */
  readonly #archives = new Map<string, { readonly digest: string; readonly sequence: number | null }>();
  #rollbacks = 0;
  #failures = 0;
  #timer: NodeJS.Timeout | null = null;
  #running: Promise<void> = Promise.resolve();

  constructor(options: BundleServiceOptions, pinned: string | null, order: BundleOrder) {
    this.#options = options;
    this.#order = order;
    this.pinned = pinned;
    this.#holds = options.longPollSeconds !== null;
    this.#record = new SourceRecord('service', options.url, options.now);
  }

  status(): SourceStatus {
    return this.#record.status;
  }

  /** Asks for the whole bundle, whatever is there already. At a start the one on disk does when nobody answers. */
  async load(why: LoadReason): Promise<Bundle> {
    // After a rollback the service may still serve what was taken back: what was in force is on disk.
    const before = why === 'start' && this.pinned !== null ? await this.#fromDisk() : null;
    if (before !== null) return before;
    try {
      const { store } = this.#options;
      const waits = why === 'start' && store !== null && (await store.load()) !== null;
      const got = await this.#ask({ etag: null, wait: null, timeoutMs: waits ? START_TIMEOUT_MS : TIMEOUT_MS });
      if (got.kind !== 'bundle') throw new PolicyLoadError(NOTHING_NAMED);
      return await this.#snapshot(got.bytes, got.etag, 'service');
    } catch (cause) {
      const reason = this.#refused(cause);
      const kept = why === 'start' ? await this.#fromDisk() : null;
      if (kept === null) throw reason;
      this.#options.logger.warn({ reason: reason.message }, 'policy_bundle_from_disk');
      return kept;
    }
  }

  async #snapshot(archive: Buffer, etag: string | null, from: 'service' | 'disk'): Promise<Bundle> {
    const contents = await this.#read(archive);
    if (contents.kind === 'delta')
      throw new PolicyLoadError('the bundle service sent a delta where the whole bundle was asked for');
    const { revision, sequence = null } = contents.bundle;
    this.#order.check(sequence, from);
    this.#candidate = { archive, etag, revision, sequence };
    return contents.bundle;
  }

  /** Verified as if it had just come: whoever can write there must not be able to decide. */
  async #fromDisk(): Promise<Bundle | null> {
    const kept = (await this.#options.store?.load()) ?? null;
    if (kept === null) return null;
    try {
      return await this.#snapshot(kept.archive, kept.etag, 'disk');
    } catch (cause) {
      this.#options.logger.error({ reason: (cause as Error).message }, 'policy_bundle_on_disk_refused');
      return null;
    }
  }

  #read(archive: Buffer): Promise<Contents> {
    const { signing, maxBytes, maxUnpackedBytes } = this.#options;
    return readContents(archive, signing, { packedBytes: maxBytes, unpackedBytes: maxUnpackedBytes });
  }

  async settled(revision: string | null, reason: string | null): Promise<void> {
    const candidate = this.#candidate;
    this.#candidate = null;
    if (reason !== null || revision === null) {
      if (this.#record.status.code === null && reason !== null) this.#record.failed(reason);
      return;
    }
    // Something else may have come, or this been taken back, meanwhile.
    if (candidate?.revision !== revision) return;
    await this.#took(candidate.sequence, true);
    await this.#inForce(revision, candidate.etag, candidate);
  }

  /** Before the archive is kept: what lies there must never look newer than what is remembered. */
  async #took(sequence: number | null, isKept: boolean): Promise<void> {
    if (this.#order.took(sequence, isKept)) await this.#saveOrder();
  }

  async #saveOrder(): Promise<void> {
    await this.#options.store?.saveOrder(this.#order.mark).catch((error: unknown) => {
      this.#options.logger.error({ err: error }, 'policy_bundle_order_not_kept');
    });
  }

  async #inForce(revision: string, etag: string | null, whole: Kept | null): Promise<void> {
    this.#etag = etag;
    this.#base = revision;
    this.#record.activated(revision);
    if (whole === null) return;
    this.#remember(revision, whole);
    const { archive } = whole;
    await this.#options.store?.save({ archive, etag }).catch((error: unknown) => {
      this.#options.logger.error({ err: error }, 'policy_bundle_not_kept');
    });
  }

  #remember(revision: string, { archive, sequence }: Kept): void {
    this.#archives.delete(revision);
    this.#archives.set(revision, { digest: sha256(archive), sequence });
    const [oldest] = this.#archives.keys();
    if (this.#archives.size > MAX_REMEMBERED && oldest !== undefined) this.#archives.delete(oldest);
  }

  async pin(content: string | null, inForce: Back | null): Promise<void> {
    const { store } = this.#options;
    if (content === null) return store?.pin(null);
    this.#rollbacks++;
    const whole = inForce === null ? undefined : this.#archives.get(inForce.revision);
    this.#order.wentBack(inForce?.sequence ?? null, whole?.sequence ?? null);
    await Promise.all([store?.takeBack(whole?.digest ?? null), store?.pin(content), this.#saveOrder()]);
  }

  follow(deliver: Deliver): void {
    this.#schedule(deliver, this.#record.status.code === null ? this.#pause() : this.#retry());
  }

  #schedule(deliver: Deliver, inMs: number): void {
    if (this.#stop.signal.aborted) return;
    this.#timer = setTimeout(() => {
      this.#running = this.#poll(deliver).then((pause) => this.#schedule(deliver, pause));
    }, inMs);
    this.#timer.unref();
  }

  /** Between two requests while all is well. */
  #pause(): number {
    const { minMs, maxMs } = this.#options;
    return minMs + Math.random() * (maxMs - minMs);
  }

  /** After failures: twice as long each time, never longer than between two polls, and not all gateways at once. */
  #retry(): number {
    this.#failures++;
    const longest = Math.min(this.#options.maxMs, FIRST_RETRY_MS * 2 ** Math.min(this.#failures - 1, 30));
    return longest * (0.5 + Math.random() / 2);
  }

  /** Milliseconds to the next poll. Never rejects. */
  async #poll(deliver: Deliver): Promise<number> {
    const started = performance.now();
    const wait = this.#holds && this.#etag !== null ? this.#options.longPollSeconds : null;
    try {
      const got = await this.#ask({ etag: this.#etag, wait, timeoutMs: TIMEOUT_MS + (wait ?? 0) * 1000 });
      this.#holds = got.longPolling && this.#options.longPollSeconds !== null;
      if (got.kind === 'unchanged' && this.#etag === null) throw new PolicyLoadError(NOTHING_NAMED);
      if (got.kind === 'unchanged') this.#record.unchanged();
      else await this.#take(got, deliver);
      this.#failures = 0;
      // A service that says it holds on and then does not is asked at intervals too.
      const held = got.kind === 'bundle' || performance.now() - started > FIRST_RETRY_MS;
      return this.#holds && held ? 0 : this.#pause();
    } catch (cause) {
      if (this.#stop.signal.aborted) return 0;
      const { message } = this.#refused(cause);
      this.#options.logger.error({ reason: message, errors: this.#record.status.errors }, 'policy_bundle_not_taken');
      return this.#retry();
    }
  }

  async #take(got: Extract<Download, { kind: 'bundle' }>, deliver: Deliver): Promise<void> {
    const contents = await this.#readNewer(got.bytes).catch(async (cause: unknown) => {
      // It may have been a delta: the next answer is to be a whole bundle.
      this.#etag = null;
      if (cause instanceof PolicyLoadError) await deliver({ kind: 'refused', reason: cause.message });
      throw cause;
    });
    this.#record.downloaded(got.bytes.length, contents.kind);
    const rollbacks = this.#rollbacks;
    const done =
      contents.kind === 'snapshot'
        ? await deliver({ kind: 'snapshot', bundle: contents.bundle })
        : await deliver({ kind: 'delta', delta: contents.delta, base: this.#base ?? '' });
    if (!done.ok) {
      // The next answer is to be a whole bundle: a delta may have been for a state that is no longer here.
      if (contents.kind === 'delta') this.#etag = null;
      throw new PolicyLoadError(done.reason);
    }
    const isTaken = done.taken && rollbacks === this.#rollbacks;
    const isKept = isTaken && contents.kind === 'snapshot';
    const sequence = sequenceIn(contents);
    if (isTaken) await this.#took(sequence, isKept);
    await this.#inForce(done.revision, got.etag, isKept ? { archive: got.bytes, etag: got.etag, sequence } : null);
    // It stays out after a rollback: changes to it must not be made to what is in force instead.
    if (!done.taken) this.#base = null;
  }

  async #readNewer(archive: Buffer): Promise<Contents> {
    const contents = await this.#read(archive);
    this.#order.check(sequenceIn(contents), 'service');
    return contents;
  }

  #refused(cause: unknown): PolicyLoadError {
    const message = cause instanceof Error ? cause.message : String(cause);
    if (cause instanceof OlderBundleError) {
      this.#options.logger.error({ reason: message, url: this.#options.url }, 'policy_bundle_older');
    }
    this.#record.failed(message, cause instanceof DownloadError ? cause.status : null);
    return cause instanceof PolicyLoadError ? cause : new PolicyLoadError(message, { cause });
  }

  async #ask(ask: { etag: string | null; wait: number | null; timeoutMs: number }): Promise<Download> {
    const { url, headers, ca, maxBytes } = this.#options;
    this.#record.requested();
    const prefer = `modes=snapshot,delta${ask.wait === null ? '' : `;wait=${ask.wait}`}`;
    const named = ask.etag === null ? {} : { 'if-none-match': ask.etag };
    const { timeoutMs } = ask;
    const sent = { ...headers, prefer, ...named };
    const got = await download({ url, headers: sent, ca, maxBytes, timeoutMs, signal: this.#stop.signal });
    this.#record.answered(got.kind === 'unchanged' ? 304 : 200);
    if (got.kind === 'bundle') this.#record.downloaded(got.bytes.length, 'snapshot');
    return got;
  }

  async close(): Promise<void> {
    this.#stop.abort();
    if (this.#timer !== null) clearTimeout(this.#timer);
    await this.#running;
    await this.#options.store?.idle();
  }
}

/** An archive with what is known of it. */
interface Kept {
  readonly archive: Buffer;
  readonly etag: string | null;
  readonly sequence: number | null;
}

const sequenceIn = (contents: Contents): number | null =>
  (contents.kind === 'snapshot' ? contents.bundle.sequence : contents.delta.sequence) ?? null;

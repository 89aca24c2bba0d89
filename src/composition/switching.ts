/**
 * Keeps what is switched off up to date in this process, and ends what is under way without permission: looks four times
 * a second whether anybody has changed the database, and at once when somebody in this process did. While the database
 * cannot be read the last known state stays in force and readiness says so. Source: security 2.10.
 */
import type { SwitchTarget } from '../admin/switches.ts';
import type { Clock } from '../core/clock.ts';
import { GatewayError } from '../core/errors.ts';
import type { Logger } from '../core/module.ts';
import { everyAuth } from '../core/principal.ts';
import { onEveryTokenRevoked, onKeyChange } from '../identity/revocations.ts';
import type { RunningExchanges } from '../pipeline/running.ts';
import { Switchboard } from '../pipeline/switchboard.ts';
import type { ApiKeyStore } from '../stores/api-keys.ts';
import type { Shared } from '../stores/shared.ts';
import type { SwitchedOff, SwitchStore } from '../stores/switches.ts';
import { SWITCH_KINDS, switchId } from '../stores/switches.ts';

/** Between two looks, milliseconds. */
const LOOK_MS = 250;
/** Reading may fail for this long before it is alarmed about. */
const ALARM_MS = 3000;
/** An authentication that was under way when its credential was withdrawn has entered by then. */
const SECOND_LOOK_MS = 1500;
/** Between two looks for expired credentials. */
const EXPIRY_MS = 1000;
const CHANNEL = 'switches';

/** A change that this process did not make itself. */
export interface NoticedChange {
  readonly operation: 'switch:off' | 'switch:on';
  readonly record: SwitchedOff;
}

export interface SwitchingOptions {
  readonly store: SwitchStore;
  readonly keys: Pick<ApiKeyStore, 'standing'>;
  readonly shared: Shared;
  readonly clock: Clock;
  readonly logger: Logger;
  readonly running: RunningExchanges;
  readonly metrics: { switchedOff(kind: string, count: number): void; switchesStale(stale: boolean): void };
  /** The issuer of this provider's tokens; null when it is not known. */
  issuerOf(provider: string): string | null;
  onNoticed(change: NoticedChange): void;
}

export interface Switching extends Disposable {
  readonly board: Switchboard;
  /** True while the database has not been readable for some seconds. */
  readonly isStale: boolean;
  list(): Promise<readonly SwitchedOff[]>;
  off(target: SwitchTarget, by: string): Promise<SwitchedOff>;
  on(id: string): Promise<SwitchedOff | null>;
}

/** Rejects when the database cannot be read: a gateway does not start without knowing what is off. */
export async function openSwitching(options: SwitchingOptions): Promise<Switching> {
  const switching = new LiveSwitching(options);
  await switching.begin();
  return switching;
}

class LiveSwitching implements Switching {
  readonly board = new Switchboard();
  readonly #options: SwitchingOptions;
  readonly #unsubscribe: readonly (() => void)[];
  /** All that the database holds; those whose time is over are not on the board. */
  #records: readonly SwitchedOff[] = [];
  #version = -1;
  #external: number | null = null;
  /** Epoch milliseconds at which the next switch lapses. */
  #nextLapse = Number.POSITIVE_INFINITY;
  #failingSince: number | null = null;
  #isStale = false;
  /** Looks at the keys in use are due at these times, milliseconds of `performance.now()`. */
  #keyLooks: number[] = [];
  /** Tokens revoked a moment ago, with the time until which they are looked for. */
  readonly #revokedTokens = new Map<string, { issuer: string; tokenId: string; until: number }>();
  #expiryAt = 0;
  #timer: NodeJS.Timeout | null = null;
  #looking: Promise<void> = Promise.resolve();
  #isLooking = false;

  constructor(options: SwitchingOptions) {
    this.#options = options;
    const { shared } = options;
    this.#unsubscribe = [
      shared.subscribe(CHANNEL, () => void this.#look(true)),
      onKeyChange(shared, () => this.#lookAtKeys()),
      onEveryTokenRevoked(shared, (issuer, tokenId) => this.#tokenRevoked(issuer, tokenId)),
    ];
  }

  async begin(): Promise<void> {
    this.#external = this.#options.store.externalVersion();
    await this.#read();
    this.#timer = setInterval(() => this.#tick(), LOOK_MS).unref();
  }

  get isStale(): boolean {
    return this.#isStale;
  }

  list(): Promise<readonly SwitchedOff[]> {
    const now = this.#options.clock.now();
    return this.#options.store.list().then((all) => all.filter((record) => isLive(record, now)));
  }

  async off(target: SwitchTarget, by: string): Promise<SwitchedOff> {
    const { store, clock, shared } = this.#options;
    const record = { ...target, id: switchId(target), created_at: clock.now(), created_by: by };
    await this.#inTurn(async () => {
      await store.off(record);
      this.#become([...this.#records.filter(({ id }) => id !== record.id), record]);
    });
    await shared.publish(CHANNEL, '');
    return record;
  }

  async on(id: string): Promise<SwitchedOff | null> {
    const { store, shared } = this.#options;
    const record = await this.#inTurn(async () => {
      const found = await store.on(id);
      if (found !== null) this.#become(this.#records.filter((known) => known.id !== id));
      return found;
    });
    if (record !== null) await shared.publish(CHANNEL, '');
    return record;
  }

  /** After whatever is under way: a look that began before a change must not end after it. */
  #inTurn<T>(work: () => Promise<T>): Promise<T> {
    const done = this.#looking.then(work);
    this.#looking = done.then(ignore, ignore);
    return done;
  }

  #become(records: readonly SwitchedOff[]): void {
    this.#records = records;
    this.#apply();
  }

  #tick(): void {
    const { clock, running } = this.#options;
    const now = clock.now();
    if (now >= this.#nextLapse) this.#apply();
    const monotonic = performance.now();
    if (monotonic >= this.#expiryAt) {
      this.#expiryAt = monotonic + EXPIRY_MS;
      if (running.size > 0) running.cutExpired(now);
    }
    this.#cutRevokedTokens(monotonic);
    void this.#look(false);
  }

  /** One look at a time; never rejects. */
  #look(isCertain: boolean): Promise<void> {
    if (this.#isLooking && !isCertain) return this.#looking;
    this.#isLooking = true;
    return this.#inTurn(async () => {
      try {
        await this.#lookNow(isCertain);
        this.#readable();
      } catch (error) {
        this.#unreadable(error);
      } finally {
        this.#isLooking = false;
      }
    });
  }

  async #lookNow(isCertain: boolean): Promise<void> {
    const hasWritten = this.#hasOtherWritten();
    if (isCertain || (hasWritten && (await this.#options.store.version()) !== this.#version)) await this.#read();
    if (hasWritten) this.#scheduleKeyLooks();
    await this.#dueKeyLooks();
  }

  /** Where the backend cannot tell, it has to be asked. After a failure nothing is taken for granted. */
  #hasOtherWritten(): boolean {
    const external = this.#options.store.externalVersion();
    if (external !== null && external === this.#external && this.#failingSince === null) return false;
    this.#external = external;
    return true;
  }

  async #read(): Promise<void> {
    const { store } = this.#options;
    // The version first: a change in between is read again at the next look.
    const version = await store.version();
    const records = await store.list();
    const isFirst = this.#version < 0;
    const before = this.#records;
    this.#version = version;
    this.#become(records);
    if (!isFirst) this.#tellDifference(before, records);
  }

  #tellDifference(before: readonly SwitchedOff[], after: readonly SwitchedOff[]): void {
    const old = new Map(before.map((record) => [record.id, record]));
    const now = this.#options.clock.now();
    for (const record of after) {
      const known = old.get(record.id);
      old.delete(record.id);
      if (known?.created_at === record.created_at && known.until === record.until) continue;
      this.#options.onNoticed({ operation: 'switch:off', record });
    }
    // One that lapsed was told when it was made.
    for (const record of old.values()) {
      if (isLive(record, now)) this.#options.onNoticed({ operation: 'switch:on', record });
    }
  }

  #apply(): void {
    const { clock, running, metrics } = this.#options;
    const now = clock.now();
    const live = this.#records.filter((record) => isLive(record, now));
    this.#nextLapse = Math.min(...live.map(({ until }) => until ?? Number.POSITIVE_INFINITY));
    this.board.replace(live);
    running.cutSwitchedOff(this.board);
    for (const kind of SWITCH_KINDS) metrics.switchedOff(kind, live.filter((record) => record.kind === kind).length);
  }

  #readable(): void {
    if (this.#isStale) this.#options.logger.info({}, 'switches_readable_again');
    if (this.#isStale) this.#options.metrics.switchesStale(false);
    this.#failingSince = null;
    this.#isStale = false;
  }

  #unreadable(error: unknown): void {
    const now = performance.now();
    this.#failingSince ??= now;
    if (this.#isStale || now - this.#failingSince < ALARM_MS) return;
    this.#isStale = true;
    this.#options.metrics.switchesStale(true);
    this.#options.logger.error({ err: error }, 'switches_unreadable');
  }

  #lookAtKeys(): void {
    this.#scheduleKeyLooks();
    void this.#look(false);
  }

  #scheduleKeyLooks(): void {
    const now = performance.now();
    this.#keyLooks = [now, now + SECOND_LOOK_MS];
  }

  async #dueKeyLooks(): Promise<void> {
    const now = performance.now();
    const later = this.#keyLooks.filter((at) => at > now);
    if (later.length === this.#keyLooks.length) return;
    const { running, keys } = this.#options;
    const asked = running.keyIds();
    if (asked.length > 0) {
      const standing = new Map((await keys.standing(asked)).map((state) => [state.id, state]));
      running.applyKeys(new Set(asked), standing);
      running.cutExpired(this.#options.clock.now());
    }
    this.#keyLooks = later;
  }

  #tokenRevoked(issuer: string, tokenId: string): void {
    const until = performance.now() + SECOND_LOOK_MS;
    this.#revokedTokens.set(`${issuer}\n${tokenId}`, { issuer, tokenId, until });
    this.#cutRevokedTokens(0);
  }

  #cutRevokedTokens(now: number): void {
    if (this.#revokedTokens.size === 0) return;
    const { running, issuerOf } = this.#options;
    const ids = new Set([...this.#revokedTokens.values()].map(({ tokenId }) => tokenId));
    running.cut(({ principal }) => {
      for (const auth of everyAuth(principal)) {
        const { token_id, provider } = auth;
        if (token_id === null || !ids.has(token_id)) continue;
        // Of a delegation it is the id of the delegation, which the actor's issuer has nothing to do with.
        const issuer = auth === principal.auth && principal.parties !== undefined ? null : issuerOf(provider);
        if (issuer === null || this.#revokedTokens.has(`${issuer}\n${token_id}`))
          return new GatewayError('TOKEN_REVOKED');
      }
      return null;
    });
    for (const [key, { until }] of this.#revokedTokens) if (until < now) this.#revokedTokens.delete(key);
  }

  [Symbol.dispose](): void {
    if (this.#timer !== null) clearInterval(this.#timer);
    for (const stop of this.#unsubscribe) stop();
  }
}

const ignore = (): void => {};

const isLive = ({ until }: SwitchedOff, now: number): boolean => until === null || until > now;

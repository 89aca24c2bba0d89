/** Where policies come from: a directory, a bundle file, or a service. Source: policy-engine 3, OPA status API. */
import { type ActivationOptions, currentBundle } from './activation.ts';
import type { Bundle } from './bundle.ts';
import type { Delta } from './bundle-contents.ts';

/** What a source knows of itself; times are epoch milliseconds. Names as in OPA's status reports. */
export interface SourceStatus {
  readonly kind: 'local' | 'service';
  /** Path, or URL. */
  readonly name: string;
  readonly active_revision: string | null;
  readonly last_request: number | null;
  /** The last answer, new or not. */
  readonly last_successful_request: number | null;
  readonly last_successful_download: number | null;
  readonly last_successful_activation: number | null;
  /** `bundle_error` while the last attempt failed. */
  readonly code: string | null;
  readonly message: string | null;
  readonly http_code: number | null;
  /** Failures in a row. */
  readonly errors: number;
  /** Bytes of the last download. */
  readonly size: number | null;
  readonly type: 'snapshot' | 'delta' | null;
}

/** `start`: there is none yet; `reload`: a person asks; `change`: something else says there may be another. */
export type LoadReason = 'start' | 'reload' | 'change';

/** What a source that looks by itself has found. */
export type News =
  | { readonly kind: 'snapshot'; readonly bundle: Bundle }
  /** `base`: the revision the changes are to be made to. */
  | { readonly kind: 'delta'; readonly delta: Delta; readonly base: string }
  /** Something that is no bundle, or not a believable one. */
  | { readonly kind: 'refused'; readonly reason: string };

/** Gives the revision that is active, or why it is not used. `taken` false: it stays out after a rollback. */
export type Deliver = (news: News) => Promise<Delivered>;
export type Delivered =
  | { readonly ok: true; readonly revision: string; readonly taken: boolean }
  | { readonly ok: false; readonly reason: string };

/** What a rollback goes back to: the revision of the whole bundle it came from, and its place with all changes since. */
export type Back = Pick<Bundle, 'revision' | 'sequence'>;

export interface PolicySource {
  /** The whole bundle. Throws PolicyLoadError. */
  load(why: LoadReason): Promise<Bundle>;
  /** Hears what became of the bundle it loaded last. */
  settled(revision: string | null, reason: string | null): Promise<void>;
  /**
   * A rollback took the bundle away that is described by this digest, or (null) that is no longer so.
   * @param inForce what is in force now
   */
  pin(content: string | null, inForce: Back | null): Promise<void>;
  /** What was pinned when it was left. */
  readonly pinned: string | null;
  /** Begins to look for news by itself, if it can. */
  follow(deliver: Deliver): void;
  status(): SourceStatus;
  close(): Promise<void>;
}

const NOTHING: Omit<SourceStatus, 'kind' | 'name'> = {
  ...{ active_revision: null, last_request: null, last_successful_request: null, last_successful_download: null },
  ...{
    last_successful_activation: null,
    code: null,
    message: null,
    http_code: null,
    errors: 0,
    size: null,
    type: null,
  },
};

/** The record of a source, changed by what happens to it. */
export class SourceRecord {
  #status: SourceStatus;
  readonly #now: () => number;

  constructor(kind: SourceStatus['kind'], name: string, now: () => number) {
    this.#status = { kind, name, ...NOTHING };
    this.#now = now;
  }

  get status(): SourceStatus {
    return this.#status;
  }

  requested(): void {
    this.#status = { ...this.#status, last_request: this.#now() };
  }

  answered(httpCode: number | null): void {
    this.#status = { ...this.#status, http_code: httpCode, last_successful_request: this.#now() };
  }

  /** The answer said that nothing is new. */
  unchanged(): void {
    this.#status = { ...this.#status, code: null, message: null, errors: 0 };
  }

  downloaded(size: number | null, type: 'snapshot' | 'delta'): void {
    this.#status = { ...this.#status, size, type, last_successful_download: this.#now() };
  }

  activated(revision: string): void {
    const last_successful_activation = this.#now();
    this.#status = { ...this.#status, active_revision: revision, last_successful_activation };
    this.unchanged();
  }

  failed(message: string, httpCode: number | null = null): void {
    const errors = this.#status.errors + 1;
    const http_code = httpCode ?? this.#status.http_code;
    this.#status = { ...this.#status, code: 'bundle_error', message, errors, http_code };
  }
}

/** A directory or a bundle file; somebody else watches it. */
export function createLocalSource(options: ActivationOptions, now: () => number): PolicySource {
  const record = new SourceRecord('local', options.bundleDir, now);
  return {
    pinned: null,
    async load() {
      record.requested();
      const bundle = await currentBundle(options);
      record.answered(null);
      record.downloaded(bundle.wasm.length + bundle.dataText.length, 'snapshot');
      return bundle;
    },
    async settled(revision, reason) {
      if (reason !== null) record.failed(reason);
      else if (revision !== null) record.activated(revision);
    },
    pin: async () => undefined,
    follow: () => undefined,
    status: () => record.status,
    close: async () => undefined,
  };
}

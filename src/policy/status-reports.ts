/**
 * Tells a management service how the policy in force does: `POST URL/status[/PARTITION]` whenever something about it has
 * changed, as OPA does. Only the newest state counts: what could not be told is not kept, what is so now is told until it
 * is taken. Source: OPA status service API.
 */
import type { Logger } from '../core/module.ts';
import type { PolicyStatus } from './engine.ts';
import { LABELS } from './log-event.ts';
import { type ManagementService, tell } from './log-post.ts';

export interface StatusReportOptions extends ManagementService {
  /** Milliseconds between two looks at what there is to tell, and the first pause after a failure. */
  readonly everyMs: number;
  read(): PolicyStatus;
  readonly logger: Logger;
}

export interface StatusReports {
  /** Resolves when nothing is under way; nothing is sent any more. */
  close(): Promise<void>;
}

const MAX_PAUSE_MS = 60_000;

/** Begins to tell, at once and then whenever there is news. */
export function startStatusReports(options: StatusReportOptions): StatusReports {
  return new Reports(options);
}

class Reports implements StatusReports {
  readonly #options: StatusReportOptions;
  /** What the service knows. */
  #told: string | null = null;
  #pauseMs: number;
  #isDown = false;
  #isClosed = false;
  #timer: NodeJS.Timeout | null = null;
  #running: Promise<void> = Promise.resolve();

  constructor(options: StatusReportOptions) {
    this.#options = options;
    this.#pauseMs = options.everyMs;
    this.#schedule(0);
  }

  #schedule(inMs: number): void {
    if (this.#isClosed) return;
    this.#timer = setTimeout(() => {
      this.#running = this.#look().then((pause) => this.#schedule(pause));
    }, inMs).unref();
  }

  /** Milliseconds to the next look. Never rejects. */
  async #look(): Promise<number> {
    const status = this.#options.read();
    const news = JSON.stringify(newsOf(status));
    if (news === this.#told) return this.#options.everyMs;
    const error = await tell(this.#options, 'status', Buffer.from(JSON.stringify(reportOf(status))));
    if (error !== null) return this.#failed(error);
    this.#told = news;
    this.#succeeded();
    return this.#options.everyMs;
  }

  #failed(reason: string): number {
    const { logger, url, everyMs } = this.#options;
    // Once per outage.
    if (!this.#isDown) logger.warn({ url, reason }, 'the status service takes nothing; it is told again later');
    this.#isDown = true;
    const pause = this.#pauseMs * (0.5 + Math.random() / 2);
    this.#pauseMs = Math.min(this.#pauseMs * 2, Math.max(MAX_PAUSE_MS, everyMs));
    return pause;
  }

  #succeeded(): void {
    if (this.#isDown) this.#options.logger.info({ url: this.#options.url }, 'the status service is back');
    this.#isDown = false;
    this.#pauseMs = this.#options.everyMs;
  }

  async close(): Promise<void> {
    this.#isClosed = true;
    if (this.#timer !== null) clearTimeout(this.#timer);
    await this.#running;
  }
}

/** What is worth telling: each poll of a bundle that is not new changes the times of the requests, and those alone. */
function newsOf({ source, stale, pinned, last_error, revision, bundle_revision }: PolicyStatus): object {
  const { last_request: _, last_successful_request: __, errors, ...rest } = source ?? {};
  return { ...rest, isFailing: (errors ?? 0) > 0, stale, pinned, last_error, revision, bundle_revision };
}

/** The report of one bundle, named as OPA names things. */
function reportOf(status: PolicyStatus): object {
  const { source, revision, bundle_revision, last_error } = status;
  const named = bundle_revision ?? revision;
  const failure = last_error ?? source?.message ?? null;
  const bundle = {
    name: 'portcullis',
    ...(named === null ? {} : { active_revision: named }),
    ...timesOf(source),
    ...(failure === null ? {} : { code: 'bundle_error', message: failure }),
    ...(source?.http_code === undefined || source.http_code === null ? {} : { http_code: String(source.http_code) }),
    ...(source?.size === undefined || source.size === null ? {} : { size: source.size }),
    ...(source?.type === undefined || source.type === null ? {} : { type: source.type }),
  };
  const state = revision === null ? 'NOT_READY' : failure === null ? 'OK' : 'WARN';
  return { labels: LABELS, bundles: { portcullis: bundle }, plugins: { bundle: { state } } };
}

const TIMES = [
  'last_request',
  'last_successful_request',
  'last_successful_download',
  'last_successful_activation',
] as const;

function timesOf(source: PolicyStatus['source']): Readonly<Record<string, string>> {
  if (source === undefined) return {};
  return Object.fromEntries(
    TIMES.flatMap((name) => {
      const at = source[name];
      return at === null ? [] : [[name, new Date(at).toISOString()]];
    }),
  );
}

/**
 * Asks an external key service about one key: pooled connections, bounded tries, a breaker. An outage is told apart from a
 * bad key, and the key is in no message. Source: acceptance HW-01, HW-05, H-15, HF-05, HF-10.
 */
import { setTimeout as pause } from 'node:timers/promises';
import { type Dispatcher, Pool } from 'undici';
import type { Clock } from '../core/clock.ts';
import type { Secret } from '../core/secret.ts';
import type { Breaker } from '../upstreams/breaker.ts';
import { type RemoteVerdict, readAnswer, readStatus, unavailable } from './remote-answer.ts';

export interface RemoteValidatorOptions {
  /** Base address of the service. */
  readonly url: string;
  readonly serviceId: string;
  /** Sends `{"api_key": …}` as older services want it, instead of the key as bearer token. */
  readonly legacyBody: boolean;
  /** Milliseconds altogether, all tries included. */
  readonly timeoutMs: number;
  /** Milliseconds of one try. */
  readonly attemptMs: number;
  /** Further tries after a time-out, a 5xx or a broken connection. */
  readonly retries: number;
  readonly connections: number;
  /** PEM; null: the authorities that Node trusts. */
  readonly ca: string | null;
  readonly breaker: Breaker;
  readonly clock: Clock;
}

const MAX_ANSWER = 65_536;
/** Milliseconds before the first further try; doubled each time, and half of it is chance. */
const BACKOFF_MS = 100;

export class RemoteValidator {
  readonly #options: RemoteValidatorOptions;
  readonly #pool: Pool;
  readonly #path: string;
  #isClosed = false;

  constructor(options: RemoteValidatorOptions) {
    const { origin, pathname } = new URL(options.url);
    this.#options = options;
    this.#path = `${pathname.replace(/\/+$/, '')}/api/v1/keys/validate`;
    this.#pool = new Pool(origin, {
      connections: options.connections,
      pipelining: 1,
      keepAliveTimeout: 30_000,
      connect: { timeout: options.attemptMs, ...(options.ca === null ? {} : { ca: options.ca }) },
    });
  }

  get isDown(): boolean {
    return this.#options.breaker.state === 'open';
  }

  /** Never rejects. @param clientIp null: not told */
  async ask(key: Secret, clientIp: string | null): Promise<RemoteVerdict> {
    const { retries, timeoutMs } = this.#options;
    const deadline = AbortSignal.timeout(timeoutMs);
    for (let tried = 0; ; tried++) {
      const verdict = await this.#guarded(key, clientIp, deadline);
      if (verdict.kind !== 'unavailable' || !verdict.again || tried >= retries) return verdict;
      const longest = BACKOFF_MS * 2 ** tried;
      const waited = await pause(longest / 2 + (Math.random() * longest) / 2, true, { signal: deadline }).catch(
        () => false,
      );
      if (!waited) return verdict;
    }
  }

  /** One try, if the breaker lets it pass. */
  #guarded(key: Secret, clientIp: string | null, deadline: AbortSignal): Promise<RemoteVerdict> {
    const { breaker } = this.#options;
    if (this.#isClosed) return Promise.resolve(unavailable('the provider was replaced', false));
    if (breaker.refusal() !== null) return Promise.resolve(unavailable('the service is failing', false));
    const { promise, resolve } = Promise.withResolvers<RemoteVerdict>();
    breaker.run({
      begin: (report) => {
        void this.#send(key, clientIp, deadline).then((verdict) => {
          report(verdict.kind === 'unavailable' ? 'fault' : 'answered');
          resolve(verdict);
        });
      },
      overdue() {
        resolve(unavailable('no answer in time', false));
        return 'fault';
      },
    });
    return promise;
  }

  /** Never rejects. */
  async #send(key: Secret, clientIp: string | null, deadline: AbortSignal): Promise<RemoteVerdict> {
    const { serviceId, legacyBody, attemptMs, clock } = this.#options;
    const ip = clientIp === null ? {} : { client_ip: clientIp };
    const text = key.reveal();
    const body = legacyBody ? { api_key: text, service_id: serviceId, ...ip } : { service_id: serviceId, ...ip };
    const headers: Record<string, string> = { 'content-type': 'application/json', accept: 'application/json' };
    if (!legacyBody) headers.authorization = `Bearer ${text}`;
    const signal = AbortSignal.any([deadline, AbortSignal.timeout(attemptMs)]);
    try {
      const asked = this.#pool.request({
        path: this.#path,
        method: 'POST',
        headers,
        body: JSON.stringify(body),
        signal,
      });
      const response = await inTime(asked, signal);
      const retryAfter = response.headers['retry-after'];
      const known = readStatus(
        response.statusCode,
        typeof retryAfter === 'string' ? retryAfter : undefined,
        clock.now(),
      );
      const bytes = await collect(response.body);
      return known ?? (bytes === null ? unavailable('the answer is too long', false) : readAnswer(bytes, serviceId));
    } catch (error) {
      // The words of others may hold anything: only the code is kept.
      const code = error instanceof Error && 'code' in error ? String(error.code) : 'no answer in time';
      return unavailable(`no answer (${code})`, true);
    }
  }

  /** Waits for what is under way. */
  async close(): Promise<void> {
    this.#isClosed = true;
    await this.#pool.close();
    this.#options.breaker.close();
  }
}

/** The pool gives nothing up while a connection is being made, and the system looks for a name as long as it likes. */
async function inTime(asked: Promise<Dispatcher.ResponseData>, signal: AbortSignal): Promise<Dispatcher.ResponseData> {
  const late = Promise.withResolvers<never>();
  const end = () => late.reject(signal.reason);
  if (signal.aborted) end();
  signal.addEventListener('abort', end, { once: true });
  try {
    return await Promise.race([asked, late.promise]);
  } catch (error) {
    // An answer that comes all the same is nobody's any more, and neither is the fault of one that does not.
    asked.then(({ body }) => body.on('error', () => {}).destroy()).catch(() => {});
    throw error;
  } finally {
    signal.removeEventListener('abort', end);
    late.promise.catch(() => {});
  }
}

/** Null: more than anybody needs. The connection is given up then. */
async function collect(body: AsyncIterable<Uint8Array>): Promise<Buffer | null> {
  const pieces: Uint8Array[] = [];
  let size = 0;
  for await (const piece of body) {
    size += piece.length;
    if (size > MAX_ANSWER) return null;
    pieces.push(piece);
  }
  return Buffer.concat(pieces);
}

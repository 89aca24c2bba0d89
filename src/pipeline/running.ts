/**
 * The exchanges under way, from authentication to their last byte, so that those can be ended whose permission is
 * withdrawn meanwhile: streams and tunnels would live on for as long as they like. Source: security 2.10.
 */
import type { CancelListener } from '../core/cancel.ts';
import { GatewayError } from '../core/errors.ts';
import type { Message, Received } from '../core/exchange.ts';
import { type AuthFacts, everyAuth, type Principal } from '../core/principal.ts';
import type { Switchboard } from './switchboard.ts';

/** A tunnel that was cut; its end as a request was reported when it began. */
export interface TunnelCut {
  readonly entry: RunningExchange;
  readonly error: GatewayError;
}

export interface RunningOptions {
  /** Milliseconds that this provider accepts a credential beyond its expiry. */
  graceMs(provider: string): number;
  /** Whether keys of this provider are kept elsewhere, so that our database says nothing of them. Absent: none are. */
  keysElsewhere?(provider: string): boolean;
  /** Told of each exchange that was cut. */
  onCut(error: GatewayError): void;
  onTunnelCut(cut: TunnelCut): void;
}

/** One exchange under way. Also the listener that notices the end of a tunnel. */
export class RunningExchange implements CancelListener {
  readonly received: Received;
  readonly principal: Principal;
  /** What is asked for, once it was read. */
  message: Message | null = null;
  /** Label of its route. */
  readonly route: string;
  /** Epoch milliseconds at which the credential expires; null: never. A rotation can shorten it. */
  expiresAt: number | null;
  isTunnel = false;
  readonly #owner: RunningExchanges;

  constructor(owner: RunningExchanges, received: Received, principal: Principal, route: string) {
    this.#owner = owner;
    this.received = received;
    this.principal = principal;
    this.route = route;
    const { expires_at, key_id } = principal.auth;
    // A key expires at a millisecond, of which the principal has the whole seconds only.
    this.expiresAt = expires_at === null ? null : expires_at * 1000 + (key_id === null ? 0 : 999);
  }

  handleEvent(): void {
    this.#owner.tunnelEnded(this);
  }
}

export class RunningExchanges {
  readonly #options: RunningOptions;
  readonly #entries = new Set<RunningExchange>();

  constructor(options: RunningOptions) {
    this.#options = options;
  }

  get size(): number {
    return this.#entries.size;
  }

  enter(received: Received, principal: Principal, route: string): RunningExchange {
    const entry = new RunningExchange(this, received, principal, route);
    this.#entries.add(entry);
    return entry;
  }

  /** The exchange is over. */
  leave(entry: RunningExchange): void {
    this.#entries.delete(entry);
  }

  /** The answer was a tunnel: the exchange lives on until its connection ends. */
  keep(entry: RunningExchange): void {
    const { cancel } = entry.received;
    if (cancel.aborted) {
      this.leave(entry);
      return;
    }
    entry.isTunnel = true;
    cancel.addEventListener('abort', entry);
  }

  tunnelEnded(entry: RunningExchange): void {
    this.#entries.delete(entry);
    const { reason } = entry.received.cancel;
    if (reason instanceof GatewayError && reason.code !== 'CLIENT_CLOSED') {
      this.#options.onTunnelCut({ entry, error: reason });
    }
  }

  /** Ends each exchange that `why` gives an error for; answers how many. */
  cut(why: (entry: RunningExchange) => GatewayError | null): number {
    let count = 0;
    // A copy: an exchange that is cut leaves.
    for (const entry of [...this.#entries]) {
      const error = why(entry);
      if (error === null || entry.received.cancel.aborted) continue;
      count++;
      this.#options.onCut(error);
      entry.received.abort(error);
    }
    return count;
  }

  cutSwitchedOff(board: Switchboard): number {
    if (board.isEmpty) return 0;
    return this.cut(({ principal, message }) => {
      return board.refusalOf(principal) ?? (message === null ? null : board.refusalOfMessage(message));
    });
  }

  /** Those whose credential has expired. `now` is epoch milliseconds. */
  cutExpired(now: number): number {
    return this.cut(({ expiresAt, principal }) => {
      if (expiresAt === null || now < expiresAt) return null;
      return now < expiresAt + this.#options.graceMs(principal.auth.provider)
        ? null
        : new GatewayError('TOKEN_EXPIRED');
    });
  }

  /** Ids of the API keys in use, each once. */
  keyIds(): readonly string[] {
    const ids = new Set<string>();
    for (const { principal } of this.#entries) {
      for (const auth of everyAuth(principal)) if (this.#isOurs(auth)) ids.add(auth.key_id);
    }
    return [...ids];
  }

  #isOurs(auth: AuthFacts): auth is AuthFacts & { readonly key_id: string } {
    return auth.key_id !== null && this.#options.keysElsewhere?.(auth.provider) !== true;
  }

  /** Applies how keys stand now: `standing` has an entry for each of `asked` that exists. */
  applyKeys(asked: ReadonlySet<string>, standing: ReadonlyMap<string, KeyState>): number {
    return this.cut((entry) => {
      // A delegation has an end of its own, which no key puts off.
      const isLent = entry.principal.parties !== undefined;
      for (const auth of everyAuth(entry.principal)) {
        if (!this.#isOurs(auth) || !asked.has(auth.key_id)) continue;
        const state = standing.get(auth.key_id);
        if (state === undefined || state.revoked_at !== null) return new GatewayError('TOKEN_REVOKED');
        entry.expiresAt = isLent ? earlier(entry.expiresAt, state.expires_at) : state.expires_at;
      }
      return null;
    });
  }
}

function earlier(a: number | null, b: number | null): number | null {
  return a === null || b === null ? (a ?? b) : Math.min(a, b);
}

export interface KeyState {
  readonly expires_at: number | null;
  readonly revoked_at: number | null;
}

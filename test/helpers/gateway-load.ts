/** Steady load of keep-alive clients, with every request accounted for. */
import type { RequestOptions } from 'node:http';
import { Agent, request } from 'node:http';

export interface Tally {
  /** Answers by status. */
  readonly statuses: Map<number, number>;
  /** Request ids of the answers. */
  readonly ids: string[];
  /** New connections that nobody accepted any more: the end of a listener, not a lost request. */
  refused: number;
  /** Those among them that the kernel had completed in the very instant the listener closed. */
  reset: number;
  /** Requests that were sent and never answered. */
  readonly lost: string[];
}

export interface Load {
  readonly tally: Tally;
  /** Resolves once so many answers are there. */
  answered(count: number): Promise<void>;
  /** Lets every client finish its request, and resolves with the final tally. */
  stop(): Promise<Tally>;
}

export interface LoadOptions {
  readonly headers?: Record<string, string>;
  readonly body?: string;
  readonly clients?: number;
  /** Hears of every answer when it is there. */
  readonly onAnswer?: (answer: Answer) => void;
  /** When true a client whose connection is refused ends; otherwise that counts as lost. */
  readonly endsWhenRefused?: boolean;
}

/** One answer; times are those of `performance.now()`. */
export interface Answer {
  readonly status: number;
  readonly id: string;
  readonly sentAt: number;
  readonly answeredAt: number;
}

type Outcome = { status: number; id: string } | { refused: 'before' | 'while closing' } | { lost: string };

export function startLoad(url: string, options: LoadOptions = {}): Load {
  const { clients = 16, endsWhenRefused = false } = options;
  const tally: Tally = { statuses: new Map(), ids: [], refused: 0, reset: 0, lost: [] };
  const waiting: { readonly count: number; readonly done: () => void }[] = [];
  const agent = new Agent({ keepAlive: true, maxSockets: clients });
  let stopping = false;
  const run = async (): Promise<void> => {
    while (!stopping) {
      const sentAt = performance.now();
      const outcome = await once(url, agent, options);
      if ('refused' in outcome && endsWhenRefused) {
        tally.refused++;
        if (outcome.refused === 'while closing') tally.reset++;
        return;
      }
      if ('status' in outcome) {
        tally.statuses.set(outcome.status, (tally.statuses.get(outcome.status) ?? 0) + 1);
        tally.ids.push(outcome.id);
        options.onAnswer?.({ ...outcome, sentAt, answeredAt: performance.now() });
      } else tally.lost.push('lost' in outcome ? outcome.lost : 'connection refused');
      for (const { count, done } of waiting) if (tally.ids.length >= count) done();
    }
  };
  const running = Promise.all(Array.from({ length: clients }, run));
  return {
    tally,
    answered: (count) => new Promise((done) => void waiting.push({ count, done })),
    async stop() {
      stopping = true;
      await running;
      agent.destroy();
      return tally;
    },
  };
}

function once(url: string, agent: Agent, { headers = {}, body }: LoadOptions): Promise<Outcome> {
  return new Promise((done) => {
    const settings: RequestOptions = { agent, headers, method: body === undefined ? 'GET' : 'POST' };
    const sent = request(url, settings, (response) => {
      const id = String(response.headers['x-request-id'] ?? '');
      response.on('error', (error) => done({ lost: `answer cut: ${error.message}` }));
      response.on('end', () => done({ status: response.statusCode ?? 0, id }));
      response.resume();
    });
    sent.on('error', (error: NodeJS.ErrnoException) => {
      const isNew = !sent.reusedSocket && (sent.socket?.bytesRead ?? 0) === 0;
      if (error.code === 'ECONNREFUSED') done({ refused: 'before' });
      else if (isNew && error.code === 'ECONNRESET') done({ refused: 'while closing' });
      else done({ lost: `${error.code} ${error.message}` });
    });
    sent.end(body);
  });
}

/** Load under which every answer has to be one of those that the policies of that moment give. */

import { join } from 'node:path';
import { expect, vi } from 'vitest';
import { readRecords } from '../../src/policy/replay/records.ts';
import type { TestGateway } from './gateway.ts';
import { type Answer, type Load, startLoad } from './gateway-load.ts';

/** What a policy answers to each caller. */
export type Expected = Readonly<Record<string, boolean>>;

interface Mark {
  readonly at: number;
  /** Names of the policies that may be in force from here on. */
  readonly may: readonly string[];
}

export interface CheckedLoad {
  /** From now on this one may be in force, or the one before still. */
  changing(to: string): void;
  /** It is seen to be in force; `revision` is its own name for itself. */
  inForce(name: string, revision: string): void;
  /** Resolves once so many more answers are there. */
  more(count: number): Promise<void>;
  /** Ends the load and checks every answer, and the decision behind it. */
  verified(): Promise<{ readonly requests: number; readonly during: number; readonly cached: number }>;
}

interface Logged {
  readonly req_id: string;
  readonly bundles: { readonly portcullis: { readonly revision: string } };
  readonly result: { readonly allow: boolean };
  readonly metrics: { readonly counter_cache_hit: number };
}

/** `keys`: of the callers, by the names that `policies` gives them. The first policy is in force. */
export function startCheckedLoad(
  gateway: TestGateway,
  body: string,
  keys: Readonly<Record<string, string>>,
  policies: Readonly<Record<string, Expected>>,
  first: { readonly name: string; readonly revision: string },
): CheckedLoad {
  const marks: Mark[] = [{ at: 0, may: [first.name] }];
  const revisions = new Map([[first.revision, first.name]]);
  const answers: (Answer & { readonly caller: string })[] = [];
  const waiting: { readonly count: number; readonly done: () => void }[] = [];
  const loads = Object.entries(keys).map(([caller, key]): Load => {
    return startLoad(`${gateway.url}/tools/invoke`, {
      clients: 3,
      headers: { 'x-api-key': key, 'content-type': 'application/json' },
      body,
      onAnswer(answer) {
        answers.push({ ...answer, caller });
        for (const one of waiting) if (answers.length >= one.count) one.done();
      },
    });
  });

  const more = (count: number): Promise<void> =>
    new Promise((done) => void waiting.push({ count: answers.length + count, done }));

  /** Every policy that may have been in force at some time between the two. */
  function possible(from: number, to: number): ReadonlySet<string> {
    const names = new Set<string>();
    for (const [i, { at, may }] of marks.entries()) {
      const end = marks[i + 1]?.at ?? Number.POSITIVE_INFINITY;
      if (at <= to && end >= from) for (const name of may) names.add(name);
    }
    return names;
  }

  return {
    changing(to) {
      marks.push({ at: performance.now(), may: [...new Set([...(marks.at(-1)?.may ?? []), to])] });
    },
    inForce(name, revision) {
      revisions.set(revision, name);
      marks.push({ at: performance.now(), may: [name] });
    },
    more,
    async verified() {
      const tallies = await Promise.all(loads.map((load) => load.stop()));
      expect(tallies.flatMap(({ lost }) => lost)).toEqual([]);
      const logged = await decisionsOf(gateway, answers);
      const wrong: unknown[] = [];
      let during = 0;
      let cached = 0;
      for (const { caller, status, id, sentAt, answeredAt } of answers) {
        const may = possible(sentAt, answeredAt);
        const event = logged.get(id);
        const name = revisions.get(event?.bundles.portcullis.revision ?? '') ?? '';
        const allowed = policies[name]?.[caller];
        const isRight = may.has(name) && event?.result.allow === allowed && status === (allowed === true ? 200 : 403);
        if (!isRight) wrong.push({ caller, status, id, may: [...may], decidedBy: name, event });
        if (may.size > 1) during++;
        if (event?.metrics.counter_cache_hit === 1) cached++;
      }
      expect(wrong.slice(0, 3)).toEqual([]);
      return { requests: answers.length, during, cached };
    },
  };
}

/** The decision on each request, once they are all written. */
async function decisionsOf(gateway: TestGateway, answers: readonly Answer[]): Promise<ReadonlyMap<string, Logged>> {
  const wanted = new Set(answers.map(({ id }) => id));
  expect(wanted.size).toBe(answers.length);
  const found = new Map<string, Logged>();
  const complete = async (): Promise<void> => {
    await readRecords(join(gateway.home, 'decisions.jsonl'), 'lines', {
      event(text) {
        const event = JSON.parse(text) as Logged;
        if (wanted.has(event.req_id)) found.set(event.req_id, event);
      },
      tooLong() {},
      progress() {},
    });
    const missing = wanted.size - found.size;
    if (missing > 0) throw new Error(`${missing} decisions are not in the log`);
  };
  await vi.waitFor(complete, { interval: 50, timeout: 10_000 });
  return found;
}

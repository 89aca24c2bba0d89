/** Calls that are asked about and could be made on several routes: the answer is the strictest of theirs. */
import { describe, expect, test } from 'vitest';
import type { Call } from '../../../src/core/call.ts';
import type { Decision, DecisionRequest, Obligation } from '../../../src/core/decision.ts';
import type { Admitted, AskedRoute } from '../../../src/core/exchange.ts';
import { createJudge } from '../../../src/pipeline/judge.ts';
import { Switchboard } from '../../../src/pipeline/switchboard.ts';
import type { PolicyEngine } from '../../../src/policy/engine.ts';

const redact = (name: string): Obligation => ({ type: 'redact_parameters', names: [name] });
const ANSWERS: Readonly<Record<string, Partial<Decision>>> = {
  free: { obligations: [redact('a')] },
  guarded: { obligations: [redact('b'), { type: 'audit', level: 'full' }] },
  asking: { obligations: [{ type: 'require_approval' }] },
  strict: { allow: false, deny: [{ package: 'p', code: 'POLICY_DENIED', message: 'no', severity: 'low' }] },
  broken: { allow: false, failure: 'timeout' },
};

describe('a call that could be made on several routes', () => {
  const asked: string[] = [];
  const decide = ({ entrypoint }: DecisionRequest): Decision => {
    asked.push(entrypoint ?? '');
    const common = { decision_id: `dec_${entrypoint}`, allow: true, deny: [], obligations: [], revision: 'r' };
    return { ...common, cached: false, eval_us: 1, failure: null, ...ANSWERS[entrypoint ?? ''] };
  };
  const engine = {
    decide,
    decideMany: (all: readonly DecisionRequest[]) => all.map(decide),
    entrypointAt: ({ entrypoint }: AskedRoute) => entrypoint ?? '',
  } as unknown as PolicyEngine;
  const call = { action: 'gateway:tool:invoke', server: 's', tool: 't', parameters: {} } as unknown as Call;
  const exchange = {
    received: {
      id: 'req_1',
      path: '/api',
      headers: {},
      receivedAt: 0,
      peer: { address: '127.0.0.1', encrypted: true },
    },
    ...{ route: { entrypoint: 'free' }, principal: { id: 'p' }, rate: { window_seconds: 60, count: 0 } },
  } as unknown as Admitted;
  const judge = createJudge(
    (one) => ({ ...one, classification: { tool_type: 'query', sensitivity_level: 'low', reasons: [], resources: [] } }),
    { regionOf: () => 'unknown', upstreamEncrypted: () => false },
    engine,
    new Switchboard(),
  );
  const on = (...routes: readonly string[]): readonly AskedRoute[] =>
    routes.map((entrypoint, place) => ({ entrypoint, place }));
  const answers = (...all: readonly (readonly string[])[]) => {
    asked.length = 0;
    const doors = all.map((routes) => on(...routes));
    let at = 0;
    return judge(
      exchange,
      all.map(() => call),
      () => doors[at++] ?? [],
    );
  };

  test.each([
    [['free', 'strict'], 'strict'],
    [['strict', 'free'], 'strict'],
    [['free', 'broken', 'guarded'], 'broken'],
    [['asking', 'strict'], 'strict'],
    [['free', 'asking'], 'asking'],
    [['free'], 'free'],
  ])('is decided on %j as by %s', (routes, expected) => {
    expect(answers(routes).map(({ decision_id }) => decision_id)).toEqual([`dec_${expected}`]);
  });

  test('is under the obligations of all of them', () => {
    expect(answers(['free', 'guarded'])[0]?.obligations).toEqual([
      redact('a'),
      redact('b'),
      { type: 'audit', level: 'full' },
    ]);
  });

  test('is asked about once for each entrypoint, and each of many calls has its own answer', () => {
    const made = answers(['free', 'free'], ['guarded', 'strict', 'guarded'], ['guarded']);
    expect(made.map(({ allow }) => allow)).toEqual([true, false, true]);
    expect(asked).toEqual(['free', 'guarded', 'strict', 'guarded']);
  });
});

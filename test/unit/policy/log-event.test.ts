/** What a policy says of a call is as secret as the call: it is looked through before it is written down. */
import { expect, test } from 'vitest';
import type { Decision } from '../../../src/core/decision.ts';
import { buildInput } from '../../../src/policy/input.ts';
import { eventOf } from '../../../src/policy/log-event.ts';
import { makeRequest } from './requests.ts';

const TOKEN = `ghp_${'a1B2'.repeat(9)}`;

test('secrets in messages and obligations are hidden like those in arguments', () => {
  const request = makeRequest();
  const decision: Decision = {
    ...{ decision_id: 'dec_1', allow: false, revision: 'r', cached: false, eval_us: 1, failure: null },
    deny: [{ package: 'p', code: 'POLICY_DENIED', message: `no ${TOKEN} here`, severity: 'high' }],
    obligations: [
      { type: 'set_header', name: 'X-Note', value: `uses ${TOKEN}` },
      { type: 'set_header', name: 'Authorization', value: 'Basic dXNlcjpwYXNz' },
      { type: 'set_header', name: 'X-Team', value: 'red' },
    ],
  };
  const event = eventOf({ decision, request, entrypoint: 'e', input: buildInput(request, null) });
  const text = JSON.stringify(event);
  expect(text).not.toContain(TOKEN);
  expect(text).not.toContain('dXNlcjpwYXNz');
  expect(event.result).toMatchObject({
    deny: [{ message: 'no [redacted] here' }],
    obligations: [{}, { name: 'Authorization', value: '[redacted]' }, { value: 'red' }],
  });
  expect(event.masked?.filter((path) => path.startsWith('/result')).sort()).toEqual([
    '/result/deny/0/message',
    '/result/obligations/0/value',
    '/result/obligations/1/value',
  ]);
  expect(decision.obligations[1]).toMatchObject({ value: 'Basic dXNlcjpwYXNz' });
});

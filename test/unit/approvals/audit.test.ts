import { expect, test } from 'vitest';
import { approvalDraft } from '../../../src/composition/approval-set.ts';
import { makePrincipal } from '../../../src/core/principal.ts';
import { approvalRecord, NOW } from './records.ts';

test('the record of a step names who acts for the requester', () => {
  const actor = { id: 'bot', type: 'agent', actor: null } as const;
  const draft = (principal: ReturnType<typeof makePrincipal>) =>
    approvalDraft({ type: 'requested', approval: approvalRecord(), at: NOW, principal, origin: null });
  expect(draft(makePrincipal({ id: 'boss', actor }, 'keys', 'api-key'))).toMatchObject({
    ...{ user_id: 'boss', actor_id: 'bot' },
  });
  expect(draft(makePrincipal({ id: 'boss' }, 'keys', 'api-key'))).not.toHaveProperty('actor_id');
});

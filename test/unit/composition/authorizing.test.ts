/** What a program asks about a caller that an operator has switched off. */
import { expect, test } from 'vitest';
import type { Platform } from '../../../src/composition/assembly.ts';
import { isAuthorized } from '../../../src/composition/authorizing.ts';
import type { PipelineParts } from '../../../src/pipeline/pipeline.ts';
import { Switchboard } from '../../../src/pipeline/switchboard.ts';
import { type SwitchTarget, switchId } from '../../../src/stores/switches.ts';

const errors: unknown[] = [];
const clock = { now: () => 0 };
const logging = { component: () => ({ error: (fields: { err: unknown }) => void errors.push(fields.err) }) };
// A policy that allows everything: what is refused here is refused by the switches.
const parts = {
  classify: (call: unknown) => call,
  engine: { decide: () => ({ allow: true, failure: null, deny: [], obligations: [] }) },
} as unknown as Pick<PipelineParts, 'classify' | 'engine'>;

function asked(off: SwitchTarget | null): boolean {
  const switches = new Switchboard();
  const more = { reason: 'why', is_public: false, created_at: 0, created_by: 'test', until: null };
  switches.replace(off === null ? [] : [{ ...off, id: switchId(off), ...more }]);
  return isAuthorized({ clock, logging, switches } as unknown as Platform, parts, {
    principal: { id: 'alice', tenant_id: 'acme', auth: { key_id: 'k1' } },
    resource: { type: 'response', id: 'r1', tenant_id: 'acme', owner_id: 'alice' },
    action: 'responses:delete' as never,
  });
}

test('is nothing any more, by whichever of their names', () => {
  expect(asked(null)).toBe(true);
  expect(asked({ kind: 'principal', name: 'alice', within: 'acme' })).toBe(false);
  expect(asked({ kind: 'key', name: 'k1', within: '' })).toBe(false);
  expect(asked({ kind: 'tenant', name: 'acme', within: '' })).toBe(false);
  expect(asked({ kind: 'principal', name: 'alice', within: 'zenith' })).toBe(true);
  expect(errors).toEqual([]);
});

/** A question of the program around the gateway: may this principal do this to that? Source: acceptance D-16, DF-02. */

import type { Action, ResourceRef } from '../core/call.ts';
import { NO_APPROVAL } from '../core/decision.ts';
import { makeId } from '../core/ids.ts';
import type { PrincipalFacts } from '../core/principal.ts';
import { completePrincipal } from '../identity/completion.ts';
import type { PipelineParts } from '../pipeline/pipeline.ts';
import { isPermission } from '../pipeline/stages/decide.ts';
import type { Platform } from './assembly.ts';

/** What it is done to, and whose it is. Null: nobody's, or it is not known. */
export type AskedResource = Pick<ResourceRef, 'type' | 'id' | 'tenant_id' | 'owner_id'> &
  Partial<Pick<ResourceRef, 'permissions'>>;

export interface AuthorizationQuestion {
  readonly principal: PrincipalFacts;
  readonly resource: AskedResource;
  readonly action: Action;
}

/**
 * The policy's word, as for a call that came in; the decision log has it. False for whatever is not decided: no policy, a
 * failure, an action it does not know, a principal that is none or that an operator has switched off.
 */
export function isAuthorized(
  { clock, logging, switches }: Platform,
  { classify, engine }: Pick<PipelineParts, 'classify' | 'engine'>,
  question: AuthorizationQuestion,
): boolean {
  try {
    const { principal, resource, action } = question;
    const { type, id, tenant_id, owner_id, permissions = null } = resource;
    const call = {
      ...{ action, server: null, tool: null, parameters: null, annotations: null, schema_hash: null, llm: null },
      resource: { type, id, tenant_id, owner_id, permissions },
    };
    const now = clock.now();
    const facts = {
      ...{ request_id: makeId('req', now), now, endpoint: 'program', user_agent: null, encryption_enabled: true },
      ...{ source_ip: '127.0.0.1', source_region: 'unknown', approval: NO_APPROVAL },
      rate: { window_seconds: 60, count: 0 },
    };
    const asking = completePrincipal(principal, 'program', 'none');
    if (switches.refusalOf(asking) !== null) return false;
    const decision = engine.decide({ facts, principal: asking, call: classify(call), entrypoint: null });
    return switches.withhold([call], [decision]).every(isPermission);
  } catch (error) {
    logging.component('policy').error({ err: error }, 'authorization_question_failed');
    return false;
  }
}

/** Everything the gateway answers itself on the data listener, in one list. Each feature adds the endpoints it makes. */

import type { ApprovalsApiOptions } from '../approvals/api.ts';
import { approvalEndpoints, DECIDE } from '../approvals/api.ts';
import { GatewayError } from '../core/errors.ts';
import { isPermission, refusalCode } from '../pipeline/stages/decide.ts';
import { endpointCall } from '../protocols/api.ts';
import type { Endpoint } from '../protocols/endpoint.ts';
import { errorEndpoints } from '../protocols/errors-api.ts';
import { versionEndpoints } from '../protocols/version-api.ts';
import { authEndpoints } from './account-set.ts';
import { refusedDecisionDraft } from './approval-set.ts';
import { keyServiceOf } from './key-service-set.ts';
import type { SharedParts } from './pdp.ts';
import { decisionEndpoints } from './pdp.ts';
import type { ProtocolParts } from './protocol-set.ts';

export function buildEndpoints(parts: ProtocolParts, shared: SharedParts): readonly Endpoint[] {
  return [
    ...parts.endpoints,
    ...decisionEndpoints(parts, shared),
    ...versionEndpoints({ version: parts.platform.version, features: featuresOf(parts) }),
    ...errorEndpoints(),
    ...approvalEndpoints(approvalsApi(parts)),
    ...keyServiceOf(parts.config, parts.platform, parts.judge),
    ...authEndpoints({
      ...{ config: parts.config, platform: parts.platform, service: parts.accounts },
      isPermitted(exchange, call) {
        const [decision] = parts.judge(exchange, [call]);
        return decision !== undefined && isPermission(decision);
      },
    }),
  ];
}

function approvalsApi({ approvals, config, judge, platform }: ProtocolParts): ApprovalsApiOptions {
  return {
    approvals,
    publicUrl: config.public_url ?? null,
    onRefused: (exchange, id, why) => platform.audit.record(refusedDecisionDraft(exchange, id, why)),
    mayDecide(exchange) {
      const [decision] = judge(exchange, [endpointCall(exchange, '/approvals', { allOf: [DECIDE] })]);
      return decision !== undefined && isPermission(decision);
    },
    requireDecision(exchange, call) {
      const [decision] = judge(exchange, [call]);
      if (decision === undefined) throw new GatewayError('FORBIDDEN');
      if (isPermission(decision)) return;
      const message = decision.deny.map((reason) => reason.message).join('; ');
      throw new GatewayError(refusalCode(decision), message === '' ? {} : { message });
    },
  };
}

/** In the words of those who ask which parts of a gateway are on. */
function featuresOf({ config }: ProtocolParts): Readonly<Record<string, boolean>> {
  return {
    gateway: config.decision_api.gateway,
    a2a: config.decision_api.gateway && config.decision_api.a2a,
    authzen: true,
    audit: config.audit.mode !== 'off',
    decision_cache: config.policy.cache.entries > 0,
  };
}

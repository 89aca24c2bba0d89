/** Classify and decide for those who enforce elsewhere: by the same functions as the stages, with nothing forwarded. */
import type { Call, ClassifiedCall } from '../core/call.ts';
import type { Decision, Violation } from '../core/decision.ts';
import type { GatewayError } from '../core/errors.ts';
import type { AskedRoute, Judge } from '../core/exchange.ts';
import type { JsonObject } from '../core/json.ts';
import type { Advice, Advisor } from '../protocols/pdp/advisor.ts';
import { clampMembers, foldNames, withoutMembers } from '../protocols/redaction.ts';
import type { Admission } from './stages/admit.ts';
import { admit } from './stages/admit.ts';
import type { Classify } from './stages/classify.ts';
import { isPermission, refusalCode } from './stages/decide.ts';
import { Switchboard } from './switchboard.ts';

/** Where no route leads, the default entrypoint decides. */
const NOWHERE: readonly AskedRoute[] = [{ entrypoint: null, place: undefined }];

export interface AdvisorParts {
  readonly classify: Classify;
  readonly judge: Judge;
  readonly admission: Admission;
  /** The routes on which the call could be made; none where none leads to what it asks for. */
  routesOf(call: Call): readonly AskedRoute[];
}

const UNLIMITED = { take: () => undefined };

export function createAdvisor(parts: AdvisorParts): Advisor {
  // Somebody who is switched off is asked about like everybody else; the answer is no.
  // Tokens were taken from the asker, whose request it is; the subject's window is the figure the policy reads.
  // A question is no call of the asker's, but stands for one of the subject's, who comes by another route.
  const not = { refusalOf: () => null, isUncounted: () => false };
  const counting = { ...parts.admission, switches: new Switchboard(), limits: UNLIMITED, ...not };
  const routesOf = (call: Call): readonly AskedRoute[] => {
    const routes = parts.routesOf(call);
    return routes.length === 0 ? NOWHERE : routes;
  };
  const judge: Advisor['judge'] = (exchange, calls) => parts.judge(exchange, calls, routesOf);
  return {
    as: ({ received, route }, principal) => admit(counting, { received, route, principal }),
    isOff: (principal) => parts.admission.switches.refusalOf(principal) !== null,
    judge,
    advise(exchange, call) {
      const [decision] = judge(exchange, [call]);
      if (decision === undefined) throw new Error('one call has one decision');
      const off = parts.admission.switches.refusalOf(exchange.principal);
      return adviceOf(parts.classify(call), off === null ? decision : withheld(decision, off));
    },
  };
}

function withheld(decision: Decision, { code, message }: GatewayError): Decision {
  const violation: Violation = { package: 'portcullis', code, message, severity: 'high' };
  return { ...decision, allow: false, deny: [violation], obligations: [] };
}

function adviceOf(call: ClassifiedCall, decision: Decision): Advice {
  if (!isPermission(decision)) {
    return { call, decision, allowed: false, code: refusalCode(decision), parameters: null };
  }
  const parameters = filtered(call, decision);
  // An obligation that cannot be performed on these parameters: the gateway would refuse the call.
  if (parameters === null) return { call, decision, allowed: false, code: 'POLICY_EVALUATION_ERROR', parameters };
  return { call, decision, allowed: true, code: null, parameters };
}

function filtered({ parameters }: Call, { obligations }: Decision): JsonObject | null {
  const given = parameters ?? {};
  if (obligations.length === 0) return given;
  const removed: string[] = [];
  const ceilings = new Map<string, number>();
  for (const obligation of obligations) {
    if (obligation.type === 'redact_parameters') removed.push(...obligation.names);
    if (obligation.type === 'clamp') {
      ceilings.set(obligation.name, Math.min(obligation.maximum, ceilings.get(obligation.name) ?? obligation.maximum));
    }
  }
  return clampMembers(withoutMembers(given, foldNames(removed)), ceilings);
}

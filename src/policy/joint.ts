/**
 * Decisions on delegated calls. Roles are added up by the rules, so what two parties share cannot be told from a list of
 * roles: the policy is asked for each party with its own facts, and all must be allowed. Deny overrides, obligations of
 * all are kept. Source: acceptance SF-42.
 */
import type { A2aFacts, Action, ClassifiedCall } from '../core/call.ts';
import { a2aUser } from '../core/call.ts';
import type { Decision, DecisionRequest, Obligation, Violation } from '../core/decision.ts';
import type { Actor, Principal } from '../core/principal.ts';
import type { PolicyEngine } from './engine.ts';

type Asked = Pick<PolicyEngine, 'decide' | 'decideMany'>;

/** What nobody can have done by another, whatever a policy says: it would outlast the delegation or replace consent. */
const PERSONAL: ReadonlySet<Action> = new Set(['approvals:decide', 'keys:create', 'keys:rotate', 'keys:revoke']);

function isPersonal({ action, resource }: ClassifiedCall): boolean {
  if (PERSONAL.has(action) || action.startsWith('admin:')) return true;
  // The account itself: its password, factors and sessions.
  return resource.type === 'http' && (resource.id === '/auth' || resource.id.startsWith('/auth/'));
}

/** The decision on a call of somebody for whom others act. `principal.parties` names at least one. */
export function decideJointly(engine: Asked, request: DecisionRequest, parties: readonly Principal[]): Decision {
  return together(
    request,
    parties.map((party) => engine.decide(asParty(request, party))),
  );
}

/** The same for many calls of one principal, in the order asked. */
export function decideManyJointly(
  engine: Asked,
  requests: readonly DecisionRequest[],
  parties: readonly Principal[],
): readonly Decision[] {
  const answers = parties.map((party) => engine.decideMany(requests.map((request) => asParty(request, party))));
  return requests.map((request, at) =>
    together(
      request,
      answers.map((decisions) => decisions[at] as Decision),
    ),
  );
}

/** The same question as if this party asked in its own right, with the chain in sight. */
function asParty(request: DecisionRequest, party: Principal): DecisionRequest {
  const { principal } = request;
  return { ...request, principal: inChain(party, principal.actor), call: callOf(request.call, principal.id, party) };
}

/** By party: policies see depth and chain whoever they are asked about. One object per party, for what is kept by it. */
const seen = new WeakMap<Principal, { readonly actor: Actor | null; readonly view: Principal }>();

function inChain(party: Principal, actor: Actor | null): Principal {
  const known = seen.get(party);
  if (known !== undefined && known.actor === actor) return known.view;
  const { parties: _, ...alone } = party;
  const view: Principal = { ...alone, actor };
  seen.set(party, { actor, view });
  return view;
}

/**
 * What belongs to the delegator counts as the party's own: handing rights on is what gives access to it. Whether the
 * delegator owns it is asked when the delegator is the party.
 */
function callOf(call: ClassifiedCall, delegator: string, party: Principal): ClassifiedCall {
  if (party.id === delegator)
    return call.a2a === undefined ? call : { ...call, a2a: sourceOf(call.a2a, delegator, party) };
  const { resource, a2a } = call;
  return {
    ...call,
    resource: resource.owner_id === delegator ? { ...resource, owner_id: party.id } : resource,
    ...(a2a === undefined ? undefined : { a2a: sourceOf(a2a, delegator, party) }),
  };
}

/** Handing on further takes the trust of everyone in the chain. */
function sourceOf(a2a: A2aFacts, delegator: string, party: Principal): A2aFacts {
  return a2a.source_user?.id === delegator ? { ...a2a, source_user: a2aUser(party) } : a2a;
}

const REFUSED: Violation = {
  package: 'portcullis',
  code: 'POLICY_DENIED',
  message: 'This cannot be done for another',
  severity: 'high',
};

const DISAGREEING: Violation = {
  ...REFUSED,
  message: 'The policy demands different things of those who take part',
};

function together({ call }: DecisionRequest, decisions: readonly Decision[]): Decision {
  const personal = isPersonal(call);
  const leading = decisions.find(({ allow }) => !allow) ?? decisions[0];
  // No party is a defect of ours, and nobody who asks is nobody who may.
  if (leading === undefined) throw new TypeError('a delegated call has no party');
  const deny = new Map<string, Violation>();
  const obligations = new Map<string, Obligation>();
  for (const decision of decisions) {
    for (const one of decision.deny) deny.set(JSON.stringify([one.package, one.code, one.message]), one);
    for (const one of decision.obligations) obligations.set(JSON.stringify(one), one);
  }
  const disagreeing = disagreeOnHeaders(obligations.values());
  if (personal) deny.set('', REFUSED);
  if (disagreeing) deny.set(' ', DISAGREEING);
  return {
    decision_id: leading.decision_id,
    allow: !personal && !disagreeing && decisions.every(({ allow }) => allow),
    deny: sorted(deny),
    obligations: sorted(obligations),
    revision: leading.revision,
    cached: decisions.every(({ cached }) => cached),
    eval_us: decisions.reduce((sum, { eval_us }) => sum + eval_us, 0),
    failure: decisions.find(({ failure }) => failure !== null)?.failure ?? null,
  };
}

/** One header cannot have two values, and none of them is known to be the stricter. */
function disagreeOnHeaders(obligations: Iterable<Obligation>): boolean {
  const values = new Map<string, string>();
  for (const one of obligations) {
    if (one.type !== 'set_header') continue;
    const name = one.name.toLowerCase();
    if ((values.get(name) ?? one.value) !== one.value) return true;
    values.set(name, one.value);
  }
  return false;
}

function sorted<T>(byText: ReadonlyMap<string, T>): readonly T[] {
  return [...byText.keys()].sort().map((text) => byText.get(text) as T);
}

/**
 * Stage 6 where a person may have a say. A presented token is verified before the decision and burnt after it, before
 * anything is forwarded; a call that only lacks an approval gets a request for one. Calls without either pass through
 * here as if it were not there. Source: design 2.4, contracts 7.
 */
import type { ClassifiedCall } from '../../core/call.ts';
import type { ApprovalFacts, Decision } from '../../core/decision.ts';
import type { ErrorCode, ErrorExtras } from '../../core/errors.ts';
import { GatewayError } from '../../core/errors.ts';
import type { Classified, Permitted } from '../../core/exchange.ts';
import type { Principal } from '../../core/principal.ts';
import type { PolicyEngine } from '../../policy/engine.ts';
import type { Classify } from './classify.ts';
import type { Performing } from './decide.ts';
import { decide, isApprovedPermission, Refusal, refusalOf, whenApproved } from './decide.ts';

/** What approvals are to the pipeline. */
export interface ApprovalGate {
  /** Whether this token was given out for this caller; says nothing of what it is good for. */
  isOwn(principal: Principal, token: string): boolean;
  /**
   * The facts of the approval that this token stands for, if it is for this very call.
   * @param isDescribed false where a server could not say what its tools are now
   * @throws GatewayError APPROVAL_INVALID, STORE_UNAVAILABLE
   */
  verify(classified: Classified, token: string, revision: string | null, isDescribed: boolean): Promise<ApprovalFacts>;
  /**
   * Burns the verified approval of a permitted call: resolves for exactly one call in all processes.
   * @throws GatewayError APPROVAL_INVALID, STORE_UNAVAILABLE
   */
  use(permitted: Permitted): Promise<void>;
  /**
   * Asks people for an approval, once per call and caller, and says what the caller is told.
   * @param isDescribed false where a server could not say what its tools are now
   * @throws GatewayError POLICY_DENIED where nobody can be asked, RATE_LIMIT_EXCEEDED, STORE_UNAVAILABLE
   */
  request(
    classified: Classified,
    decision: Decision,
    isDescribed: boolean,
  ): Promise<{ readonly code: ErrorCode; readonly extras: ErrorExtras }>;
}

const HEADER = 'x-approval-token';

/** What this stage needs besides what obligations take. */
export interface Approving {
  readonly engine: PolicyEngine;
  readonly classify: Classify;
  /** Null or absent: there are no approvals, and no token is good. */
  readonly approvals?: ApprovalGate | null;
}

/** `decide`, with approvals. */
export function decideWithApproval(
  approving: Approving,
  performing: Performing,
  classified: Classified,
): Permitted | Promise<Permitted> {
  if (classified.received.headers[HEADER] !== undefined || classified.message.approvalToken !== undefined) {
    return present(approving, performing, classified);
  }
  const gate = approving.approvals ?? null;
  try {
    return decide(approving.engine, performing, classified);
  } catch (thrown) {
    if (gate === null || !(thrown instanceof Refusal) || !asksForApproval(thrown)) throw thrown;
    return ask(approving, performing, gate, classified, thrown);
  }
}

/**
 * A bad token is refused also where the call needs none: whoever sends one believes that a person said yes to this
 * call, and should learn that nobody did.
 */
async function present(approving: Approving, performing: Performing, classified: Classified): Promise<Permitted> {
  const { engine, approvals: gate = null } = approving;
  const token = oneToken(classified);
  if (gate === null || token === null) {
    const message = token === null ? 'Two different approval tokens were sent' : 'There are no approvals here';
    throw new GatewayError('APPROVAL_INVALID', { message, data: { why: 'ambiguous' } });
  }
  // No server is asked anything for a text that nobody gave out.
  const isOwn = gate.isOwn(classified.principal, token);
  if (isOwn) await refuseAnyway(engine, performing, classified);
  const described = isOwn ? await asOfNow(approving, performing, classified) : classified;
  const today = described ?? undescribed(classified);
  const approval = await gate.verify(today, token, engine.revision, described !== null);
  const approved: Classified = { ...today, facts: { ...today.facts, approval } };
  const permitted = await decideApproved(engine, performing, approved);
  await gate.use(permitted);
  return permitted;
}

/** The call as it is with the tool's definition of today, classified by it; null when the server does not tell. */
async function asOfNow(
  { classify }: Approving,
  { protocol }: Performing,
  classified: Classified,
): Promise<Classified | null> {
  if (protocol.current === undefined) return classified;
  const { message } = classified;
  const calls = await protocol.current(classified);
  if (calls === null || calls === message.calls) return calls === null ? null : classified;
  return { ...classified, message: { ...message, calls }, calls: calls.map((call) => classify(call)) };
}

/** What cannot be read now is not known, whatever was read once. */
function undescribed(classified: Classified): Classified {
  return { ...classified, calls: classified.calls.map((call) => ({ ...call, schema_hash: null })) };
}

/** A policy that goes on asking does not take this yes: without another word the caller would ask for ever. */
async function decideApproved(engine: PolicyEngine, performing: Performing, approved: Classified): Promise<Permitted> {
  try {
    return await decide(engine, performing, approved);
  } catch (thrown) {
    if (!(thrown instanceof Refusal) || thrown.code !== 'APPROVAL_REQUIRED') throw thrown;
    const message = 'The policy does not accept this approval';
    const data = { ...thrown.extras.data, why: 'not_accepted', approval_id: approved.facts.approval.id };
    const reasons = [{ code: 'APPROVAL_INVALID', message }];
    throw new Refusal('APPROVAL_INVALID', { message, reasons, data }, thrown.decisions);
  }
}

function oneToken({ received, message }: Classified): string | null {
  const inHeader = received.headers[HEADER];
  const inBody = message.approvalToken;
  if (inHeader === undefined) return inBody ?? null;
  return inBody === undefined || inBody === inHeader ? inHeader : null;
}

function asksForApproval({ decisions }: Refusal): boolean {
  for (const { failure, obligations } of decisions) {
    if (failure === null && obligations.some(({ type }) => type === 'require_approval')) return true;
  }
  return false;
}

/**
 * Throws where the call is refused whatever anybody said yes to: a token may be shown any number of times, and must cost
 * no server a question where the server is switched off or the caller asks too often.
 */
async function refuseAnyway(engine: PolicyEngine, performing: Performing, classified: Classified): Promise<void> {
  const off = performing.switches.refusalOfMessage(classified.message);
  if (off !== null) throw off;
  const [call, ...more] = classified.calls;
  // Servers are asked about calls of tools alone.
  if (call === undefined || more.length > 0 || call.action !== 'gateway:tool:invoke') return;
  if (isApprovedPermission(whenSupposed(engine, classified, call))) return;
  try {
    await decide(engine, performing, classified);
  } catch (thrown) {
    if (!(thrown instanceof Refusal) || !asksForApproval(thrown)) throw thrown;
  }
}

/** What the decision would be if somebody had said yes. Nobody has: no id, and nobody's name. */
const SUPPOSED: ApprovalFacts = {
  present: true,
  verified: true,
  id: null,
  approver_id: null,
  expires_at: null,
  reason: null,
};

function whenSupposed(engine: PolicyEngine, classified: Classified, call: ClassifiedCall): Decision {
  const { facts, principal, route } = classified;
  const supposed = { ...facts, approval: SUPPOSED };
  return whenApproved(
    engine.weigh({ facts: supposed, principal, call, entrypoint: route.entrypoint, place: route.place }),
  );
}

/** Asks only where a yes would help: people must not be asked for what is denied anyway. */
async function ask(
  approving: Approving,
  performing: Performing,
  gate: ApprovalGate,
  classified: Classified,
  refused: Refusal,
): Promise<Permitted> {
  const { engine } = approving;
  refuseInVain(engine, classified, refused);
  // What a person says yes to is bound to what the server says of the tool now.
  const today = await asOfNow(approving, performing, classified);
  if (today === null || today === classified) return await request(gate, classified, refused, today !== null);
  try {
    return await decide(engine, performing, today);
  } catch (thrown) {
    if (!(thrown instanceof Refusal) || !asksForApproval(thrown)) throw thrown;
    refuseInVain(engine, today, thrown);
    return await request(gate, today, thrown, true);
  }
}

/** Throws where nobody's yes would let the call through. */
function refuseInVain(engine: PolicyEngine, classified: Classified, refused: Refusal): void {
  const { calls } = classified;
  const [decision] = refused.decisions;
  const [call] = calls;
  if (decision === undefined || call === undefined || calls.length !== 1) {
    const message = 'Several things at once cannot be approved: ask for each alone';
    throw new Refusal('POLICY_DENIED', { message, reasons: [{ code: 'POLICY_DENIED', message }] }, refused.decisions);
  }
  const then = whenSupposed(engine, classified, call);
  if (!isApprovedPermission(then)) throw refusalOf(then, decision, classified);
}

async function request(
  gate: ApprovalGate,
  classified: Classified,
  { decisions }: Refusal,
  isDescribed: boolean,
): Promise<never> {
  const [decision] = decisions;
  if (decision === undefined) throw new Refusal('POLICY_DENIED', {}, decisions);
  try {
    const { code, extras } = await gate.request(classified, decision, isDescribed);
    throw new Refusal(code, extras, decisions);
  } catch (thrown) {
    // Whatever came of asking, the decision was made and belongs into the records.
    if (thrown instanceof Refusal || !(thrown instanceof GatewayError)) throw thrown;
    throw new Refusal(thrown.code, { cause: thrown, ...thrown.extras, message: thrown.message }, decisions);
  }
}

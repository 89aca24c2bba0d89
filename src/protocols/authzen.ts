/**
 * OpenID AuthZEN Authorization API 1.0: access evaluation, one at a time and several at once, and the metadata document.
 * The words of the standard are mapped to the gateway's own questions; what has no counterpart is refused by name.
 */
import { setImmediate } from 'node:timers/promises';
import { CATALOGUE, GatewayError, toGatewayError } from '../core/errors.ts';
import type { Admitted } from '../core/exchange.ts';
import type { Principal } from '../core/principal.ts';
import { endpointCall } from './api.ts';
import type { Endpoint, EndpointReply, EndpointRequest } from './endpoint.ts';
import { checked } from './endpoint-body.ts';
import type { Evaluation, EvaluationResult, EvaluationsRequest } from './pdp/authzen-schemas.ts';
import { evaluation, evaluationsRequest } from './pdp/authzen-schemas.ts';
import { personOf, questionOf } from './pdp/authzen-words.ts';
import { reasonOf, refuseFailure } from './pdp/document.ts';
import { callAbout } from './pdp/questions.ts';
import { isSelf, subjectOf } from './pdp/subjects.ts';
import type { PdpOptions } from './pdp-api.ts';
import { needs, QUESTION_LIMIT } from './pdp-api.ts';
import type { Protocol } from './protocol.ts';

export interface AuthZenOptions extends PdpOptions {
  /** Base URL under which this gateway is known, without trailing slash. */
  baseUrl(exchange: Admitted): string;
}

export function authZenEndpoints(options: AuthZenOptions): readonly Endpoint[] {
  return [evaluationEndpoint(options), evaluationsEndpoint(options), metadataEndpoint(options)] as readonly Endpoint[];
}

const EVALUATION = '/access/v1/evaluation';
const EVALUATIONS = '/access/v1/evaluations';
/** UTF-16 units of all evaluations with what they share written out: what is sent once is looked at for each of them. */
const WRITTEN_OUT_LIMIT = 4 * QUESTION_LIMIT;

function evaluationEndpoint(options: AuthZenOptions): Endpoint<Evaluation> {
  return {
    method: 'POST',
    path: EVALUATION,
    access: 'authenticated',
    body: { schema: evaluation, limit: QUESTION_LIMIT, misfit: 'INVALID_REQUEST' },
    call: ({ exchange, body }) => endpointCall(exchange, EVALUATION, permissionFor(exchange, [body])),
    answer: async ({ exchange, body }) => echoed(exchange, await evaluate(options, exchange, body)),
  };
}

/** Asking for anybody but oneself takes the right to. */
function permissionFor({ principal }: Admitted, all: readonly Pick<Evaluation, 'subject'>[]) {
  return needs('gateway:authorize', !all.every(({ subject }) => isSelf(principal, personOf(subject))));
}

/** One answer. Throws a GatewayError where there is none to give. */
async function evaluate(
  options: AuthZenOptions,
  exchange: Admitted,
  asked: Evaluation,
  counted = new Map<string, Admitted>(),
): Promise<EvaluationResult> {
  const question = questionOf(asked);
  const call = callAbout(options, question);
  const caller = exchange.principal;
  const subject = subjectOf(caller, personOf(asked.subject));
  const as = await countedOnce(options, exchange, subject, counted);
  const advice = options.advisor.advise(as, call);
  options.onAdvice(as, advice, caller.id);
  refuseFailure(advice);
  const { decision, code, allowed } = advice;
  const ids = { decision_id: decision.decision_id, request_id: exchange.received.id };
  const duties = decision.obligations.length === 0 ? {} : { obligations: decision.obligations };
  if (allowed) return { decision: true, context: { ...ids, ...duties } };
  const text = reasonOf(advice) ?? '';
  return { decision: false, context: { ...ids, code, reason: text, reason_user: { en: text }, ...duties } };
}

/** However many evaluations are about somebody, it is one request of theirs. */
async function countedOnce(
  { advisor }: AuthZenOptions,
  exchange: Admitted,
  subject: Principal,
  counted: Map<string, Admitted>,
): Promise<Admitted> {
  const known = counted.get(subject.id);
  if (known !== undefined) return { ...known, principal: subject };
  const as = await advisor.as(exchange, subject);
  counted.set(subject.id, as);
  return as;
}

function evaluationsEndpoint(options: AuthZenOptions): Endpoint<EvaluationsRequest> {
  return {
    method: 'POST',
    path: EVALUATIONS,
    access: 'authenticated',
    body: { schema: evaluationsRequest, limit: QUESTION_LIMIT, misfit: 'INVALID_REQUEST' },
    call: ({ exchange, body }) => endpointCall(exchange, EVALUATIONS, permissionFor(exchange, subjectsOf(body))),
    answer: (request) => answerEvaluations(options, request),
  };
}

/** Who is asked about anywhere in the list; entries that name nobody are no question about somebody else. */
function subjectsOf({ subject, evaluations = [] }: EvaluationsRequest): Pick<Evaluation, 'subject'>[] {
  const named = [subject, ...evaluations.map((one) => one.subject)].filter((one) => one !== undefined);
  return named.map((one) => ({ subject: one }));
}

async function answerEvaluations(
  options: AuthZenOptions,
  { exchange, body }: EndpointRequest<EvaluationsRequest>,
): Promise<EndpointReply> {
  const { evaluations = [], options: wanted, ...defaults } = body;
  if (evaluations.length === 0) {
    // Without a list it is a single question, as the standard says.
    return echoed(exchange, await evaluate(options, exchange, checked(evaluation, defaults, 'INVALID_REQUEST')));
  }
  refuseExcess(defaults, evaluations);
  const semantic = wanted?.evaluations_semantic ?? 'execute_all';
  const results: EvaluationResult[] = [];
  const counted = new Map<string, Admitted>();
  for (const [at, one] of evaluations.entries()) {
    // Long statements take long to classify: others must get their turn, and nobody may be left to read the answer.
    if (at > 0) await setImmediate();
    if (exchange.received.cancel.aborted) throw new GatewayError('CLIENT_CLOSED');
    const result = await evaluateOrSay(options, exchange, { ...defaults, ...one }, counted);
    results.push(result);
    if (semantic === 'deny_on_first_deny' && !result.decision) break;
    if (semantic === 'permit_on_first_permit' && result.decision) break;
  }
  return echoed(exchange, { evaluations: results });
}

const SHARED = ['subject', 'action', 'resource', 'context'] as const;

/** Throws PAYLOAD_TOO_LARGE where little that is sent would be much work. */
function refuseExcess(defaults: Omit<EvaluationsRequest, 'evaluations' | 'options'>, all: readonly object[]): void {
  let length = 0;
  for (const name of SHARED) {
    if (defaults[name] === undefined) continue;
    const heirs = all.filter((one) => !Object.hasOwn(one, name)).length;
    length += heirs * JSON.stringify(defaults[name]).length;
  }
  if (length <= WRITTEN_OUT_LIMIT) return;
  const message = `Written out with what they share, the evaluations are longer than ${WRITTEN_OUT_LIMIT} characters: ask for fewer at once`;
  throw new GatewayError('PAYLOAD_TOO_LARGE', { message, details: { limit: WRITTEN_OUT_LIMIT } });
}

/** A bad entry is a deny that says why; the others keep their answers. */
async function evaluateOrSay(
  options: AuthZenOptions,
  exchange: Admitted,
  asked: unknown,
  counted: Map<string, Admitted>,
): Promise<EvaluationResult> {
  try {
    return await evaluate(options, exchange, checked(evaluation, asked, 'INVALID_REQUEST'), counted);
  } catch (thrown) {
    if (!(thrown instanceof GatewayError)) throw toGatewayError(thrown);
    const { status, code, message } = thrown;
    const said = status >= 500 ? CATALOGUE[code].title : message;
    return { decision: false, context: { error: { status, message: said, code }, request_id: exchange.received.id } };
  }
}

/** The standard wants the caller's own X-Request-ID back; the gateway's stands in the context. */
function echoed({ received }: Admitted, body: object): EndpointReply {
  return { status: 200, body, headers: requestIdOf(received) };
}

function requestIdOf({ incoming }: Admitted['received']): Readonly<Record<string, string>> {
  const { 'x-request-id': theirs } = incoming.headers;
  const isPlain = typeof theirs === 'string' && /^[\w.:-]{1,128}$/.test(theirs);
  return isPlain ? { 'x-request-id': theirs } : {};
}

/** The same rendering of errors, with the caller's own X-Request-ID where the standard is spoken. */
export function withRequestId(render: Protocol['encodeError']): Protocol['encodeError'] {
  return (error, context, exchange) => {
    const reply = render(error, context, exchange);
    const path = exchange?.received.path;
    if (exchange === null || (path !== EVALUATION && path !== EVALUATIONS)) return reply;
    return { ...reply, headers: { ...reply.headers, ...requestIdOf(exchange.received) } };
  };
}

function metadataEndpoint(options: AuthZenOptions): Endpoint {
  return {
    method: 'GET',
    path: '/.well-known/authzen-configuration',
    access: 'anyone',
    body: null,
    answer({ exchange }) {
      const base = options.baseUrl(exchange);
      return {
        status: 200,
        body: {
          policy_decision_point: base,
          access_evaluation_endpoint: `${base}${EVALUATION}`,
          access_evaluations_endpoint: `${base}${EVALUATIONS}`,
        },
      };
    },
  };
}

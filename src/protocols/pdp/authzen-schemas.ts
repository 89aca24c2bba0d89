/** Shapes of the AuthZEN Authorization API 1.0. Unknown members are let be, as the standard wants. */
import { z } from 'zod';
import { jsonObject, person } from './schemas.ts';

const MAX_EVALUATIONS = 100;
const text = (max: number) => z.string().min(1).max(max);
const properties = jsonObject;

const subject = z
  .object({
    type: z.enum(['user', 'service', 'agent']),
    id: person.shape.id,
    properties: person.omit({ id: true, type: true }).optional(),
  })
  .meta({ id: 'Subject' });

const action = z.object({ name: text(64), properties: properties.optional() }).meta({ id: 'Action' });

const resource = z
  .object({
    type: z.enum(['tool', 'server', 'resource', 'prompt', 'model']),
    id: text(8448),
    properties: properties.optional(),
  })
  .meta({ id: 'Resource' });

export const evaluation = z
  .object({ subject, action, resource, context: properties.optional() })
  .meta({ id: 'Evaluation' });
export type Evaluation = z.output<typeof evaluation>;

/** Entries are checked one by one when their turn comes, so that a bad one spoils no other; who they ask for comes first. */
const entry = z.looseObject({ subject: subject.optional() });

export const evaluationsRequest = z
  .looseObject({
    subject: subject.optional(),
    action: action.optional(),
    resource: resource.optional(),
    context: properties.optional(),
    evaluations: z
      .array(entry)
      .max(MAX_EVALUATIONS, `at most ${MAX_EVALUATIONS} evaluations in one request`)
      .optional(),
    options: z
      .looseObject({
        evaluations_semantic: z.enum(['execute_all', 'deny_on_first_deny', 'permit_on_first_permit']).optional(),
      })
      .optional(),
  })
  .meta({ id: 'EvaluationsRequest' });
export type EvaluationsRequest = z.output<typeof evaluationsRequest>;

export const evaluationResult = z
  .object({ decision: z.boolean(), context: properties.optional() })
  .meta({ id: 'EvaluationResult' });
export interface EvaluationResult {
  readonly decision: boolean;
  readonly context?: object;
}

export const evaluationsResponse = z
  .union([z.object({ evaluations: z.array(evaluationResult) }), evaluationResult])
  .meta({ id: 'EvaluationsResponse' });

export const metadataDocument = z
  .object({
    policy_decision_point: z.string(),
    access_evaluation_endpoint: z.string(),
    access_evaluations_endpoint: z.string(),
  })
  .meta({ id: 'AuthZenConfiguration' });

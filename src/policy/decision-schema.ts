/**
 * What a policy answers, as a schema for those who write or generate policies: `policies/decision.schema.json` is made
 * from it. The engine reads answers with `result.ts`, which is faster; a test holds the two together. Source: design 2.5.
 */
import { z } from 'zod';
import type { ErrorCode } from '../core/errors.ts';
import { CATALOGUE } from '../core/errors.ts';

const codes = Object.keys(CATALOGUE) as [ErrorCode, ...ErrorCode[]];

const violation = z.looseObject({
  package: z.string().describe('the Rego package that says so; never shown to callers'),
  code: z.enum(codes).describe('the error code where it is the only one'),
  message: z.string().describe('one sentence for the caller'),
  severity: z.enum(['low', 'medium', 'high', 'critical']),
});

const text = z.string().min(1);
const names = z.array(text).min(1);
const count = z.int().min(0);
/** A day: longer counts are quotas, which need a store that keeps them. */
const MAX_WINDOW_SECONDS = 86_400;

const obligation = z.discriminatedUnion('type', [
  z.looseObject({
    type: z.literal('require_approval'),
    reason: text.optional(),
    ttl_seconds: count.optional(),
  }),
  z.looseObject({ type: z.literal('require_mfa') }),
  z.looseObject({ type: z.literal('redact_parameters'), names }),
  z.looseObject({ type: z.literal('redact_result'), names }),
  z.looseObject({ type: z.literal('inject_credential'), auth_type: text, key: text }),
  z.looseObject({
    type: z.literal('rate_limit'),
    limit: count,
    window_seconds: z.int().min(1).max(MAX_WINDOW_SECONDS),
    name: text.optional(),
  }),
  z.looseObject({ type: z.literal('clamp'), name: text, maximum: z.number() }),
  z.looseObject({ type: z.literal('set_header'), name: text, value: z.string().regex(/^[^\r\n\0]*$/) }),
  z.looseObject({ type: z.literal('audit'), level: z.enum(['full', 'metadata']) }),
]);

/** The value of `portcullis/main/decision`, and of each element of `portcullis/main/decisions`. */
export const policyDecision = z.looseObject({
  allow: z.boolean(),
  deny: z.array(violation).describe('empty for an allow; a decision with reasons against it is a deny'),
  obligations: z.array(obligation).describe('what the gateway does for an allow to hold; an unknown type denies'),
  valid_until: z
    .union([z.number().min(0), z.iso.datetime({ offset: true }), z.null()])
    .optional()
    .describe('epoch nanoseconds or RFC 3339: the decision must not be used after it'),
});
/** A decision as a policy gives it. */
export type PolicyDecision = z.output<typeof policyDecision>;

/** The JSON Schema that is published. */
export function policyDecisionSchema(): object {
  return {
    ...z.toJSONSchema(policyDecision, { target: 'draft-7' }),
    $id: 'portcullis/decision.schema.json',
    title: 'Policy decision, version 1',
    description: 'What a policy answers for one call. Whatever does not fit this is a deny.',
  };
}

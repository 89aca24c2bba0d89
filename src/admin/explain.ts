/** `POST /policy/explain`: why the policy in force decides what it decides. Source: policy-engine 7. */
import { z } from 'zod';
import type { JsonObject } from '../core/json.ts';
import type { Explanation } from '../policy/explain/explain.ts';
import type { AdminAction, AdminHono } from './app.ts';
import { readBody } from './body.ts';

/** What is to be explained: a document, or a decision of the log by its id or by that of its request. */
export type ExplainQuestion = (
  | { readonly input: JsonObject; readonly entrypoint?: string | undefined; readonly clock?: string | undefined }
  | { readonly id: string }
) & {
  /** How often the rules are to be timed; 0: no profile. */
  readonly repeat: number;
  readonly coverage: boolean;
};

/** Explains, or rejects with a GatewayError: NOT_FOUND, CONFLICT (another policy decided it), UNPROCESSABLE. */
export type ExplainAdmin = (question: ExplainQuestion) => Promise<Explanation>;

const DEFAULT_REPEATS = 5;
const MAX_REPEATS = 100;

const id = z.string().min(1).max(256);
const measures = {
  profile: z.boolean().optional(),
  repeat: z.int().min(1).max(MAX_REPEATS).optional(),
  coverage: z.boolean().optional(),
};
const body = z.union([
  z.strictObject({
    input: z.record(z.string(), z.json()),
    entrypoint: z.string().min(1).max(256).optional(),
    clock: z.iso.datetime({ offset: true }).optional(),
    ...measures,
  }),
  z.strictObject({ request_id: id, ...measures }),
  z.strictObject({ decision_id: id, ...measures }),
]);

/** Reading decisions is an act of the operator's that leaves a trace. */
export function explainRoutes(
  app: AdminHono,
  explain: ExplainAdmin,
  events: { onAction(action: AdminAction): void },
): void {
  app.post('/policy/explain', async (c) => {
    const { received } = c.env;
    const { profile = false, repeat = DEFAULT_REPEATS, coverage = false, ...asked } = await readBody(c, body);
    const wanted = { repeat: profile ? repeat : 0, coverage };
    const question: ExplainQuestion =
      'input' in asked
        ? { ...asked, input: asked.input as JsonObject, ...wanted }
        : { id: 'request_id' in asked ? asked.request_id : asked.decision_id, ...wanted };
    const details = 'id' in question ? { id: question.id } : { input: true };
    const record = (outcome: AdminAction['outcome']): void =>
      events.onAction({ received, operation: 'policy:explain', outcome, details });
    try {
      const explanation = await explain(question);
      record('allowed');
      return c.json(explanation);
    } catch (error) {
      record('failed');
      throw error;
    }
  });
}

/** `POST /policy/explain`: why the policy in force decides what it decides. Source: policy-engine 7. */
import { z } from 'zod';
import type { JsonObject } from '../core/json.ts';
import type { Explanation } from '../policy/explain/explain.ts';
import type { AdminAction, AdminHono } from './app.ts';
import { readBody } from './body.ts';

/** What is to be explained: a document, or a decision of the log by its id or by that of its request. */
export type ExplainQuestion =
  | { readonly input: JsonObject; readonly entrypoint?: string | undefined; readonly clock?: string | undefined }
  | { readonly id: string };

/** Explains, or rejects with a GatewayError: NOT_FOUND, CONFLICT (another policy decided it), UNPROCESSABLE. */
export type ExplainAdmin = (question: ExplainQuestion) => Promise<Explanation>;

const id = z.string().min(1).max(256);
const body = z.union([
  z.strictObject({
    input: z.record(z.string(), z.json()),
    entrypoint: z.string().min(1).max(256).optional(),
    clock: z.iso.datetime({ offset: true }).optional(),
  }),
  z.strictObject({ request_id: id }),
  z.strictObject({ decision_id: id }),
]);

/** Reading decisions is an act of the operator's that leaves a trace. */
export function explainRoutes(
  app: AdminHono,
  explain: ExplainAdmin,
  events: { onAction(action: AdminAction): void },
): void {
  app.post('/policy/explain', async (c) => {
    const { received } = c.env;
    const asked = await readBody(c, body);
    const question: ExplainQuestion =
      'input' in asked
        ? { ...asked, input: asked.input as JsonObject }
        : { id: 'request_id' in asked ? asked.request_id : asked.decision_id };
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

/** What the operator says of a tool (`servers.*.tools.*`). Source: contracts 3, acceptance TW-05. */
import { z } from 'zod';
import { DATA_SENSITIVITIES, SENSITIVITIES, TOOL_COSTS } from '../core/call.ts';
import { scopesSchema } from './scope-schema.ts';

const toolSchema = z.strictObject({
  type: z.string().min(1).optional().describe('replaces only the unknown default'),
  sensitivity: z.enum(SENSITIVITIES).optional().describe('replaces only the unknown default'),
  floor: z.enum(SENSITIVITIES).optional().describe('the least sensitivity; only raises'),
  requires_hitl: z.boolean().default(false).describe('every call needs the approval of another person'),
  cost: z.enum(TOOL_COSTS).optional().describe('what a call costs, for policies'),
  data_sensitivity: z.enum(DATA_SENSITIVITIES).optional().describe('whose data it shows, for policies'),
  sensitive_params: z.array(z.string()).default([]).describe('arguments whose values are never written down'),
  scopes: scopesSchema.describe('OAuth scopes that a call needs besides those of the route'),
});

/** By name. A name with stars stands for all tools that are called like it, and says only which scopes they need. */
export const toolsSchema = z
  .record(z.string(), toolSchema)
  .superRefine((tools, context) => {
    for (const [name, { scopes, requires_hitl, sensitive_params, ...others }] of Object.entries(tools)) {
      if (!name.includes('*')) continue;
      const isMore =
        requires_hitl || sensitive_params.length > 0 || Object.values(others).some((one) => one !== undefined);
      // Whatever else stands here would hold for no tool at all, and nobody would notice.
      if (isMore || scopes.length === 0)
        context.addIssue({ code: 'custom', path: [name], message: 'a name with * takes scopes, and nothing else' });
    }
  })
  .default({});

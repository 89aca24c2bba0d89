/** What the operator says of a tool (`servers.*.tools.*`). Source: contracts 3, acceptance TW-05. */
import { z } from 'zod';
import { DATA_SENSITIVITIES, SENSITIVITIES, TOOL_COSTS } from '../core/call.ts';

export const toolSchema = z.strictObject({
  type: z.string().min(1).optional().describe('replaces only the unknown default'),
  sensitivity: z.enum(SENSITIVITIES).optional().describe('replaces only the unknown default'),
  floor: z.enum(SENSITIVITIES).optional().describe('the least sensitivity; only raises'),
  requires_hitl: z.boolean().default(false).describe('every call needs the approval of another person'),
  cost: z.enum(TOOL_COSTS).optional().describe('what a call costs, for policies'),
  data_sensitivity: z.enum(DATA_SENSITIVITIES).optional().describe('whose data it shows, for policies'),
  sensitive_params: z.array(z.string()).default([]).describe('arguments whose values are never written down'),
});

/** The shape of `key_service`: what this gateway is for other gateways that ask it about keys. Source: acceptance HW-07, HW-08. */
import { z } from 'zod';

export const keyServiceSchema = z.strictObject({
  enabled: z.boolean().default(true).describe('serves /api/v1/keys; who may use it is a matter of permissions keys:*'),
  prefix: z
    .string()
    .regex(/^[a-z][a-z0-9]*(_[a-z0-9]+)*$/)
    .max(32)
    .default('hok')
    .describe('what keys made there begin with'),
  service_id: z.string().min(1).max(128).default('ml-platform').describe('what a new key is for when nothing is said'),
});

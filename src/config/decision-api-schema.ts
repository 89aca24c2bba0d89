/** `decision_api`: which parts of the decision API answer, and how often it may be asked. Source: acceptance SW-05, SW-06, SW-08. */
import { z } from 'zod';

const perMinute = (requests: number) => z.int().min(1).max(100_000_000).nullable().default(requests);

export const decisionApiSchema = z.strictObject({
  gateway: z
    .boolean()
    .default(true)
    .describe('false refuses everything below /api/v1/gateway with GATEWAY_NOT_ENABLED'),
  a2a: z.boolean().default(true).describe('false refuses questions about calls between agents with A2A_NOT_ENABLED'),
  limits: z
    .strictObject({
      users: perMinute(1000).describe('requests a minute of a person; null: no limit'),
      agents: perMinute(5000).describe('of an agent with a token'),
      gateways: perMinute(10_000).describe('of an API key, and of a service with a token or a certificate'),
    })
    .prefault({}),
});

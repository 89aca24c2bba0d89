/** How people say yes to single calls. */
import { z } from 'zod';
import type { Secret } from '../core/secret.ts';

const LOOPBACK = new Set(['localhost', '127.0.0.1', '[::1]']);

/** Who waits for what is nothing for everybody on the way. */
const hookUrl = z.string().refine((text) => {
  const url = URL.parse(text);
  if (url === null || url.username !== '' || url.hash !== '') return false;
  return url.protocol === 'https:' || (url.protocol === 'http:' && LOOPBACK.has(url.hostname));
}, 'expected an https address such as https://chat.example.com/hooks/approvals (http only to this machine)');

/** `secret` is the schema of a secret, handed in because it lives with the rest of the configuration. */
export function approvalsSchema(secret: z.ZodType<Secret, string | Secret>) {
  return z.strictObject({
    ttl_seconds: z
      .int()
      .min(10)
      .max(86_400)
      .default(900)
      .describe('how long a request waits for a decision and for its use; a policy may shorten it'),
    require_mfa: z
      .boolean()
      .default(true)
      .describe(
        'approvers need a second factor; the policy’s data has a switch of its own, and the stricter one counts',
      ),
    allow_programs: z
      .boolean()
      .default(false)
      .describe(
        'services may decide too, and a second factor that an API key was made with counts; without it only people who log in decide',
      ),
    allow_unlisted_tools: z
      .boolean()
      .default(false)
      .describe(
        'calls of tools that their server does not list may be approved; without it they are denied, for nobody could tell what is approved',
      ),
    max_pending: z.int().min(1).max(10_000).default(50).describe('requests of one caller that wait at the same time'),
    retention_days: z
      .int()
      .min(1)
      .max(3650)
      .default(30)
      .describe('how long closed requests are kept; audit keeps more'),
    webhook: z
      .strictObject({
        url: hookUrl.describe('told of every step, without arguments'),
        secret: secret.describe('signs what is sent, after Standard Webhooks; whsec_… or any text'),
        timeout_ms: z.int().min(100).max(60_000).default(5000),
      })
      .optional(),
  });
}

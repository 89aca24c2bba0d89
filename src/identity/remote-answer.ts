/**
 * What an external key service says of a key, read from its JSON answer. Anything that is not clearly a yes is a no, and
 * an answer that cannot be read is an outage, never a yes. Source: acceptance HW-02, HW-05, HF-03.
 */
import { z } from 'zod';
import type { RejectionReason } from './provider.ts';
import { readJsonObject } from './strict-json.ts';

/** What is known of a good key; kept in caches, so it holds nothing of the key itself. */
export interface RemoteKeyFacts {
  readonly user_id: string;
  readonly key_id: string;
  readonly email: string | null;
  readonly service_id: string | null;
  readonly scopes: readonly string[];
  readonly roles: readonly string[];
  readonly is_admin: boolean;
  /** Null: none. */
  readonly rate_limit_per_hour: number | null;
  /** Epoch milliseconds. */
  readonly expires_at: number | null;
}

/** `unavailable` says nothing about the key; `again`: asking once more may help. */
export type RemoteVerdict =
  | { readonly kind: 'good'; readonly facts: RemoteKeyFacts }
  | {
      readonly kind: 'bad';
      readonly reason: Exclude<RejectionReason, 'unavailable'>;
      readonly detail: string;
      /** Seconds. */
      readonly retryAfter?: number;
    }
  | { readonly kind: 'unavailable'; readonly detail: string; readonly again: boolean };

/** Requests an hour where the service does not say. */
const DEFAULT_LIMIT = 1000;
/** Seconds, where the service that counts does not say. */
const DEFAULT_RETRY_AFTER = 60;
const MAX_RETRY_AFTER = 3600;

const id = z
  .union([z.string(), z.int().transform(String)])
  .pipe(z.string().regex(/^[^\p{Cc}]{1,256}$/u, 'must be 1 to 256 characters without control characters'));
const words = z
  .array(z.string().min(1).max(256))
  .max(1000)
  .nullish()
  .transform((list) => list ?? []);

/** `ValidationResult` of the service. Members nobody knows are left unread: services grow. */
const answerSchema = z.object({
  is_valid: z.boolean(),
  user_id: id.nullish(),
  key_id: id.nullish(),
  email: z.string().max(320).nullish(),
  service_id: z.string().max(128).nullish(),
  scopes: words,
  roles: words,
  is_admin: z.boolean().nullish(),
  rate_limit_per_hour: z.int().min(1).max(1_000_000_000).nullable().default(DEFAULT_LIMIT),
  has_sufficient_balance: z.boolean().nullish(),
  error_type: z.string().max(64).nullish(),
  expires_at: z.iso.datetime({ offset: true }).nullish(),
});

/** Of a cached entry; what was written by us has exactly this shape. */
export const factsSchema: z.ZodType<RemoteKeyFacts> = z.strictObject({
  user_id: z.string().min(1).max(256),
  key_id: z.string().min(1).max(256),
  email: z.string().nullable(),
  service_id: z.string().nullable(),
  scopes: z.array(z.string()),
  roles: z.array(z.string()),
  is_admin: z.boolean(),
  rate_limit_per_hour: z.int().min(1).nullable(),
  expires_at: z.int().nullable(),
});

export function unavailable(detail: string, again: boolean): RemoteVerdict {
  return { kind: 'unavailable', detail, again };
}

/**
 * @param body bytes of an answer with status 200
 * @param serviceId of this gateway: a key for another service opens nothing here
 */
export function readAnswer(body: Uint8Array, serviceId: string): RemoteVerdict {
  const object = readJsonObject(body);
  const parsed = object === null ? null : answerSchema.safeParse(object);
  if (parsed === null || !parsed.success) return unavailable('the answer is no validation result', false);
  const answer = parsed.data;
  if (answer.error_type === 'unavailable') return unavailable('the service says that it is unavailable', false);
  if (answer.error_type === 'rate_limited') return limited(undefined);
  if (answer.has_sufficient_balance === false) return noBalance();
  if (!answer.is_valid) return bad('invalid', 'the service says that the key is not valid');
  const { user_id, key_id } = answer;
  if (user_id === null || user_id === undefined || key_id === null || key_id === undefined) {
    return unavailable('the answer names no user or no key', false);
  }
  const service_id = answer.service_id ?? null;
  if (service_id !== null && service_id !== serviceId) return bad('forbidden', 'a key for another service');
  const facts: RemoteKeyFacts = {
    user_id,
    key_id,
    service_id,
    email: answer.email ?? null,
    scopes: answer.scopes,
    roles: answer.roles,
    is_admin: answer.is_admin ?? false,
    rate_limit_per_hour: answer.rate_limit_per_hour,
    expires_at: typeof answer.expires_at === 'string' ? Date.parse(answer.expires_at) : null,
  };
  return { kind: 'good', facts };
}

/** An answer other than 200. Null for one with 200: its body decides. */
export function readStatus(status: number, retryAfter: string | undefined, now: number): RemoteVerdict | null {
  if (status === 200) return null;
  if (status === 401) return bad('invalid', 'the service does not know the key');
  if (status === 402) return noBalance();
  if (status === 403) return bad('forbidden', 'the service forbids the key');
  if (status === 429) return limited(seconds(retryAfter, now));
  // A redirect is not followed: the key would go to somebody else.
  return unavailable(`the service answered with status ${status}`, status >= 500);
}

function bad(reason: 'invalid' | 'forbidden', detail: string): RemoteVerdict {
  return { kind: 'bad', reason, detail };
}

function noBalance(): RemoteVerdict {
  return { kind: 'bad', reason: 'no-balance', detail: 'the account has no balance left' };
}

function limited(retryAfter: number | undefined): RemoteVerdict {
  const detail = 'the service limits the key';
  return { kind: 'bad', reason: 'rate-limited', detail, retryAfter: retryAfter ?? DEFAULT_RETRY_AFTER };
}

/** RFC 9110 10.2.3: seconds or a date. */
function seconds(header: string | undefined, now: number): number | undefined {
  const isDate = header !== undefined && /^[A-Z][a-z]{2}, /.test(header);
  if (header === undefined || !(isDate || /^\d{1,9}$/.test(header))) return undefined;
  const value = isDate ? Math.ceil((Date.parse(header) - now) / 1000) : Number(header);
  return Number.isNaN(value) ? undefined : Math.min(Math.max(value, 1), MAX_RETRY_AFTER);
}

/**
 * Tells another system (a chat, a ticket queue) of every step, signed as Standard Webhooks describes it: HMAC-SHA256 over
 * `id.timestamp.body` in `webhook-signature: v1,…`. Off the request path, retried a few times, never with arguments.
 */
import { createHmac } from 'node:crypto';
import { request as httpRequest } from 'node:http';
import { request as httpsRequest } from 'node:https';
import type { Clock } from '../core/clock.ts';
import { makeId } from '../core/ids.ts';
import type { Logger } from '../core/module.ts';
import type { Secret } from '../core/secret.ts';
import type { ApprovalEvent } from './approval.ts';
import { linksOf, timeText } from './approval.ts';

export interface WebhookOptions {
  readonly url: string;
  readonly secret: Secret;
  readonly timeoutMs: number;
  readonly publicUrl: string | null;
  readonly clock: Clock;
  readonly logger: Logger;
  /** Milliseconds before each try after the first. */
  readonly pauses?: readonly number[];
  /** `delivered`, or `failed` after the last try; `dropped` when too many wait. */
  onOutcome(outcome: 'delivered' | 'failed' | 'dropped'): void;
}

const PAUSES = [1000, 5000, 30_000] as const;
/** Events under way at once; a receiver that is away must not fill the memory. */
const MAX_WAITING = 1000;

interface Delivery {
  readonly id: string;
  readonly body: string;
  tries: number;
}

export class ApprovalWebhook {
  readonly #options: WebhookOptions;
  readonly #key: Buffer;
  #waiting = 0;

  constructor(options: WebhookOptions) {
    this.#options = options;
    this.#key = keyOf(options.secret.reveal());
  }

  /** Returns at once. Never throws. What is under way outlives a reload, and holds up no end of the process. */
  send(event: ApprovalEvent): void {
    if (this.#waiting >= MAX_WAITING) {
      this.#options.onOutcome('dropped');
      return;
    }
    const delivery = { id: makeId('msg_', event.at), body: bodyOf(event, this.#options.publicUrl), tries: 0 };
    this.#waiting++;
    void this.#try(delivery);
  }

  async #try(delivery: Delivery): Promise<void> {
    const { pauses = PAUSES, onOutcome, logger } = this.#options;
    delivery.tries++;
    const outcome = await this.#post(delivery).catch((error: unknown): Outcome => ({ ok: false, again: true, error }));
    const pause = outcome.ok || !outcome.again ? undefined : pauses[delivery.tries - 1];
    if (pause !== undefined) {
      setTimeout(() => void this.#try(delivery), pause).unref();
      return;
    }
    this.#waiting--;
    onOutcome(outcome.ok ? 'delivered' : 'failed');
    if (!outcome.ok) logger.warn({ tries: delivery.tries, err: outcome.error }, 'approval_webhook_failed');
  }

  /** One try. A redirect is a failure: the address was chosen by the operator. */
  #post({ id, body }: Delivery): Promise<Outcome> {
    const { url, timeoutMs, clock } = this.#options;
    const timestamp = String(Math.floor(clock.now() / 1000));
    const signature = createHmac('sha256', this.#key).update(`${id}.${timestamp}.${body}`).digest('base64');
    const headers = {
      'content-type': 'application/json',
      'content-length': Buffer.byteLength(body),
      'user-agent': 'portcullis',
      'webhook-id': id,
      'webhook-timestamp': timestamp,
      'webhook-signature': `v1,${signature}`,
    };
    const send = url.startsWith('https:') ? httpsRequest : httpRequest;
    return new Promise((resolve, reject) => {
      const signal = AbortSignal.timeout(timeoutMs);
      const request = send(url, { method: 'POST', headers, signal, agent: false }, (response) => {
        const status = response.statusCode ?? 0;
        response.on('error', () => undefined).resume();
        const again = status === 408 || status === 429 || status >= 500;
        const ok = status >= 200 && status < 300;
        resolve(ok ? { ok } : { ok, again, error: new Error(`answered with status ${status}`) });
      });
      request.on('error', reject);
      request.end(body);
    });
  }
}

type Outcome = { readonly ok: true } | { readonly ok: false; readonly again: boolean; readonly error: unknown };

/** `whsec_` marks a key in base64, as Standard Webhooks has it; any other text is the key itself. */
function keyOf(secret: string): Buffer {
  return secret.startsWith('whsec_') ? Buffer.from(secret.slice(6), 'base64') : Buffer.from(secret);
}

/** What happened, and where to look: neither arguments nor anybody's words. */
function bodyOf({ type, approval, at }: ApprovalEvent, publicUrl: string | null): string {
  const { call } = approval;
  return JSON.stringify({
    type: `approval.${type}`,
    timestamp: timeText(at),
    data: {
      approval_id: approval.id,
      tenant_id: approval.tenant_id,
      state: approval.state,
      requester_id: approval.requester.id,
      approver_id: approval.decided_by?.id ?? null,
      action: call.action,
      server_name: call.server,
      tool_name: call.tool,
      tool_type: call.tool_type,
      sensitivity_level: call.sensitivity_level,
      expires_at: timeText(approval.expires_at),
      ...linksOf(publicUrl, approval.id),
    },
  });
}

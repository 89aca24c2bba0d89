/**
 * Refreshes that come at the same moment: of two processes of an agent that share one refresh token, the one that comes
 * second gets the answer of the first. It gets nothing new by that, and once the new token has been used, or the moment
 * is over, whoever shows the old one is one too many. Source: RFC 9700 4.14.2.
 */
import { createCipheriv, createDecipheriv, hash, randomBytes } from 'node:crypto';
import { setTimeout as delay } from 'node:timers/promises';
import type { EndpointReply } from '../../protocols/endpoint.ts';
import type { Origin } from '../account.ts';
import type { Entries } from './adapter.ts';
import type { Notes } from './engine-options.ts';

/** Our own kind of entry. */
const ANSWER = 'refresh-answer';
/** How long an answer can be fetched, besides the grace, and how long somebody waits for it. */
const KEPT_MS = 5000;
const PATIENCE_MS = 1500;
const PAUSE_MS = 20;

export interface RefreshingOptions {
  readonly entries: Entries;
  readonly graceMs: number;
  readonly notes: Pick<Notes, 'reused' | 'fault'>;
}

export class Refreshing {
  readonly #options: RefreshingOptions;

  constructor(options: RefreshingOptions) {
    this.#options = options;
  }

  /** What is answered to a token request, of what the library answered. */
  async settle(body: Buffer, origin: Origin, reply: EndpointReply): Promise<EndpointReply> {
    const isLate = this.#options.entries.raced.has(origin);
    if (reply.status !== 200 && !isLate) return reply;
    const form = new URLSearchParams(body.toString('utf8'));
    const token = form.get('refresh_token');
    if (token === null || form.get('grant_type') !== 'refresh_token') return reply;
    const name = nameOf(token, form);
    if (!isLate) {
      // The old token is used up: who has the answer must get it, though nobody else can.
      await this.#keep(name, token, reply.text ?? '').catch(this.#options.notes.fault);
      return reply;
    }
    const kept = await this.#fetch(name, token);
    return kept !== null && (await this.#isUnused(token, kept)) ? { ...reply, status: 200, text: kept } : reply;
  }

  async #keep(name: string, token: string, text: string): Promise<void> {
    const { entries, graceMs } = this.#options;
    await entries.save(ANSWER, name, { params: { closed: close(text, token) } }, (KEPT_MS + graceMs) / 1000);
  }

  /** The other one may still be at it, at another gateway. */
  async #fetch(name: string, token: string): Promise<string | null> {
    for (let waited = 0; waited <= PATIENCE_MS; waited += PAUSE_MS) {
      const closed = (await this.#options.entries.load(ANSWER, name))?.params?.closed;
      if (typeof closed === 'string') return open(closed, token);
      await delay(PAUSE_MS);
    }
    return null;
  }

  /** Somebody who comes after the new token was used does not come at the same moment. */
  async #isUnused(token: string, answer: string): Promise<boolean> {
    const { entries, notes } = this.#options;
    const { refresh_token: next } = JSON.parse(answer) as { readonly refresh_token?: string };
    if (next !== undefined && !(await entries.isUsed('RefreshToken', next))) return true;
    const former = await entries.load('RefreshToken', token);
    notes.reused('refresh_token', former?.accountId ?? null, former?.clientId ?? null);
    if (typeof former?.grantId === 'string') await entries.endGrant(former.grantId);
    return false;
  }
}

/** Whoever asks for something else gets no answer that was meant for this. */
function nameOf(token: string, form: URLSearchParams): string {
  return JSON.stringify([token, form.getAll('scope'), form.getAll('resource').toSorted()]);
}

const IV = 12;
const TAG = 16;

/** Only the old token opens it, and of that the database has a digest. */
const keyOf = (token: string): Buffer => hash('sha256', `portcullis ${ANSWER} ${token}`, 'buffer');

function close(text: string, token: string): string {
  const iv = randomBytes(IV);
  const cipher = createCipheriv('aes-256-gcm', keyOf(token), iv);
  return Buffer.concat([iv, cipher.update(text, 'utf8'), cipher.final(), cipher.getAuthTag()]).toString('base64url');
}

/** Throws for what was not closed with this token. */
function open(closed: string, token: string): string {
  const bytes = Buffer.from(closed, 'base64url');
  const decipher = createDecipheriv('aes-256-gcm', keyOf(token), bytes.subarray(0, IV), { authTagLength: TAG });
  decipher.setAuthTag(bytes.subarray(-TAG));
  return Buffer.concat([decipher.update(bytes.subarray(IV, -TAG)), decipher.final()]).toString('utf8');
}

import { createHmac } from 'node:crypto';
import { once } from 'node:events';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { text } from 'node:stream/consumers';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { ApprovalWebhook } from '../../../src/approvals/webhook.ts';
import { Secret } from '../../../src/core/secret.ts';
import { approvalRecord, NOW } from './records.ts';

interface Delivery {
  readonly headers: Readonly<Record<string, string | string[] | undefined>>;
  readonly body: string;
}

const deliveries: Delivery[] = [];
let statuses: number[] = [];
const server = createServer(async (request, response) => {
  deliveries.push({ headers: request.headers, body: await text(request) });
  response.writeHead(statuses.shift() ?? 204, { location: '/elsewhere' }).end();
});
let url: string;
const silent = { debug: () => undefined, info: () => undefined, warn: () => undefined, error: () => undefined };

beforeAll(async () => {
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  url = `http://127.0.0.1:${(server.address() as AddressInfo).port}/hook`;
});
afterAll(() => void server.close());

/** Sends one event and gives its end. */
function deliver(answers: number[], to = url): Promise<string> {
  statuses = answers;
  deliveries.length = 0;
  const { promise, resolve } = Promise.withResolvers<string>();
  const hook = new ApprovalWebhook({
    url: to,
    secret: new Secret('whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw'),
    timeoutMs: 2000,
    publicUrl: 'https://gate.example.com/',
    clock: { now: () => NOW },
    logger: silent,
    pauses: [1, 1],
    onOutcome: resolve,
  });
  hook.send({ type: 'approved', approval: approvalRecord(), at: NOW, principal: null, origin: null });
  return promise;
}

describe('the webhook', () => {
  test('is signed, and tells neither arguments nor secrets', async () => {
    expect(await deliver([204])).toBe('delivered');
    const [{ headers, body }] = deliveries as [Delivery];
    const signed = `${String(headers['webhook-id'])}.${String(headers['webhook-timestamp'])}.${body}`;
    const key = Buffer.from('MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw', 'base64');
    expect(headers['webhook-signature']).toBe(`v1,${createHmac('sha256', key).update(signed).digest('base64')}`);
    expect(headers['webhook-timestamp']).toBe(String(NOW / 1000));
    expect(JSON.parse(body)).toMatchObject({
      type: 'approval.approved',
      data: {
        approval_id: 'apr_1',
        requester_id: 'user-admin',
        approval_url: 'https://gate.example.com/approve/apr_1',
      },
    });
    expect(body).not.toContain('DROP TABLE');
    expect(body).not.toContain('token-1');
  });

  test('is tried again after a fault of the receiver, with the same id, and not for ever', async () => {
    expect(await deliver([500, 429, 200])).toBe('delivered');
    expect(new Set(deliveries.map(({ headers }) => headers['webhook-id'])).size).toBe(1);
    expect(await deliver([500, 500, 500, 200])).toBe('failed');
    expect(deliveries).toHaveLength(3);
    expect(await deliver([], 'http://127.0.0.1:1/')).toBe('failed');
  });

  test('follows no redirect, and takes a refusal for an answer', async () => {
    for (const status of [302, 400, 410]) {
      expect(await deliver([status])).toBe('failed');
      expect(deliveries).toHaveLength(1);
    }
  });
});

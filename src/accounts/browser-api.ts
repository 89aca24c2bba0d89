/**
 * `/auth/session`: people log in with a browser, which gets a cookie that no script can read, and out again. The cookie is
 * the one of all browser sessions. Source: RFC 6265bis 4.1.3, security 2.10.
 */
import type { z } from 'zod';
import { GatewayError } from '../core/errors.ts';
import type { Admitted } from '../core/exchange.ts';
import type { SessionCookie } from '../identity/oauth/session-cookie.ts';
import type { Endpoint, EndpointReply, EndpointRequest } from '../protocols/endpoint.ts';
import type { Origin } from './account.ts';
import type { Accounts } from './accounts.ts';
import { loginBody, originOf, post } from './api.ts';
import { secondFactorRequired } from './second-factor.ts';

export interface BrowserApiOptions {
  readonly accounts: Accounts;
  readonly cookie: SessionCookie;
  /** Ends the session of a cookie, of whatever kind; nothing happens for one that is no good. */
  end(text: string, origin: Origin): Promise<void>;
}

export function browserEndpoints(options: BrowserApiOptions): readonly Endpoint[] {
  const path = '/auth/session';
  return [
    post(path, 'anyone', loginBody, (request) => begin(options, request)),
    { method: 'DELETE', path, access: 'anyone', body: null, answer: ({ exchange }) => end(options, exchange) },
  ];
}

/** The page of another site must neither log somebody in under a name of its choice nor log them out. */
function requireOwn({ cookie }: BrowserApiOptions, { received }: Admitted): void {
  if (!cookie.isOwn(received.headers, received.method)) {
    throw new GatewayError('ORIGIN_DENIED', { message: 'A page of another origin may not use the session' });
  }
}

async function begin(
  options: BrowserApiOptions,
  { exchange, body }: EndpointRequest<z.output<typeof loginBody>>,
): Promise<EndpointReply> {
  requireOwn(options, exchange);
  const { accounts, cookie } = options;
  const origin = originOf(exchange);
  const before = cookie.shown(exchange.received.headers);
  const result = await accounts.loginBrowser(body, origin);
  if (result.kind === 'second_factor_required') throw secondFactorRequired();
  // What the browser had before is nobody's any more.
  if (before !== null) await options.end(before, origin);
  const { account, session, must_enrol } = result;
  const seconds = Math.floor((session.expires_at - origin.now) / 1000);
  return {
    status: 200,
    headers: {
      'set-cookie': cookie.line(cookie.name, session.cookie, seconds, 'Strict'),
      'cache-control': 'no-store',
    },
    body: {
      ...{ user_id: account.id, username: account.username, role: account.role, expires_in: seconds },
      ...(must_enrol ? { mfa_enrolment_required: true } : {}),
    },
  };
}

async function end(options: BrowserApiOptions, exchange: Admitted): Promise<EndpointReply> {
  requireOwn(options, exchange);
  const { cookie } = options;
  const text = cookie.shown(exchange.received.headers);
  if (text !== null) await options.end(text, originOf(exchange));
  return { status: 204, headers: { 'set-cookie': cookie.line(cookie.name, '', 0, 'Strict') } };
}

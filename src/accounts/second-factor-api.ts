/** `/auth/mfa`: how people get, show, renew and give up a second factor. Source: RFC 6238, acceptance VW-06. */
import { z } from 'zod';
import { GatewayError } from '../core/errors.ts';
import type { Admitted } from '../core/exchange.ts';
import type { Endpoint, EndpointReply, EndpointRequest } from '../protocols/endpoint.ts';
import type { AccountRecord } from '../stores/accounts.ts';
import type { AccountReports, Origin } from './account.ts';
import type { Accounts } from './accounts.ts';
import { originOf, password, post, proofFields, sessionOf, withOneProof } from './api.ts';
import { type Proof, type SecondFactor, secondFactorRequired } from './second-factor.ts';
import type { Sessions } from './sessions.ts';

export interface FactorApiOptions {
  readonly accounts: Accounts;
  readonly factor: SecondFactor;
  readonly sessions: Sessions;
  readonly reports: AccountReports;
  /** Names of the providers whose principals are our own accounts. */
  readonly providers: ReadonlySet<string>;
  /** True for a role that needs a second factor. */
  isRequired(role: string): boolean;
}

const enrolBody = z.strictObject({ current_password: password });
const confirmBody = z.strictObject({ code: z.string().min(1).max(32) });
const provenBody = withOneProof(z.strictObject({ current_password: password, ...proofFields }));
const verifyBody = withOneProof(z.strictObject(proofFields));

/** Endpoints that exist while the gateway keeps accounts; each is about the caller's own account. */
export function factorEndpoints(options: FactorApiOptions): readonly Endpoint[] {
  const path = '/auth/mfa';
  return [
    { method: 'GET', path, access: 'authenticated', body: null, answer: ({ exchange }) => status(options, exchange) },
    post(`${path}/totp`, 'authenticated', enrolBody, (request) => enrol(options, request)),
    post(`${path}/totp/confirm`, 'authenticated', confirmBody, (request) => confirm(options, request)),
    post(`${path}/totp/disable`, 'authenticated', provenBody, (request) => disable(options, request)),
    post(`${path}/recovery-codes`, 'authenticated', provenBody, (request) => renew(options, request)),
    post(`${path}/verify`, 'authenticated', verifyBody, (request) => verify(options, request)),
  ];
}

interface Caller {
  readonly account: AccountRecord;
  readonly session_id: string;
  readonly origin: Origin;
}

async function callerOf(options: FactorApiOptions, exchange: Admitted): Promise<Caller> {
  const { account_id, session_id } = sessionOf(options, exchange.principal);
  const account = await options.accounts.find(account_id);
  if (account === null) throw new GatewayError('NOT_FOUND');
  return { account, session_id, origin: originOf(exchange) };
}

async function status(options: FactorApiOptions, exchange: Admitted): Promise<EndpointReply> {
  const { account } = await callerOf(options, exchange);
  const factor = await options.factor.status(account.id);
  const { mfa_verified, mfa_at } = exchange.principal.auth;
  return {
    status: 200,
    body: {
      enabled: factor !== null,
      since: factor === null ? null : time(factor.since),
      recovery_codes_left: factor?.codes_left ?? 0,
      required: options.isRequired(account.role),
      mfa_verified,
      mfa_at: mfa_at === null ? null : time(mfa_at * 1000),
    },
  };
}

async function enrol(
  options: FactorApiOptions,
  { exchange, body }: EndpointRequest<z.output<typeof enrolBody>>,
): Promise<EndpointReply> {
  const { account, origin } = await callerOf(options, exchange);
  // Who finds an open session must not be able to keep its owner out.
  await options.accounts.requirePassword(account.id, body.current_password, origin);
  return { status: 201, body: await options.factor.enrol(account, origin.now), headers: SHOWN_ONCE };
}

async function confirm(
  options: FactorApiOptions,
  { exchange, body }: EndpointRequest<z.output<typeof confirmBody>>,
): Promise<EndpointReply> {
  const { account, session_id, origin } = await callerOf(options, exchange);
  const recovery_codes = await options.factor.confirm(account.id, body.code, origin.now);
  // Logins that began by the password alone end as well, also those that are under way.
  await options.accounts.noteChange(account.id, origin.now);
  await options.sessions.endAll(account.id, session_id, origin, 'second factor enrolled');
  await options.sessions.noteFactor(session_id, account.id, origin.now);
  report(options, 'mfa_enrolled', account, origin, session_id);
  return { status: 200, body: { recovery_codes }, headers: SHOWN_ONCE };
}

async function disable(
  options: FactorApiOptions,
  { exchange, body }: EndpointRequest<z.output<typeof provenBody>>,
): Promise<EndpointReply> {
  const { account, session_id, origin } = await ownerOf(options, exchange, body);
  await options.factor.remove(account.id);
  // Logins that are under way by it end as well.
  await options.accounts.noteChange(account.id, origin.now);
  await options.sessions.forgetFactor(account.id);
  report(options, 'mfa_removed', account, origin, session_id);
  return { status: 204 };
}

async function renew(
  options: FactorApiOptions,
  { exchange, body }: EndpointRequest<z.output<typeof provenBody>>,
): Promise<EndpointReply> {
  const { account, session_id, origin } = await ownerOf(options, exchange, body);
  const recovery_codes = await options.factor.renewCodes(account.id);
  report(options, 'mfa_codes_renewed', account, origin, session_id);
  return { status: 200, body: { recovery_codes }, headers: SHOWN_ONCE };
}

/** For a session that began long ago, or before the account had a second factor. */
async function verify(
  options: FactorApiOptions,
  { exchange, body }: EndpointRequest<z.output<typeof verifyBody>>,
): Promise<EndpointReply> {
  const caller = await callerOf(options, exchange);
  await requireProof(options, caller, body);
  const { now } = caller.origin;
  await options.sessions.noteFactor(caller.session_id, caller.account.id, now);
  return { status: 200, body: { mfa_verified: true, mfa_at: time(now) } };
}

/** The caller, who has shown the password and the second factor: without both nobody changes what is asked of the owner. */
async function ownerOf(
  options: FactorApiOptions,
  exchange: EndpointRequest<unknown>['exchange'],
  body: z.output<typeof provenBody>,
): Promise<Caller> {
  const caller = await callerOf(options, exchange);
  await options.accounts.requirePassword(caller.account.id, body.current_password, caller.origin);
  await requireProof(options, caller, body);
  return caller;
}

async function requireProof(options: FactorApiOptions, caller: Caller, proof: Proof): Promise<void> {
  const { account, origin, session_id } = caller;
  const result = await options.accounts.proveFactor(account, proof, origin, session_id);
  if (result === 'none') throw new GatewayError('CONFLICT', { message: 'There is no second factor' });
  if (result === 'missing') throw secondFactorRequired();
  if (result === 'wrong') {
    throw new GatewayError('INVALID_CREDENTIALS', { message: 'The code is not valid', challenge: CHALLENGE });
  }
}

const CHALLENGE = 'Bearer realm="portcullis"';
const SHOWN_ONCE = { 'cache-control': 'no-store' } as const;

const time = (ms: number): string => new Date(ms).toISOString();

function report(
  { reports }: FactorApiOptions,
  type: 'mfa_enrolled' | 'mfa_removed' | 'mfa_codes_renewed',
  account: AccountRecord,
  origin: Origin,
  session_id: string,
): void {
  reports.event({ type, origin, account, session_id, key_id: null, details: {} });
}

/** `/auth`: registration, login and what belongs to a session. Source: contracts 6, acceptance V-06 to V-12, VF-07. */
import { z } from 'zod';
import { GatewayError } from '../core/errors.ts';
import type { Admitted } from '../core/exchange.ts';
import type { Principal } from '../core/principal.ts';
import type { Endpoint, EndpointReply, EndpointRequest } from '../protocols/endpoint.ts';
import type { Origin } from './account.ts';
import { viewOf } from './account.ts';
import type { Accounts } from './accounts.ts';
import { MAX_PASSWORD } from './password-rules.ts';
import { coversAll } from './roles.ts';
import { type Proof, secondFactorRequired } from './second-factor.ts';
import type { Sessions } from './sessions.ts';
import type { RequireStanding } from './standing.ts';
import { isUsername, USERNAME_RULE } from './username.ts';

export interface AccountsApiOptions {
  readonly accounts: Accounts;
  readonly sessions: Sessions;
  readonly defaultRole: string;
  /** Of every account. */
  readonly tenant: string;
  /** Names of the providers whose principals are our own accounts. */
  readonly providers: ReadonlySet<string>;
  /** Removes the account with everything that belongs to it. */
  remove(accountId: string, origin: Origin): Promise<void>;
  readonly requireStanding: RequireStanding;
}

/** What an administrator holds, or whoever may make accounts for others of the role that everybody gets. */
const CREATE_ACCOUNTS = 'users.create';

/** A password is looked at by its rules, which answer in words; here only what no password can be. */
export const password = z
  .string()
  .min(1)
  .max(MAX_PASSWORD * 4)
  .refine((text) => text.isWellFormed(), 'is not well-formed Unicode');
const username = z.string().refine(isUsername, USERNAME_RULE);

const registerBody = z.strictObject({
  username,
  email: z.email().max(254),
  password,
  full_name: z
    .string()
    .max(200)
    .regex(/^[^\p{C}]*$/u, 'must not have control characters')
    .nullish(),
  role: z.string().max(32).optional(),
  bootstrap_token: z.string().min(1).max(256).optional(),
});
// Whatever is typed there is an attempt: what no username can be is as wrong as one that is not there.
/** The fields of a second factor, where one may be shown. */
export const proofFields = {
  otp: z.string().min(1).max(32).optional(),
  recovery_code: z.string().min(1).max(64).optional(),
};

/** Two codes at once would be two guesses for one. */
export function withOneProof<Shape extends z.ZodType<Proof>>(shape: Shape): Shape {
  return shape.refine(
    ({ otp, recovery_code }) => otp === undefined || recovery_code === undefined,
    'otp or recovery_code, not both',
  );
}

export const loginBody = withOneProof(
  z.strictObject({ username: z.string().min(1).max(254), password, ...proofFields }),
);
const refreshBody = z.strictObject({ refresh_token: z.string().min(1).max(4096) });
const changeBody = z.strictObject({ current_password: password, new_password: password });
const deleteBody = z.strictObject({ current_password: password });

/** Endpoints that exist while the gateway keeps accounts. */
export function accountEndpoints(options: AccountsApiOptions): readonly Endpoint[] {
  return [
    post('/auth/register', 'anyone', registerBody, (request) => register(options, request)),
    post('/auth/login', 'anyone', loginBody, async ({ exchange, body }) => {
      const result = await options.accounts.login(body, originOf(exchange));
      if (result.kind === 'second_factor_required') throw secondFactorRequired();
      return { status: 200, body: result.session.pair };
    }),
    post('/auth/refresh', 'anyone', refreshBody, async ({ exchange, body }) => ({
      status: 200,
      body: await options.sessions.refresh(body.refresh_token, originOf(exchange)),
    })),
    {
      method: 'POST',
      path: '/auth/logout',
      access: 'authenticated',
      body: null,
      answer: ({ exchange }) => logout(options, exchange),
    },
    post('/auth/change-password', 'authenticated', changeBody, async ({ exchange, body }) => {
      const who = sessionOf(options, exchange.principal);
      const words = { current: body.current_password, next: body.new_password };
      await options.accounts.changePassword(who, words, originOf(exchange));
      return { status: 204 };
    }),
    // Not DELETE: the password has to come along, and a DELETE has no body here.
    post('/auth/delete-account', 'authenticated', deleteBody, async ({ exchange, body }) => {
      const { account_id } = sessionOf(options, exchange.principal);
      await options.accounts.requirePassword(account_id, body.current_password, originOf(exchange));
      await options.remove(account_id, originOf(exchange));
      return { status: 204 };
    }),
  ];
}

/** The schema gives the body its type, so that no handler has to say it again. */
export function post<Body>(
  path: string,
  access: Endpoint['access'],
  schema: z.ZodType<Body>,
  answer: (request: EndpointRequest<Body>) => Promise<EndpointReply>,
): Endpoint {
  return {
    method: 'POST',
    path,
    access,
    body: { schema, encoding: 'either' },
    answer: (request) => answer(request as EndpointRequest<Body>),
  };
}

async function register(
  { accounts, defaultRole, tenant, requireStanding }: AccountsApiOptions,
  { exchange, body }: EndpointRequest<z.output<typeof registerBody>>,
): Promise<EndpointReply> {
  const { role, bootstrap_token, full_name = null, ...facts } = body;
  const origin = originOf(exchange);
  const wanted = { ...facts, full_name };
  if (bootstrap_token !== undefined) {
    return { status: 201, body: viewOf(await accounts.bootstrap(wanted, bootstrap_token, origin)) };
  }
  const { principal } = exchange;
  // An administrator of another tenant is nobody here.
  const mayCreate =
    principal.actor === null && principal.tenant_id === tenant && coversAll(principal.permissions, [CREATE_ACCOUNTS]);
  if (role !== undefined && role !== defaultRole && !(mayCreate && mayGive(principal, role))) {
    throw new GatewayError('FORBIDDEN', { message: 'Permission denied: roles are given by an administrator' });
  }
  const by = mayCreate ? { role: role ?? null, requireStanding: () => requireStanding(exchange) } : null;
  return { status: 201, body: viewOf(await accounts.register(wanted, by, origin)) };
}

/** Nobody makes somebody who may do more: policies know roles by name, so that comparing permissions would not do. */
function mayGive({ permissions, roles }: Principal, role: string): boolean {
  return permissions.includes('*') || roles.includes(role);
}

async function logout(options: AccountsApiOptions, exchange: Admitted): Promise<EndpointReply> {
  const { account_id, session_id } = sessionOf(options, exchange.principal);
  await options.sessions.end(session_id, account_id, originOf(exchange), 'logout');
  return { status: 204 };
}

/** The caller's own account and session. Keys, delegated callers and other issuers' tokens have none: FORBIDDEN. */
export function sessionOf(
  { providers }: Pick<AccountsApiOptions, 'providers'>,
  { id, auth, actor }: Principal,
): { readonly account_id: string; readonly session_id: string } {
  if (!providers.has(auth.provider) || auth.session_id === null || actor !== null) {
    throw new GatewayError('FORBIDDEN', { message: 'This is for somebody who has logged in here' });
  }
  return { account_id: id, session_id: auth.session_id };
}

export function originOf({ received }: Admitted): Origin {
  return {
    request_id: received.id,
    source_ip: received.peer.address,
    user_agent: received.headers['user-agent'] ?? null,
    now: received.receivedAt,
  };
}

/**
 * Handing rights on over HTTP: RFC 8693 token exchange, with the caller's own credential as the subject, and RFC 7009
 * revocation by whoever lent. The policy decides on `a2a:delegate`; what no policy can loosen is `delegation.ts`.
 */
import { z } from 'zod';
import { type A2aFacts, a2aUser, type Call } from '../core/call.ts';
import { GatewayError } from '../core/errors.ts';
import type { Admitted } from '../core/exchange.ts';
import { actorIds, type Principal } from '../core/principal.ts';
import type { Endpoint, EndpointRequest } from '../protocols/endpoint.ts';
import { readCredentials } from './credentials.ts';
import { DELEGATION_HEADER } from './delegated.ts';
import { type Delegation, type DelegationRequest, delegationId } from './delegation.ts';
import type { Directory } from './directory.ts';

const GRANT = 'urn:ietf:params:oauth:grant-type:token-exchange';
const JWT = 'urn:ietf:params:oauth:token-type:jwt';
const TOKEN_TYPES = [JWT, 'urn:ietf:params:oauth:token-type:access_token'] as const;

const text = z.string().min(1).max(8192);
/** RFC 6749 3.3: words with single spaces between them. */
const words = text.regex(
  /^[\x21\x23-\x5b\x5d-\x7e]+( [\x21\x23-\x5b\x5d-\x7e]+)*$/,
  'must be words with single spaces',
);

/** Strict: nothing a client might say of depth, chain or itself is passed over as if it had been heard. */
const exchangeSchema = z
  .strictObject({
    grant_type: z.literal(GRANT),
    subject_token: text.optional(),
    subject_token_type: z.enum(TOKEN_TYPES).optional(),
    actor_token: text.optional(),
    actor_token_type: z.enum(TOKEN_TYPES).optional(),
    requested_actor: text.max(512).optional(),
    requested_token_type: z.literal(JWT).optional(),
    audience: text.max(512).optional(),
    scope: words.optional(),
    permissions: words.optional(),
    roles: words.optional(),
    expires_in: z
      .string()
      .regex(/^[1-9]\d{0,4}$/, 'must be whole seconds, 1 to 3600')
      .optional(),
  })
  .refine(
    (form) => (form.actor_token === undefined) !== (form.requested_actor === undefined),
    'give either actor_token or requested_actor',
  )
  .refine(
    (form) => (form.subject_token === undefined) === (form.subject_token_type === undefined),
    'subject_token and subject_token_type belong together',
  )
  .refine(
    (form) => (form.actor_token === undefined) === (form.actor_token_type === undefined),
    'actor_token and actor_token_type belong together',
  );

type Exchange = z.output<typeof exchangeSchema>;

const revokeSchema = z.strictObject({
  token: text,
  token_type_hint: text.max(100).optional(),
});

export interface TokenExchangeOptions {
  readonly delegation: Delegation;
  readonly directory: Directory;
  /** The audience of our tokens: what a client may ask for. */
  readonly audience: string;
  /** Whose credential this is, by the providers of the route the request came by. */
  identify(exchange: Admitted, token: string): Promise<Principal | GatewayError>;
}

/** What `call` found out for `answer`. */
interface Prepared {
  readonly id: string;
  readonly target: Principal;
  readonly wanted: DelegationRequest;
}

/** `POST /api/v1/token/exchange` and `POST /api/v1/token/revoke`. */
export function tokenEndpoints(options: TokenExchangeOptions): readonly Endpoint[] {
  return [exchangeEndpoint(options), revokeEndpoint(options)] as readonly Endpoint[];
}

function exchangeEndpoint(options: TokenExchangeOptions): Endpoint<Exchange> {
  const prepared = new WeakMap<EndpointRequest<Exchange>, Prepared>();
  return {
    method: 'POST',
    path: '/api/v1/token/exchange',
    access: 'authenticated',
    body: { schema: exchangeSchema, encoding: 'form', misfit: 'INVALID_REQUEST' },
    async call(request) {
      const asked = await prepare(options, request);
      prepared.set(request, asked);
      return delegationCall(request.exchange.principal, asked, request.body);
    },
    async answer(request) {
      const asked = prepared.get(request);
      if (asked === undefined) throw new GatewayError('INTERNAL_ERROR');
      const { principal, received } = request.exchange;
      const { target, wanted, id } = asked;
      const issued = await options.delegation.issue(principal, target, wanted, received.receivedAt, id);
      return {
        status: 200,
        body: {
          access_token: issued.token,
          issued_token_type: JWT,
          // RFC 8693 2.2.1: it opens nothing as a bearer token.
          token_type: 'N_A',
          expires_in: issued.lifetime,
          ...(issued.scopes.length === 0 ? {} : { scope: issued.scopes.join(' ') }),
          delegation_id: issued.id,
        },
      };
    },
  };
}

async function prepare(
  options: TokenExchangeOptions,
  { exchange, body }: EndpointRequest<Exchange>,
): Promise<Prepared> {
  checkSubject(exchange, body);
  if (body.audience !== undefined && body.audience !== options.audience) {
    throw invalid('invalid_target', 'Tokens are made for this gateway only');
  }
  const target = await findTarget(options, exchange, body);
  const wanted = {
    ...(body.scope === undefined ? {} : { scopes: listed(body.scope) }),
    ...(body.permissions === undefined ? {} : { permissions: listed(body.permissions) }),
    ...(body.roles === undefined ? {} : { roles: listed(body.roles) }),
    ...(body.expires_in === undefined ? {} : { lifetime: Number(body.expires_in) }),
    targetExpiresAt: target.auth.expires_at,
  };
  return { id: delegationId(exchange.received.receivedAt), target, wanted };
}

const listed = (line: string): string[] => [...new Set(line.split(' '))];

/** The subject is who calls; naming somebody else would be borrowing, not lending. */
function checkSubject({ received }: Admitted, { subject_token }: Exchange): void {
  if (subject_token === undefined) return;
  if (received.headers[DELEGATION_HEADER] === subject_token) return;
  const shown = readCredentials(received.headers);
  const isOwn = !(shown instanceof GatewayError) && shown.some(({ value }) => value.equals(subject_token));
  if (!isOwn) throw invalid('invalid_request', 'subject_token must be the credential of the request itself');
}

async function findTarget(options: TokenExchangeOptions, exchange: Admitted, form: Exchange): Promise<Principal> {
  const { principal, received } = exchange;
  if (form.requested_actor !== undefined) {
    const { directory } = options;
    const found = await stored(directory.find(principal.tenant_id, form.requested_actor, received.receivedAt));
    if (found !== null) return found;
    const whose = 'requested_actor is the owner (owner_id) of an API key of your tenant that is good';
    throw invalid('invalid_target', `Nobody is known here by this name: ${whose}`);
  }
  const found = await options.identify(exchange, form.actor_token ?? '');
  if (found instanceof GatewayError) {
    if (found.status >= 500) throw found;
    throw unknownTarget();
  }
  // Who belongs to another tenant is nobody here.
  if (found.tenant_id !== principal.tenant_id) throw unknownTarget();
  return found;
}

/** What the store cannot say or keep now it may a moment later. */
async function stored<T>(work: Promise<T>): Promise<T> {
  try {
    return await work;
  } catch (cause) {
    if (cause instanceof GatewayError) throw cause;
    throw new GatewayError('STORE_UNAVAILABLE', { retryAfter: 1, cause });
  }
}

const unknownTarget = (): GatewayError => invalid('invalid_target', 'Nobody is known here by this actor_token');

/** RFC 8693 2.2.2 and RFC 6749 5.2 name the error in words of their own; those stand in the details. */
function invalid(error: 'invalid_request' | 'invalid_target', message: string): GatewayError {
  return new GatewayError('INVALID_REQUEST', { message, details: { error } });
}

function delegationCall(source: Principal, { id, target, wanted }: Prepared, form: Exchange): Call {
  const a2a: A2aFacts = {
    source_user: a2aUser(source),
    target_user: a2aUser(target),
    source_agent: null,
    target_agent: null,
    capability: null,
    context: { workflow_id: null, user_id: source.id, delegation_depth: actorIds(source).length },
  };
  return {
    action: 'a2a:delegate',
    server: null,
    tool: null,
    parameters: {
      delegation_id: id,
      expires_in: wanted.lifetime ?? null,
      scope: form.scope ?? null,
      permissions: form.permissions ?? null,
      roles: form.roles ?? null,
    },
    annotations: null,
    schema_hash: null,
    resource: { type: 'principal', id: target.id, tenant_id: target.tenant_id, owner_id: null, permissions: null },
    llm: null,
    a2a,
  };
}

function revokeEndpoint({ delegation }: TokenExchangeOptions): Endpoint<z.output<typeof revokeSchema>> {
  return {
    method: 'POST',
    path: '/api/v1/token/revoke',
    access: 'authenticated',
    body: { schema: revokeSchema, encoding: 'form', misfit: 'INVALID_REQUEST' },
    async answer({ exchange, body }) {
      const taken = await stored(delegation.revoke(exchange.principal, body.token, exchange.received.receivedAt));
      // RFC 7009 2.2: clients read nothing but the status; people want to know.
      if (taken === null) return { status: 200, body: { revoked: false } };
      const { id, delegator, actor } = taken;
      return { status: 200, body: { revoked: true, delegation_id: id, delegator_id: delegator, actor_id: actor } };
    },
  };
}

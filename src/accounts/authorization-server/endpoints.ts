/** The endpoints of the authorization server, and what it says of itself. Source: RFC 8414, OpenID Connect Discovery 1.0. */
import { z } from 'zod';
import type { Admitted } from '../../core/exchange.ts';
import type { Endpoint, EndpointReply, EndpointRequest } from '../../protocols/endpoint.ts';
import { type LoginForm, type LoginPages, loginForm } from './login-pages.ts';
import type { AuthorizationServer } from './server.ts';

const BODY = { schema: z.instanceof(Buffer), encoding: 'bytes', limit: 32_768 } as const;
/** Bytes that a client may say of itself: its keys are the longest of it. */
const MAX_METADATA = 8192;

const WELL_KNOWN = ['/.well-known/oauth-authorization-server', '/.well-known/openid-configuration'] as const;

/** Everything of it that is served on the data listener. */
export function authorizationServerEndpoints(server: AuthorizationServer, pages: LoginPages): readonly Endpoint[] {
  const { registration } = server.options.config;
  return [
    ...discovery(server),
    get('/oauth/authorize', ({ exchange }) => server.authorize(exchange)),
    get('/oauth/authorize/{uid}', ({ exchange }) => server.answer(exchange)),
    get('/oauth/login/{uid}', ({ exchange, params }) => pages.show(exchange, params.uid ?? '')),
    {
      ...{ method: 'POST', path: '/oauth/login/{uid}', access: 'anyone' },
      body: { schema: loginForm, encoding: 'form', misfit: 'INVALID_REQUEST' },
      answer: ({ exchange, params, body }) => pages.submit(exchange, params.uid ?? '', body as LoginForm),
    },
    get('/oauth/login/{uid}/with/{provider}', ({ exchange, params }) =>
      pages.leave(exchange, params.uid ?? '', params.provider ?? ''),
    ),
    get('/oauth/login/{uid}/from/{provider}', ({ exchange, params }) =>
      pages.enter(exchange, params.uid ?? '', params.provider ?? ''),
    ),
    get('/oauth/callback/{provider}', ({ exchange, params }) => pages.arrive(exchange, params.provider ?? '')),
    post('/oauth/token', (exchange, body) => server.token(exchange, body)),
    post('/oauth/revoke', (exchange, body) => server.revoke(exchange, body)),
    ...(registration.enabled
      ? [post('/oauth/register', (exchange, body) => server.register(exchange, body), MAX_METADATA)]
      : []),
  ];
}

function get(path: string, answer: (request: EndpointRequest<unknown>) => Promise<EndpointReply>): Endpoint {
  return { method: 'GET', path, access: 'anyone', body: null, answer };
}

function post(
  path: string,
  answer: (exchange: Admitted, body: Buffer) => Promise<EndpointReply>,
  limit: number = BODY.limit,
): Endpoint {
  return {
    ...{ method: 'POST', path, access: 'anyone', body: { ...BODY, limit } },
    answer: ({ exchange, body }) => answer(exchange, body as Buffer),
  };
}

/** Below a prefix of the issuer each is served with and without it behind: proxies differ in what they leave. */
function discovery(server: AuthorizationServer): Endpoint[] {
  const prefix = new URL(server.options.issuer).pathname.replace(/\/$/, '');
  const paths = new Set(WELL_KNOWN.flatMap((path) => [path, `${path}${prefix}`]));
  return [...paths].map((path) =>
    get(path, async ({ exchange }) => {
      const reply = await server.answer(exchange, { url: WELL_KNOWN[0] });
      const document = JSON.parse(reply.text ?? '{}') as Record<string, unknown>;
      return {
        status: reply.status,
        body: { ...document, response_modes_supported: ['query'], scopes_supported: ['openid'] },
        headers: { 'cache-control': 'public, max-age=60' },
      };
    }),
  );
}

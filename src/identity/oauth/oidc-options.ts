/** Options of the `oidc` provider. Source: acceptance S-62 to S-66, SF-50. */
import { z } from 'zod';
import { audience, MAPPING, roleMapOf, TOKEN_RULES } from '../jwt-options.ts';
import { ASYMMETRIC_ALGORITHMS } from '../verification-keys.ts';
import { authenticationOf, CLIENT, clientProblems } from './client-options.ts';

const shape = z.strictObject({
  kind: z.literal('oidc'),
  ...CLIENT,
  scopes: z.array(z.string().min(1)).min(1).default(['openid', 'profile', 'email']).describe('asked for at login'),
  audience: audience
    .optional()
    .describe(
      'accepted aud values; without it a token must be for the route (its URL under public_url) or the gateway',
    ),
  clients: z.array(z.string().min(1)).min(1).optional().describe('client_id of the clients whose tokens are accepted'),
  algorithms: z.array(z.enum(ASYMMETRIC_ALGORITHMS)).min(1).default(['RS256', 'ES256', 'EdDSA']),
  opaque_tokens: z
    .enum(['introspection', 'userinfo', 'off'])
    .default('introspection')
    .describe('how tokens that are no JWT are checked; userinfo cannot tell for whom a token was made'),
  opaque_seconds: z.int().min(0).max(300).default(60).describe('how long the answer about such a token is believed'),
  userinfo: z.boolean().default(false).describe('ask for the user’s claims too; their sub must be the token’s'),
  login: z
    .strictObject({
      session_seconds: z.int().min(60).max(2_592_000).default(28_800).describe('from login to the end of a session'),
      pkce: z
        .enum(['advertised', 'assumed'])
        .default('advertised')
        .describe('assumed: for servers that know PKCE with S256 and do not say so, as Entra ID'),
    })
    .optional()
    .describe('lets browsers log in at /auth/oauth/start; needs public_url'),
  ...TOKEN_RULES,
  ...MAPPING,
});

export const oidcSchema = shape
  .superRefine((options, context) => {
    const report = (path: string, message: string) => context.addIssue({ code: 'custom', path: [path], message });
    clientProblems(options, report);
    if (!options.scopes.includes('openid')) report('scopes', 'openid is what makes it OpenID Connect');
    const takesPlainTypes = options.typ.some((name) => name.toLowerCase() === 'jwt');
    if (takesPlainTypes && options.audience?.includes(options.client_id) === true) {
      report(
        'audience',
        'is the client_id, so that ID tokens would pass as access tokens: use typ: [at+jwt], or another one',
      );
    }
  })
  .transform((options) => ({
    ...options,
    role_map: roleMapOf(options.role_map),
    /** A public client may not ask about tokens. */
    may_introspect: options.opaque_tokens === 'introspection' && authenticationOf(options) !== 'none',
  }));

/** Checked options with defaults filled in. */
export type OidcOptions = z.output<typeof oidcSchema>;

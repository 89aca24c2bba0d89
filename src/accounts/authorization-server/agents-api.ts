/** `/auth/agents`: whom somebody has let in, and the end of it. */
import { GatewayError } from '../../core/errors.ts';
import type { Admitted } from '../../core/exchange.ts';
import type { Principal } from '../../core/principal.ts';
import type { Endpoint, EndpointRequest } from '../../protocols/endpoint.ts';
import { originOf } from '../api.ts';
import { coversAll } from '../roles.ts';
import type { StandingGrant } from './people.ts';
import type { AuthorizationServer } from './server.ts';

export interface AgentsApiOptions {
  readonly server: AuthorizationServer;
  /** Tenant of the accounts. */
  readonly tenant: string;
  /** The account of somebody who has logged in, with whatever login; null for all others, agents among them. */
  accountOf(principal: Principal): Promise<string | null>;
}

/** What an administrator holds, for the agents of others. */
const MANAGE_AGENTS = 'users.agents';

export function agentsEndpoints(options: AgentsApiOptions): readonly Endpoint[] {
  const { people, entries, origins } = options.server.options;
  const grants = async ({ exchange, query }: EndpointRequest<unknown>) =>
    people.grantsOf(entries, await ownerOf(options, exchange, query), exchange.received.receivedAt);
  return [
    {
      ...{ method: 'GET', path: '/auth/agents', access: 'authenticated', body: null },
      answer: async (request) => ({ status: 200, body: { items: (await grants(request)).map(viewOf) } }),
    },
    {
      ...{ method: 'DELETE', path: '/auth/agents/{id}', access: 'authenticated', body: null },
      async answer(request) {
        const grant = (await grants(request)).find(({ sid }) => sid === request.params.id);
        if (grant === undefined) throw new GatewayError('NOT_FOUND', { message: 'There is no such agent' });
        await origins.run(originOf(request.exchange), () => entries.endGrant(grant.grantId));
        return { status: 204 };
      },
    },
  ];
}

/** Whose agents are meant: `user_id`, or one's own. Throws FORBIDDEN. */
async function ownerOf(
  { accountOf, tenant }: AgentsApiOptions,
  { principal }: Admitted,
  query: URLSearchParams,
): Promise<string> {
  const own = await accountOf(principal);
  const wanted = query.getAll('user_id');
  const [other] = wanted;
  if (wanted.length > 1) throw new GatewayError('INVALID_REQUEST', { message: 'user_id is there twice' });
  if (own !== null && (other === undefined || other === own)) return own;
  const mayManage =
    principal.actor === null && principal.tenant_id === tenant && coversAll(principal.permissions, [MANAGE_AGENTS]);
  if (other !== undefined && mayManage) return other;
  const message =
    other === undefined
      ? 'This is for somebody who has logged in here'
      : `Permission denied: ${MANAGE_AGENTS} is required`;
  throw new GatewayError('FORBIDDEN', { message });
}

const time = (ms: number): string => new Date(ms).toISOString();

/** `last_used`: when it last got a token, which an agent that is at work does again and again. */
const viewOf = (grant: StandingGrant) => ({
  id: grant.sid,
  client_id: grant.clientId,
  client_name: grant.clientName,
  sent_to: grant.sentTo,
  scopes: grant.scopes,
  resources: grant.resources,
  created_at: time(grant.grantedAt),
  last_used: time(grant.usedAt),
});

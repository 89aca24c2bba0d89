/** The public halves of the gateway's signing keys, for everybody who checks its tokens. Source: RFC 7517 5, acceptance VF-02. */
import type { Endpoint } from '../protocols/endpoint.ts';
import type { PublicKeys } from './signing-ring.ts';

/** Where tokens are checked by what is in them. */
export const KEY_SET_PATH = '/.well-known/jwks.json';

/** Public keys change rarely and are for everybody; ten minutes is less than a new key waits before it signs. */
export function keySetEndpoint(path: string, published: (now: number) => Promise<PublicKeys>): Endpoint {
  return {
    method: 'GET',
    path,
    access: 'anyone',
    body: null,
    answer: async ({ exchange }) => ({
      status: 200,
      body: await published(exchange.received.receivedAt),
      headers: { 'content-type': 'application/jwk-set+json', 'cache-control': 'public, max-age=600' },
    }),
  };
}

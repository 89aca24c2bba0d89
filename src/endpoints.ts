/** Everything the gateway answers itself on the data listener, in one list. Each feature adds the endpoints it makes. */
import type { ProtocolParts } from './protocol-set.ts';
import type { Endpoint } from './protocols/endpoint.ts';
import { versionEndpoints } from './protocols/version-api.ts';

export function buildEndpoints(parts: ProtocolParts): readonly Endpoint[] {
  return [...parts.endpoints, ...versionEndpoints({ version: parts.platform.version })];
}

/** Puts the key service of one generation together: its endpoints, and who asks where a key asks about itself. */

import type { Config } from '../config/schema.ts';
import type { Judge } from '../core/exchange.ts';
import type { Route } from '../core/route.ts';
import { keyServiceEndpoints } from '../identity/key-service.ts';
import {
  type KeyValidationOptions,
  keyValidationEndpoint,
  VALIDATE_PATH,
  validatingPrincipal,
} from '../identity/key-validation.ts';
import type { Authenticator } from '../pipeline/stages/authenticate.ts';
import { isPermission } from '../pipeline/stages/decide.ts';
import { endpointCall } from '../protocols/api.ts';
import type { Endpoint } from '../protocols/endpoint.ts';
import type { Platform } from './assembly.ts';

function validationOf(platform: Platform): KeyValidationOptions {
  const { keys, pepper, clock, keyUsage: usage, logging, switches } = platform;
  const logger = logging.component('identity');
  return {
    issuing: { keys, pepper, clock },
    usage,
    refusalOf: (principal) => switches.refusalOf(principal),
    onFailure: (error) => logger.warn({ err: error }, 'the use of a key could not be written'),
  };
}

/** None while `key_service.enabled` is false. */
export function keyServiceOf(config: Config, platform: Platform, judge: Judge): readonly Endpoint[] {
  const { key_service, environment } = config;
  if (!key_service.enabled) return [];
  const { keys, pepper, clock, shared, keyUsage: usage } = platform;
  const management = keyServiceEndpoints({
    issuing: { keys, pepper, clock, shared, environment },
    usage,
    prefix: key_service.prefix,
    serviceId: key_service.service_id,
    holds(exchange, permissions) {
      const [decision] = judge(exchange, [endpointCall(exchange, '/api/v1/keys', { allOf: permissions })]);
      return decision !== undefined && isPermission(decision);
    },
  });
  return [...management, keyValidationEndpoint(validationOf(platform))];
}

/** Puts what lets a key ask about itself in the place of the authenticator of that route, if there is one. */
export function letKeysAsk(platform: Platform, authenticators: Map<Route, Authenticator>): void {
  const options = validationOf(platform);
  for (const route of authenticators.keys()) {
    if (route.match !== VALIDATE_PATH || route.protocol !== 'api') continue;
    authenticators.set(route, { authenticate: ({ headers }) => validatingPrincipal(options, headers) });
  }
}

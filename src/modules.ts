/** THE list of built-in plug-ins. A new provider is one file and one line here. */
import { z } from 'zod';
import { apiKeyModule } from './identity/providers/api-key.ts';
import { jwtModule } from './identity/providers/jwt.ts';

export const IDENTITY_MODULES = [jwtModule, apiKeyModule] as const;

/** What `identity.*` of the config file may hold: one schema per provider kind. */
export const IDENTITY_SCHEMA = z.discriminatedUnion('kind', [jwtModule.schema, apiKeyModule.schema]);

/** OAuth scopes as the configuration names them. Source: RFC 6749 3.3, MCP authorization (no `offline_access`). */
import { z } from 'zod';

export const scopesSchema = z
  .array(z.string().regex(/^[\x21\x23-\x5b\x5d-\x7e]{1,128}$/, 'one scope, without spaces and quotes'))
  .max(50)
  .refine((scopes) => !scopes.includes('offline_access'), 'offline_access is between clients and their issuer')
  .default([]);

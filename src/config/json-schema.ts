/** The configuration's JSON Schema, for editors and for suggestions. `config/schema.json` is this, checked by a test. */
import { z } from 'zod';
import { configSchema } from './schema.ts';

/**
 * The schema of what a person writes: defaults are optional, secrets are texts (usually a reference), and every object
 * is closed. `providers` as for `configSchema`.
 */
export function configJsonSchema(providers: z.ZodType<{ kind: string }>): Record<string, unknown> {
  const schema = z.toJSONSchema(configSchema(providers), {
    io: 'input',
    unrepresentable: 'any',
    override: ({ jsonSchema }) => {
      if (jsonSchema.secret !== true) return;
      // The union of "already wrapped" and "text" is an implementation detail; a person writes text.
      delete jsonSchema.anyOf;
      delete jsonSchema.secret;
      jsonSchema.type = 'string';
    },
  });
  return { ...schema, $id: 'https://portcullis.invalid/config/schema.json', title: 'Portcullis configuration' };
}

/** Holds real answers against an OpenAPI document: what is published must be what is said. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { z } from 'zod';
import { ROOT } from './processes.ts';

interface Described {
  readonly paths: Readonly<Record<string, Readonly<Record<string, Operation>>>>;
  readonly components: { readonly schemas: Readonly<Record<string, object>> };
}

interface Operation {
  readonly responses: Readonly<Record<string, Response>>;
}

interface Response {
  readonly content: Readonly<Record<string, { readonly schema: { readonly $ref: string } }>>;
}

/** `fault` says in one sentence what of an answer the document does not describe; null when it describes all of it. */
export function publishedApi(file = 'docs/openapi.json') {
  const { paths, components } = JSON.parse(readFileSync(join(ROOT, file), 'utf8')) as Described;
  const schemas = new Map<string, z.ZodType>();
  const named = (ref: string): z.ZodType => {
    const known = schemas.get(ref);
    if (known !== undefined) return known;
    const local = (value: object) =>
      JSON.parse(JSON.stringify(value).replaceAll('"#/components/schemas/', '"#/$defs/')) as object;
    const made = z.fromJSONSchema({ ...local({ $ref: ref }), $defs: local(components.schemas) } as never);
    schemas.set(ref, made);
    return made;
  };
  return {
    operations: Object.entries(paths).flatMap(([path, methods]) =>
      Object.keys(methods).map((method) => `${method.toUpperCase()} ${path}`),
    ),
    fault(method: string, path: string, status: number, type: string | null, body: unknown): string | null {
      const where = `${method} ${path} ${status}`;
      const response = paths[path]?.[method.toLowerCase()]?.responses[String(status)];
      if (response === undefined) return `${where} is not described`;
      const content = response.content[type?.split(';')[0] ?? ''];
      if (content === undefined) return `${where}: ${type} is not described`;
      const parsed = named(content.schema.$ref).safeParse(body);
      return parsed.success ? null : `${where}: ${z.prettifyError(parsed.error)}`;
    },
  };
}

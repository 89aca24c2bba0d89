/** Request bodies of the administration listener. */
import type { Context } from 'hono';
import type { z } from 'zod';
import { GatewayError } from '../core/errors.ts';
import type { AdminEnv } from './app.ts';

const BODY_LIMIT = 65_536;

/** A request that is well-formed but not valid, with the field that is wrong. */
export function invalid(field: string, problem: string): GatewayError {
  return new GatewayError('UNPROCESSABLE', { details: { problems: [`${field}: ${problem}`] } });
}

/** A small JSON body that fits the schema; an empty one counts as `{}`. Rejects with a GatewayError. */
export async function readBody<T>(c: Context<{ Bindings: AdminEnv }>, schema: z.ZodType<T>): Promise<T> {
  const { headers } = c.env.received;
  if (headers['transfer-encoding'] !== undefined) {
    throw new GatewayError('INVALID_REQUEST', { message: 'Content-Length is required here' });
  }
  if (Number(headers['content-length'] ?? 0) > BODY_LIMIT) throw new GatewayError('PAYLOAD_TOO_LARGE');
  const text = await c.req.text();
  let value: unknown;
  try {
    value = text === '' ? {} : JSON.parse(text);
  } catch {
    throw new GatewayError('INVALID_REQUEST', { message: 'The body is not JSON' });
  }
  const parsed = parse(schema, value);
  if (parsed.success) return parsed.data;
  const problems = parsed.error.issues.map((issue) => `${issue.path.join('.') || 'body'}: ${issue.message}`);
  throw new GatewayError('UNPROCESSABLE', { details: { problems } });
}

function parse<T>(schema: z.ZodType<T>, value: unknown): z.ZodSafeParseResult<T> {
  try {
    return schema.safeParse(value);
  } catch (cause) {
    if (!(cause instanceof RangeError)) throw cause;
    throw new GatewayError('INVALID_REQUEST', { message: 'The body is nested too deep', cause });
  }
}

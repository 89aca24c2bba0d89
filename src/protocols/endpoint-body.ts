/** Bodies of the gateway's own endpoints: one media type, strict parsing, and one error that names every bad field. */
import type { z } from 'zod';
import { GatewayError } from '../core/errors.ts';
import type { Admitted } from '../core/exchange.ts';
import { readBody } from './body.ts';
import type { EndpointBody } from './endpoint.ts';
import { parseStrict } from './json.ts';
import { isJsonType } from './mcp/headers.ts';

const DEFAULT_LIMIT = 65_536;
const MAX_PROBLEMS = 20;
const MAX_PROBLEM = 200;
/** Fields of a form; more is nothing anybody sends by hand. */
const MAX_FIELDS = 100;

/**
 * The body as the schema gives it. Rejects with UNSUPPORTED_MEDIA_TYPE, PAYLOAD_TOO_LARGE, INVALID_REQUEST for what
 * cannot be parsed, and the `misfit` error for what the schema does not take.
 */
export async function readEndpointBody<Body>(wanted: EndpointBody<Body>, exchange: Admitted): Promise<Body> {
  const { received, route } = exchange;
  const limit = Math.min(route.limits.body_bytes, wanted.limit ?? DEFAULT_LIMIT);
  const misfit = wanted.misfit ?? 'UNPROCESSABLE';
  if (wanted.encoding === 'bytes') return checked(wanted.schema, await readBody(received, limit), misfit);
  const type = received.headers['content-type'];
  const isForm = wanted.encoding === 'form' || (wanted.encoding === 'either' && type !== undefined && isFormType(type));
  if (type !== undefined && !(isForm ? isFormType(type) : isJsonType(type))) {
    throw unsupported(isForm);
  }
  const bytes = await readBody(received, limit);
  if (bytes.length > 0 && type === undefined) throw unsupported(isForm);
  const value: unknown = bytes.length === 0 ? {} : isForm ? parseForm(bytes) : parseStrict(bytes);
  return checked(wanted.schema, value, misfit);
}

function unsupported(isForm: boolean): GatewayError {
  const accepted = isForm ? 'application/x-www-form-urlencoded' : 'application/json';
  return new GatewayError('UNSUPPORTED_MEDIA_TYPE', { message: `The body must be ${accepted}`, details: { accepted } });
}

function isFormType(type: string): boolean {
  return /^application\/x-www-form-urlencoded\s*(?:;\s*charset="?utf-8"?\s*)?$/i.test(type);
}

const strictUtf8 = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true });

function parseForm(bytes: Buffer): Record<string, string> {
  let text: string;
  try {
    text = strictUtf8.decode(bytes);
  } catch {
    throw new GatewayError('INVALID_REQUEST', { message: 'The form is not valid UTF-8' });
  }
  // What curl sends without a header; read as a form it would be one field whose name holds all secrets in it.
  if (/^\s*[{[]/.test(text)) throw unsupported(false);
  const fields: Record<string, string> = {};
  let count = 0;
  for (const [name, value] of new URLSearchParams(text)) {
    if (++count > MAX_FIELDS) throw new GatewayError('INVALID_REQUEST', { message: 'The form has too many fields' });
    // A field that is there twice is read in two ways by two parties.
    if (name === '__proto__' || Object.hasOwn(fields, name)) {
      throw new GatewayError('INVALID_REQUEST', { message: 'The form has a field that is there twice or not allowed' });
    }
    fields[name] = value;
  }
  return fields;
}

/** The value as the schema gives it. Throws `code` with every problem, in `detail` and in `details.problems`. */
export function checked<T>(schema: z.ZodType<T>, value: unknown, code: 'INVALID_REQUEST' | 'UNPROCESSABLE'): T {
  const parsed = schema.safeParse(value);
  if (parsed.success) return parsed.data;
  const problems = parsed.error.issues
    .slice(0, MAX_PROBLEMS)
    .map(({ path, message }) => `${path.join('.') || 'body'}: ${message}`.slice(0, MAX_PROBLEM));
  throw new GatewayError(code, { message: problems.join('; '), details: { problems } });
}

/** Where decisions are recorded, and which policy is tried out on them. */
import { z } from 'zod';
import type { Secret } from '../core/secret.ts';

const pointer = z
  .string()
  .regex(/^\/(input|result|nd_builtin_cache)(\/.*)?$/, 'a place such as /input/parameters/email');

const LOOPBACK = new Set(['localhost', '127.0.0.1', '[::1]']);

/** Decisions tell who did what: they do not travel in the clear. */
const serviceUrl = z.string().refine((text) => {
  const url = URL.parse(text);
  if (url === null || url.username !== '' || url.hash !== '' || url.search !== '') return false;
  return url.protocol === 'https:' || (url.protocol === 'http:' && LOOPBACK.has(url.hostname));
}, 'expected an https address such as https://logs.example.com (http only to this machine)');

const upload = z.strictObject({
  min_seconds: z.number().min(0).max(86_400).default(5).describe('at least this long between two uploads'),
  max_seconds: z.number().min(0).max(86_400).default(30).describe('at most this long; also between two retries'),
  max_bytes: z.int().min(1024).max(16_777_216).default(32_768).describe('of one upload, compressed'),
});

/** How a service is reached that takes what OPA sends; `url` says what goes below its address. */
function opaService(secret: z.ZodType<Secret, string | Secret>, url: string) {
  return {
    url: serviceUrl.describe(url),
    credential: secret.optional().describe('sent as a bearer token'),
    partition: z
      .string()
      .regex(/^[\w.-]{1,64}$/)
      .optional()
      .describe('appended to the path'),
    ca: z.string().optional().describe('PEM bundle of the service’s certificate authority'),
  };
}

/** `secret` is the schema of a secret, handed in because it lives with the rest of the configuration. */
export function decisionLogSchema(secret: z.ZodType<Secret, string | Secret>) {
  return z
    .strictObject({
      file: z.string().optional().describe('JSON lines, in the event format of OPA'),
      service: z
        .strictObject(opaService(secret, 'base URL; events go to /logs below it'))
        .optional()
        .describe('a service that takes OPA’s decision log'),
      mask: z.array(pointer).max(100).default([]).describe('places that are removed from every event'),
      max_waiting: z.int().min(1).max(1_000_000).default(10_000).describe('events in memory; more are dropped'),
      drop_over: z.int().min(1).optional().describe('events a second; more are dropped'),
      upload: upload.prefault({}),
    })
    .refine(({ file, service }) => file !== undefined || service !== undefined, 'names neither a file nor a service');
}

/** Who is told how the policy in force does. */
export function statusReportsSchema(secret: z.ZodType<Secret, string | Secret>) {
  return z.strictObject({
    ...opaService(secret, 'base URL; reports go to /status below it'),
    every_seconds: z.number().min(0.01).max(3600).default(1).describe('how often it is looked whether there is news'),
  });
}

export const shadowSchema = z.strictObject({
  bundle: z.string().describe('the candidate: directory with .rego files and the compiled bundle, or a bundle file'),
  data: z.string().optional().describe('JSON data document; default: data.json in the candidate’s directory'),
  sample: z.number().gt(0).max(1).default(1).describe('share of the decisions it is asked about'),
  time_limit_ms: z
    .int()
    .min(1)
    .max(1000)
    .default(20)
    .describe(
      'bounds one evaluation by steps: 500,000 for each; a slow or busy machine needs longer for them than that',
    ),
});

/** Where a policy bundle comes from, when it is more than a path. Source: policy-engine 3. */
import { z } from 'zod';

const ALGORITHMS = [
  ...(['RS256', 'RS384', 'RS512', 'PS256', 'PS384', 'PS512'] as const),
  ...(['ES256', 'ES384', 'ES512', 'HS256', 'HS384', 'HS512', 'EdDSA'] as const),
] as const;

/** In whatever form it is there, a bundle without a good signature is refused. `secret`: see schema.ts. */
function signing<S extends z.ZodType>(secret: S) {
  return z
    .strictObject({
      keys: z
        .record(
          z.string().min(1).max(256),
          z.strictObject({
            algorithm: z.enum(ALGORITHMS).describe('the only one that is accepted with this key'),
            key: secret,
          }),
        )
        .refine((keys) => Object.keys(keys).length > 0, 'names no key: every bundle would be refused')
        .describe('public keys (PEM) or HS secrets by their id in the signature'),
      keyid: z.string().min(1).optional().describe('the one key that counts'),
      scope: z.string().optional().describe('what the signature must have been made for'),
      exclude: z.array(z.string()).default([]).describe('files that are not signed: they are left out of the bundle'),
    })
    .refine(({ keyid, keys }) => keyid === undefined || Object.hasOwn(keys, keyid), {
      path: ['keyid'],
      error: 'is none of the keys',
    });
}

/** A bundle file that has to be signed. */
export function bundleFileSchema<S extends z.ZodType>(secret: S) {
  return z.strictObject({ file: z.string().min(1).describe('a .tar.gz bundle'), signing: signing(secret) });
}

interface Service {
  readonly url: string;
  readonly signing?: unknown;
  readonly credential?: unknown;
}

function isSafe({ url, signing, credential }: Service): boolean {
  return !/^http:/i.test(url) || LOOPBACK.test(url) || (signing !== undefined && credential === undefined);
}

const LOOPBACK = /^http:\/\/(?:localhost|127\.0\.0\.1|\[::1\])(?=[:/]|$)/i;

/** A service that is asked for bundles. */
export function bundleServiceSchema<U extends z.ZodType<string>, C extends z.ZodType, S extends z.ZodType>(shared: {
  readonly httpUrl: U;
  readonly credential: C;
  readonly secret: S;
}) {
  return z
    .strictObject({
      url: shared.httpUrl.describe('address of the service, or of the bundle itself'),
      resource: z.string().optional().describe('path of the bundle below url'),
      credential: shared.credential.optional().describe('a bearer token, or a header with its value'),
      ca: z.string().optional().describe('PEM bundle of the service’s certificate authority'),
      signing: signing(shared.secret).optional(),
      polling: z
        .strictObject({
          min_seconds: z.number().min(0.01).max(86_400).default(60),
          max_seconds: z.number().min(0.01).max(86_400).default(120),
          long_poll_seconds: z.int().min(1).max(3600).optional().describe('a service that can may hold a request open'),
        })
        .refine(({ min_seconds, max_seconds }) => min_seconds <= max_seconds, {
          path: ['max_seconds'],
          error: 'must not be less than min_seconds',
        })
        .prefault({}),
      persist: z.string().optional().describe('directory of the last good bundle: a start then needs no service'),
      require_newer: z
        .boolean()
        .default(false)
        .describe('refuse bundles that do not say their place in the order (`portcullis policy build` writes it)'),
      max_bytes: z.int().min(1024).max(1_073_741_824).default(67_108_864).describe('of the archive as it comes'),
      max_unpacked_bytes: z
        .int()
        .min(1024)
        .max(4_294_967_295)
        .optional()
        .describe('of all that is in it; default: four times max_bytes'),
    })
    .refine((service) => isSafe(service as Service), {
      path: ['url'],
      error: 'must be https, or the bundle signed and no credential sent: anybody on the way could change it',
    });
}

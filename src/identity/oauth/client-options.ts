/** How the gateway proves itself to an authorization server. Source: RFC 6749 2.3, RFC 7523, acceptance S-62. */
import { createPrivateKey, type KeyObject, type webcrypto } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { resolve } from 'node:path';
import type { ClientAuth } from 'openid-client';
import { ClientSecretBasic, ClientSecretPost, None, PrivateKeyJwt } from 'openid-client';
import { z } from 'zod';
import { secret } from '../../config/schema.ts';
import type { Secret } from '../../core/secret.ts';
import { isFetchable } from '../key-fetch.ts';

/** An URL that may be asked: https, or http to this machine. */
export const endpointUrl = z
  .string()
  .max(2048)
  .refine(isFetchable, 'must be https, or http to loopback, without user name and fragment');

/** Options of whoever is a client of an authorization server. */
export const CLIENT = {
  issuer: endpointUrl.describe('the issuer, compared byte by byte; its discovery document must name the same'),
  client_id: z.string().min(1).max(512).describe('of the gateway at the authorization server'),
  client_secret: secret.optional(),
  private_key: z.string().min(1).optional().describe('PEM file of the key for private_key_jwt'),
  private_key_id: z.string().min(1).max(256).optional().describe('kid of that key'),
  authentication: z
    .enum(['basic', 'post', 'private_key_jwt', 'none'])
    .optional()
    .describe('default: basic with a secret, private_key_jwt with a key, else none (a public client)'),
  timeout_ms: z.int().min(50).max(4000).default(1500).describe('one question to the authorization server, altogether'),
};

interface ClientOptions {
  readonly client_secret?: unknown;
  readonly private_key?: string | undefined;
  readonly private_key_id?: string | undefined;
  readonly authentication?: 'basic' | 'post' | 'private_key_jwt' | 'none' | undefined;
}

/** What is used when nothing is said. */
export function authenticationOf(options: ClientOptions): 'basic' | 'post' | 'private_key_jwt' | 'none' {
  if (options.authentication !== undefined) return options.authentication;
  if (options.private_key !== undefined) return 'private_key_jwt';
  return options.client_secret === undefined ? 'none' : 'basic';
}

/** What does not go together, as `superRefine` wants it told. */
export function clientProblems(options: ClientOptions, report: (path: string, message: string) => void): void {
  const method = authenticationOf(options);
  const needsSecret = method === 'basic' || method === 'post';
  if (needsSecret !== (options.client_secret !== undefined)) {
    report('client_secret', needsSecret ? `${method} needs a client_secret` : `is not used with ${method}`);
  }
  if ((method === 'private_key_jwt') !== (options.private_key !== undefined)) {
    report('private_key', method === 'private_key_jwt' ? 'private_key_jwt needs one' : `is not used with ${method}`);
  }
}

/** Rejects with the file's name when the key cannot be read: a mistake to be told at start. */
export async function clientAuthentication(options: ClientOptions, baseDir: string): Promise<ClientAuth> {
  // zod cannot know what a Secret holds; the schema lets only texts in.
  const clientSecret = options.client_secret as Secret | undefined;
  switch (authenticationOf(options)) {
    case 'basic':
      return ClientSecretBasic(clientSecret?.reveal() ?? '');
    case 'post':
      return ClientSecretPost(clientSecret?.reveal() ?? '');
    case 'none':
      return None();
    case 'private_key_jwt': {
      const key = await importKey(resolve(baseDir, options.private_key ?? ''));
      return PrivateKeyJwt(options.private_key_id === undefined ? key : { key, kid: options.private_key_id });
    }
  }
}

async function importKey(file: string): Promise<webcrypto.CryptoKey> {
  try {
    const key = createPrivateKey(readFileSync(file));
    const bytes = key.export({ type: 'pkcs8', format: 'der' });
    return await crypto.subtle.importKey('pkcs8', bytes, algorithmOf(key), false, ['sign']);
  } catch (error) {
    throw new Error(`${file}: ${error instanceof Error ? error.message : 'cannot be read'}`);
  }
}

const CURVES: Readonly<Record<string, string>> = { prime256v1: 'P-256', secp384r1: 'P-384', secp521r1: 'P-521' };

function algorithmOf(
  key: KeyObject,
): webcrypto.RsaHashedImportParams | webcrypto.EcKeyImportParams | webcrypto.Algorithm {
  if (key.asymmetricKeyType === 'rsa') return { name: 'RSASSA-PKCS1-v1_5', hash: 'SHA-256' };
  if (key.asymmetricKeyType === 'ed25519') return { name: 'Ed25519' };
  const namedCurve = CURVES[key.asymmetricKeyDetails?.namedCurve ?? ''];
  if (namedCurve === undefined) throw new Error('holds a key of an unsupported type or curve');
  return { name: 'ECDSA', namedCurve };
}

/** Principals, a desk and hand-made tokens for tests of delegation. */
import { SignJWT } from 'jose';
import {
  type Actor,
  ANONYMOUS,
  makePrincipal,
  type Principal,
  type PrincipalFacts,
} from '../../../src/core/principal.ts';
import { freezePrincipal } from '../../../src/identity/credential-cache.ts';
import { createDelegation, type Delegation } from '../../../src/identity/delegation.ts';
import { type DelegationKey, delegationKey } from '../../../src/identity/delegation-token.ts';
import type { Setting } from './setting.ts';

export const AUDIENCE = 'https://gateway.example';
export const TENANT = 'acme';

/** Facts that give each trust level by the default data. */
const LEVELS: Readonly<Record<string, Partial<PrincipalFacts>>> = {
  critical: { roles: ['admin'], tenure_months: 24 },
  high: { roles: ['developer'], tenure_months: 6 },
  medium: { roles: ['developer'], tenure_months: 5 },
  low: { roles: ['analyst'], tenure_months: 60 },
  untrusted: { roles: ['guest'], tenure_months: 60 },
};

const ACTED: Actor = { id: 'somebody', type: 'service', actor: null };
const SPECIAL: Readonly<Record<string, Partial<PrincipalFacts>>> = {
  'new-admin': { roles: ['admin'] },
  scoped: { roles: ['admin'], tenure_months: 24, scopes: ['orders.read', 'orders.write'], permissions: ['tasks.read'] },
  starred: { roles: ['admin'], tenure_months: 24, permissions: ['tasks.*'] },
  rival: { roles: ['analyst'], tenant_id: 'rival' },
  twin: { id: 'low-1', roles: ['analyst'], tenant_id: 'rival' },
  proxy: { roles: ['analyst'], actor: ACTED },
  'bot-elsewhere': { id: 'bot', tenant_id: 'rival', roles: ['analyst'] },
  'bot-for-another': { id: 'bot', roles: ['analyst'], actor: ACTED },
};

/** `critical-1`, `low-7`: somebody of that trust level; a few names mean somebody in particular. */
export function person(name: string, more: Partial<PrincipalFacts> = {}): Principal {
  if (name === 'anonymous') return ANONYMOUS;
  const facts = SPECIAL[name] ?? LEVELS[name.split('-')[0] ?? ''] ?? { roles: ['analyst'], tenure_months: 12 };
  const whole = { id: name, tenant_id: TENANT, type: 'service' as const, ...facts, ...more };
  return freezePrincipal(makePrincipal(whole, 'keys', 'api-key'));
}

export function keyOf(around: Setting): DelegationKey {
  return delegationKey(around.env.pepper, AUDIENCE);
}

export function deskOf(around: Setting, onRejection?: (detail: string) => void): Delegation {
  return createDelegation({
    key: keyOf(around),
    shared: around.shared,
    keys: around.env.keys,
    issuers: new Map([['staff', 'https://idp.example']]),
    foreignKeys: new Set(['elsewhere']),
    ...(onRejection === undefined ? {} : { onRejection }),
  });
}

/** Parts of a token, taken apart and put together again by any key. */
export interface Parts {
  header: Record<string, unknown>;
  claims: Record<string, unknown>;
}

export function partsOf(token: string): Parts {
  const [header = '', claims = ''] = token.split('.');
  const read = (part: string) => JSON.parse(Buffer.from(part, 'base64url').toString()) as Record<string, unknown>;
  return { header: read(header), claims: read(claims) };
}

export function sign({ header, claims }: Parts, secret: Uint8Array): Promise<string> {
  // `crit` is nothing this library would sign: what such a token looks like is made by hand.
  if (header.crit !== undefined || header.alg !== 'HS256') return signByHand({ header, claims }, secret);
  return new SignJWT(claims).setProtectedHeader(header as { alg: string }).sign(secret);
}

export const encode = (value: unknown): string => Buffer.from(JSON.stringify(value)).toString('base64url');

async function signByHand({ header, claims }: Parts, secret: Uint8Array): Promise<string> {
  const { createHmac } = await import('node:crypto');
  const text = `${encode(header)}.${encode(claims)}`;
  const algorithm = header.alg === 'HS512' ? 'sha512' : 'sha256';
  return `${text}.${createHmac(algorithm, secret).update(text).digest('base64url')}`;
}

/**
 * Turns what a provider returned into a Principal that can be relied on: every field there, every type right. Our own
 * providers and a user's class go through the same check; what is wrong is a technical failure, never a guest.
 */

import type { CredentialKind } from '../core/principal.ts';
import { type Actor, type AuthFacts, makePrincipal, type Principal, type PrincipalFacts } from '../core/principal.ts';
import { freezePrincipal, isFrozenPrincipal } from './credential-cache.ts';

const LISTS = ['roles', 'teams', 'groups', 'permissions', 'scopes'] as const;
const TEXTS = ['tenant_id', 'email', 'username'] as const;
const MAX_ID = 512;
const MAX_ACTORS = 8;

/**
 * Throws TypeError when the provider's answer cannot be a principal. Our own providers' principals come back as they
 * are, the same object on every cache hit; anything else is copied each time, for its owner may change it for the next
 * caller.
 */
export function completePrincipal(given: unknown, provider: string, method: CredentialKind): Principal {
  if (typeof given !== 'object' || given === null) throw new TypeError('the provider gave no principal');
  if (isFrozenPrincipal(given) && given.auth.provider === provider) return given;
  return freezePrincipal(copy(given as Record<string, unknown>, provider, method));
}

function copy(given: Record<string, unknown>, provider: string, method: CredentialKind): Principal {
  const facts: Record<string, unknown> = { id: id(given.id), type: type(given.type) };
  for (const name of LISTS) facts[name] = texts(given[name], name);
  for (const name of TEXTS) facts[name] = text(given[name], name);
  if (facts.tenant_id === '') throw new TypeError('tenant_id is empty');
  facts.tenure_months = amount(given.tenure_months, 'tenure_months');
  facts.device_compliant = flag(given.device_compliant, 'device_compliant');
  facts.actor = actor(given.actor, 0);
  facts.metadata = metadata(given.metadata);
  facts.auth = auth(given.auth);
  // The names above are the fields of PrincipalFacts and each value was checked; null and absent mean the same to makePrincipal.
  return makePrincipal(facts as PrincipalFacts & Record<string, unknown>, provider, method);
}

function id(value: unknown): string {
  if (typeof value !== 'string' || value === '' || value.length > MAX_ID || hasControl(value)) {
    throw new TypeError('id must be a text without control characters');
  }
  return value;
}

function hasControl(value: string): boolean {
  for (let i = 0; i < value.length; i++) {
    const c = value.charCodeAt(i);
    if (c < 32 || c === 127) return true;
  }
  return false;
}

/** `anonymous` is the gateway's to give, for a route that says so. */
function type(value: unknown): 'user' | 'service' | 'agent' {
  if (value === undefined || value === null) return 'user';
  if (value === 'user' || value === 'service' || value === 'agent') return value;
  throw new TypeError('type must be user, service or agent');
}

function texts(value: unknown, name: string): string[] {
  if (value === undefined || value === null) return [];
  // What is checked is the copy: a list of somebody's own may have gaps, or look different each time.
  const copied: unknown[] | null = Array.isArray(value) ? [...value] : null;
  if (copied === null || !copied.every((item) => typeof item === 'string')) {
    throw new TypeError(`${name} must be a list of texts`);
  }
  return copied as string[];
}

function text(value: unknown, name: string): string | null {
  if (value === undefined || value === null) return null;
  if (typeof value !== 'string') throw new TypeError(`${name} must be a text`);
  return value;
}

function amount(value: unknown, name: string): number | null {
  if (value === undefined || value === null) return null;
  if (typeof value !== 'number' || !Number.isFinite(value)) throw new TypeError(`${name} must be a number`);
  return value;
}

/** Strict: the text "false" is truthy. */
function flag(value: unknown, name: string): boolean {
  if (value === undefined || value === null) return false;
  if (typeof value !== 'boolean') throw new TypeError(`${name} must be true or false`);
  return value;
}

function actor(value: unknown, depth: number): Actor | null {
  if (value === undefined || value === null) return null;
  if (typeof value !== 'object' || depth >= MAX_ACTORS) throw new TypeError('actor must be a short chain of parties');
  const given = value as Record<string, unknown>;
  return { id: id(given.id), type: type(given.type), actor: actor(given.actor, depth + 1) };
}

function metadata(value: unknown): Record<string, string> {
  if (value === undefined || value === null) return {};
  if (typeof value !== 'object') throw new TypeError('metadata must map texts to texts');
  const entries = Object.entries(value);
  if (!entries.every(([, item]) => typeof item === 'string')) throw new TypeError('metadata must map texts to texts');
  return Object.fromEntries(entries) as Record<string, string>;
}

function auth(value: unknown): Partial<AuthFacts> {
  if (value === undefined || value === null) return {};
  if (typeof value !== 'object') throw new TypeError('auth must be an object');
  const given = value as Record<string, unknown>;
  return {
    mfa_verified: flag(given.mfa_verified, 'auth.mfa_verified'),
    mfa_at: amount(given.mfa_at, 'auth.mfa_at'),
    session_id: text(given.session_id, 'auth.session_id'),
    key_id: text(given.key_id, 'auth.key_id'),
    token_id: text(given.token_id, 'auth.token_id'),
    expires_at: amount(given.expires_at, 'auth.expires_at'),
  };
}

/** Making, replacing and withdrawing API keys. The text of a key leaves here once and is never stored. Source: contracts 5, acceptance HW-07, V-27. */
import { BlockList, isIP } from 'node:net';
import type { Clock } from '../core/clock.ts';
import { Secret } from '../core/secret.ts';
import type { ApiKeyFacts, ApiKeyRecord, ApiKeyStore } from '../stores/api-keys.ts';
import type { Shared } from '../stores/shared.ts';
import { generateKey, hashKey, KEY_ENVIRONMENTS, keyMatches, parseKey } from './key-format.ts';
import { announceKeyChange } from './revocations.ts';

/** Milliseconds an old key stays good after a rotation: 24 hours. */
export const ROTATION_GRACE_MS = 86_400_000;
/** What our own keys begin with. */
export const KEY_PREFIX = 'pc';

export interface KeyIssuing {
  readonly keys: ApiKeyStore;
  readonly pepper: Secret;
  readonly environment: keyof typeof KEY_ENVIRONMENTS;
  readonly clock: Clock;
  /** Tells running gateways; null where there is none to tell. */
  readonly shared: Shared | null;
}

/** What a new key is for. Facts left out take the least privileged value. */
export interface KeyRequest extends Partial<ApiKeyFacts> {
  readonly name: string;
  readonly tenant_id: string;
  /** Principal id; default: `key:<name>`. */
  readonly owner_id?: string;
  /** Epoch milliseconds. */
  readonly expires_at?: number | null;
  readonly prefix?: string;
}

export interface IssuedKey {
  readonly record: ApiKeyRecord;
  readonly key: Secret;
}

function newKey(
  issuing: KeyIssuing,
  from: Omit<ApiKeyRecord, 'id' | 'hash' | 'environment' | 'created_at'>,
): IssuedKey {
  const environment = KEY_ENVIRONMENTS[issuing.environment];
  const { id, text } = generateKey(from.prefix, environment);
  const hash = hashKey(text, issuing.pepper);
  return { record: { ...from, id, hash, environment, created_at: issuing.clock.now() }, key: new Secret(text) };
}

/** Makes and stores a key. Throws TypeError when an allowed address is none. */
export async function issueKey(issuing: KeyIssuing, request: KeyRequest): Promise<IssuedKey> {
  const issued = newKey(issuing, {
    tenant_id: request.tenant_id,
    owner_id: request.owner_id ?? `key:${request.name}`,
    name: request.name,
    prefix: request.prefix ?? KEY_PREFIX,
    facts: completeFacts(request),
    expires_at: request.expires_at ?? null,
    revoked_at: null,
    last_used_at: null,
    replaced_by: null,
  });
  await issuing.keys.insert(issued.record);
  return issued;
}

function completeFacts(given: Partial<ApiKeyFacts>): ApiKeyFacts {
  const allowed_ips = given.allowed_ips ?? [];
  addressList(allowed_ips);
  return {
    type: given.type ?? 'service',
    username: given.username ?? null,
    email: given.email ?? null,
    roles: given.roles ?? [],
    teams: given.teams ?? [],
    groups: given.groups ?? [],
    permissions: given.permissions ?? [],
    scopes: given.scopes ?? [],
    tenure_months: given.tenure_months ?? null,
    mfa_verified: given.mfa_verified ?? false,
    device_compliant: given.device_compliant ?? false,
    metadata: given.metadata ?? {},
    allowed_ips,
    rate_limit_per_hour: given.rate_limit_per_hour ?? null,
  };
}

/** A new key with the same settings; the old one stays good for the grace time. Null: no such key, or it is not live. */
export async function rotateKey(
  issuing: KeyIssuing,
  tenant: string,
  id: string,
  graceMs = ROTATION_GRACE_MS,
): Promise<IssuedKey | null> {
  const old = await issuing.keys.find(id);
  const now = issuing.clock.now();
  if (old === null || old.tenant_id !== tenant || (old.expires_at !== null && old.expires_at <= now)) return null;
  const { id: _id, hash: _hash, environment: _environment, created_at: _created, ...settings } = old;
  const next = newKey(issuing, { ...settings, last_used_at: null, replaced_by: null });
  if (!(await issuing.keys.rotate(tenant, id, next.record, now + graceMs))) return null;
  if (issuing.shared !== null) await announceKeyChange(issuing.shared, id);
  return next;
}

/** Withdraws a key at once. False when the tenant has no such key. */
export async function revokeKey(issuing: Omit<KeyIssuing, 'pepper' | 'environment'>, tenant: string, id: string) {
  const revoked = await issuing.keys.revoke(tenant, id, issuing.clock.now());
  if (revoked && issuing.shared !== null) await announceKeyChange(issuing.shared, id);
  return revoked;
}

/** The record of a key that is good now and here, or null. Whether it may come from some address is for the caller to ask. */
export async function findGoodKey(issuing: Omit<KeyIssuing, 'shared'>, text: string): Promise<ApiKeyRecord | null> {
  const parsed = parseKey(text);
  if (parsed === null || parsed.environment !== KEY_ENVIRONMENTS[issuing.environment]) return null;
  const record = await issuing.keys.find(parsed.id);
  if (record === null || !keyMatches(text, issuing.pepper, record.hash) || record.revoked_at !== null) return null;
  return record.expires_at === null || record.expires_at > issuing.clock.now() ? record : null;
}

/** Addresses and CIDR ranges to test against; null when there is no restriction. Throws TypeError on anything else. */
export function addressList(ranges: readonly string[]): BlockList | null {
  if (ranges.length === 0) return null;
  const list = new BlockList();
  for (const range of ranges) {
    const [address = '', bits, more] = range.split('/');
    const family = isIP(address);
    const length = bits === undefined ? (family === 4 ? 32 : 128) : Number(bits);
    const isLength = bits === undefined || /^\d{1,3}$/.test(bits);
    if (family === 0 || more !== undefined || !isLength || length > (family === 4 ? 32 : 128)) {
      throw new TypeError(`"${range}" is no address and no CIDR range`);
    }
    list.addSubnet(address, length, family === 4 ? 'ipv4' : 'ipv6');
  }
  return list;
}

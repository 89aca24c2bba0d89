/**
 * The token that says who lent rights to whom: a JWT this gateway signs and only this gateway reads, with the actors
 * nested as RFC 8693 section 4.1 has it. It proves a delegation and no identity: the actor shows it beside its own
 * credential. Nothing in it is taken by itself; each part has to agree with the chain of hops.
 */
import { hash, hkdfSync } from 'node:crypto';
import { SignJWT } from 'jose';
import { z } from 'zod';
import type { Actor, Principal } from '../core/principal.ts';
import { makePrincipal } from '../core/principal.ts';
import type { Secret } from '../core/secret.ts';
import type { Limits } from './delegation-rights.ts';
import { takeApart } from './jwt-claims.ts';
import { isSignatureGood } from './signature.ts';

/** `typ` of the header (RFC 8725 3.11): no provider takes such a token for a credential, and nothing else is taken for one. */
export const DELEGATION_TYPE = 'delegation+jwt';
/** Actors in a chain. Policies draw the line much earlier. */
export const MAX_DEPTH = 15;
/** Characters: it travels in a header. */
export const MAX_TOKEN = 8192;
/** Seconds. */
export const MAX_LIFETIME = 3600;
/** Seconds by which clocks of two gateways over one database may differ. */
const SKEW = 60;
const ALGORITHM = 'HS256';

const name = z.string().min(1).max(512);
const words = z.array(z.string().max(512)).max(500);
const seconds = z.int().min(0);
const type = z.enum(['user', 'service', 'agent']);

interface Act {
  readonly sub: string;
  readonly principal_type: z.infer<typeof type>;
  readonly act?: Act | undefined;
}
const act: z.ZodType<Act> = z.lazy(() =>
  z.strictObject({ sub: name, principal_type: type, act: act.optional() }),
) as z.ZodType<Act>;

const limitsSchema = z.strictObject({
  roles: words.optional(),
  permissions: words.optional(),
  scopes: words.optional(),
});

/** What is known of a delegator when it hands its rights on. */
const factsSchema = z.strictObject({
  email: z.string().nullable(),
  username: z.string().nullable(),
  roles: words,
  teams: words,
  groups: words,
  permissions: words,
  scopes: words,
  tenure_months: z.number().nullable(),
  mfa_verified: z.boolean(),
  mfa_at: z.number().nullable(),
  device_compliant: z.boolean(),
  metadata: z.record(z.string(), z.string()),
});

const hopSchema = z.strictObject({
  sub: name,
  principal_type: type,
  /** Id and end of the token of this hop. */
  jti: name,
  iat: seconds,
  exp: seconds,
  provider: name,
  /** Which credential the delegator had shown, so that its end is the end of this. */
  key_id: name.nullable(),
  token_id: name.nullable(),
  /** Of an account of ours: the login behind the credential. */
  session_id: name.nullable().optional(),
  /** Who acted for the first delegator already, by the word of its own issuer. */
  prior: act.optional(),
  limits: limitsSchema,
  facts: factsSchema,
});

const claimsSchema = z.strictObject({
  iss: name,
  aud: name,
  jti: name,
  iat: seconds,
  exp: seconds,
  sub: name,
  tenant: name,
  act,
  may_act: z.strictObject({ sub: name }),
  depth: z.int().min(1).max(MAX_DEPTH),
  hops: z.array(hopSchema).min(1).max(MAX_DEPTH),
});

/** One handing on: by whom, when, until when, and what of it. */
export type Hop = z.output<typeof hopSchema>;
/** The claims of a delegation token. Dates are Unix seconds. */
export type DelegationClaims = z.output<typeof claimsSchema>;

/** What signs and checks. Two gateways with the same pepper and audience read each other's tokens. */
export interface DelegationKey {
  readonly kid: string;
  readonly secret: Uint8Array;
  /** Issuer and audience of the tokens. */
  readonly audience: string;
}

/** @param publicUrl of the gateway; without one the key's own name is the audience */
export function delegationKey(pepper: Secret, publicUrl: string | undefined): DelegationKey {
  const secret = new Uint8Array(hkdfSync('sha256', pepper.reveal(), '', 'portcullis delegation 1', 32));
  const kid = `dlg-${hash('sha256', Buffer.concat([Buffer.from('portcullis delegation kid'), secret]), 'base64url').slice(0, 16)}`;
  return { kid, secret, audience: publicUrl ?? `urn:portcullis:${kid}` };
}

/** Signs claims. They have to be consistent: what `readDelegation` would not take is a defect of the caller. */
export function signDelegation(key: DelegationKey, claims: DelegationClaims): Promise<string> {
  return new SignJWT({ ...claims })
    .setProtectedHeader({ alg: ALGORITHM, typ: DELEGATION_TYPE, kid: key.kid })
    .sign(key.secret);
}

/** Why a token is not taken, in words for the operator. */
export type DelegationFault =
  | 'not a well-formed JWT'
  | 'the header is not that of a delegation token'
  | 'the signature does not fit'
  | 'the claims are not those of a delegation token'
  | 'the audience is not ours'
  | 'the chain contradicts itself'
  | 'issued in the future or for too long'
  | 'expired';

/** The claims of a token that is genuine, consistent and not expired, or why it is not. `now`: epoch milliseconds. */
export async function readDelegation(
  key: DelegationKey,
  token: string,
  now: number,
): Promise<DelegationClaims | DelegationFault> {
  const parts = token.length > MAX_TOKEN ? null : takeApart(token);
  if (parts === null) return 'not a well-formed JWT';
  const { alg, typ, kid, ...more } = parts.header;
  if (alg !== ALGORITHM || typ !== DELEGATION_TYPE || kid !== key.kid || Object.keys(more).length > 0) {
    return 'the header is not that of a delegation token';
  }
  const verification = { kid: key.kid, algorithms: [ALGORITHM], key: key.secret };
  if (!(await isSignatureGood(verification, ALGORITHM, token))) return 'the signature does not fit';
  const parsed = claimsSchema.safeParse(parts.claims);
  if (!parsed.success) return 'the claims are not those of a delegation token';
  const claims = parsed.data;
  if (claims.iss !== key.audience || claims.aud !== key.audience) return 'the audience is not ours';
  if (!isConsistent(claims)) return 'the chain contradicts itself';
  const at = now / 1000;
  if (claims.iat > at + SKEW || claims.exp - claims.iat > MAX_LIFETIME) return 'issued in the future or for too long';
  return at >= claims.exp ? 'expired' : claims;
}

/** Everyone in the chain: the delegator, those who handed on, the current actor; those who acted before stand last. */
export function chainOfClaims({ hops, act: current }: Pick<DelegationClaims, 'hops' | 'act'>): string[] {
  const prior: string[] = [];
  for (let at = hops[0]?.prior; at !== undefined; at = at.act) prior.push(at.sub);
  return [...hops.map(({ sub }) => sub), current.sub, ...prior];
}

/** The actors as RFC 8693 nests them: the target, those who handed on to it, whoever acted for the first delegator. */
export function nestActors(target: Omit<Act, 'act'>, hops: readonly Hop[]): Act {
  let inner: Act | undefined = hops[0]?.prior;
  for (const { sub, principal_type } of hops.slice(1)) inner = { sub, principal_type, ...withAct(inner) };
  return { sub: target.sub, principal_type: target.principal_type, ...withAct(inner) };
}

const withAct = (inner: Act | undefined) => (inner === undefined ? {} : { act: inner });

function isConsistent(claims: DelegationClaims): boolean {
  const { hops, sub, may_act, exp, iat, jti } = claims;
  const last = hops[hops.length - 1];
  if (hops[0]?.sub !== sub || may_act.sub !== claims.act.sub) return false;
  if (last === undefined || last.jti !== jti || last.exp !== exp || last.iat !== iat) return false;
  if (JSON.stringify(nestActors(claims.act, hops)) !== JSON.stringify(ordered(claims.act))) return false;
  const chain = chainOfClaims(claims);
  if (new Set(chain).size !== chain.length || claims.depth !== chain.length - 1) return false;
  return hops.every((hop, at) => {
    const before = hops[at - 1];
    if (hop.exp <= hop.iat || (at > 0 && hop.prior !== undefined)) return false;
    return before === undefined || (before.exp >= hop.exp && before.iat <= hop.iat && before.jti !== hop.jti);
  });
}

/** The same members in the order we write them. */
function ordered(given: Act): Act {
  return {
    sub: given.sub,
    principal_type: given.principal_type,
    ...withAct(given.act === undefined ? undefined : ordered(given.act)),
  };
}

/** `act` as principals carry it. */
export function actorOf(given: Act): Actor {
  return { id: given.sub, type: given.principal_type, actor: given.act === undefined ? null : actorOf(given.act) };
}

/** A principal's own chain as a claim; undefined for none. */
export function actOf(actor: Actor | null): Act | undefined {
  if (actor === null || actor.type === 'anonymous') return undefined;
  return { sub: actor.id, principal_type: actor.type, ...withAct(actOf(actor.actor)) };
}

/** A hop for a delegator that hands on now. Anonymous callers have none: checked before. */
export function hopOf(delegator: Principal, token: Pick<Hop, 'jti' | 'iat' | 'exp'>, limits: Limits): Hop {
  const { auth } = delegator;
  const prior = actOf(delegator.actor);
  return {
    sub: delegator.id,
    principal_type: type.parse(delegator.type),
    jti: token.jti,
    iat: token.iat,
    exp: token.exp,
    provider: auth.provider,
    key_id: auth.key_id,
    token_id: auth.token_id,
    ...(auth.session_id === null ? {} : { session_id: auth.session_id }),
    ...(prior === undefined ? {} : { prior }),
    limits: limitsSchema.parse({
      ...(limits.roles === undefined ? {} : { roles: [...limits.roles] }),
      ...(limits.permissions === undefined ? {} : { permissions: [...limits.permissions] }),
      ...(limits.scopes === undefined ? {} : { scopes: [...limits.scopes] }),
    }),
    facts: {
      ...{ email: delegator.email, username: delegator.username },
      ...{ roles: [...delegator.roles], teams: [...delegator.teams], groups: [...delegator.groups] },
      ...{ permissions: [...delegator.permissions], scopes: [...delegator.scopes] },
      ...{ tenure_months: delegator.tenure_months, device_compliant: delegator.device_compliant },
      ...{ mfa_verified: auth.mfa_verified, mfa_at: auth.mfa_at, metadata: { ...delegator.metadata } },
    },
  };
}

/** The delegator of a hop as it was when it handed on. */
export function partyOf(hop: Hop, tenant: string): Principal {
  const { mfa_verified, mfa_at, ...facts } = hop.facts;
  return makePrincipal(
    {
      ...facts,
      id: hop.sub,
      tenant_id: tenant,
      type: hop.principal_type,
      auth: { mfa_verified, mfa_at, key_id: hop.key_id, token_id: hop.token_id, expires_at: hop.exp },
    },
    hop.provider,
    hop.key_id === null ? 'bearer' : 'api-key',
  );
}

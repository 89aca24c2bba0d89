/** What the authorization server is made of, in words of our own. */
import type { AuthorizationServerConfig } from '../../config/authorization-server-schema.ts';
import type { Clock } from '../../core/clock.ts';
import type { SigningRing } from '../../identity/signing-ring.ts';
import type { Entries } from './adapter.ts';

/** What every grant covers: to call what the resource is. Scopes of routes come besides. */
export const SCOPE = 'gateway';

/** What a token may be for. */
export interface Resource {
  readonly audience: string;
  /** What everybody needs there, and gets without asking. */
  readonly scopes: readonly string[];
  /** What single tools there need besides: for who asks for it, and may have it. */
  readonly optional: readonly string[];
}

/** Claims that say who somebody is here, besides those of RFC 9068. */
export interface AgentFacts {
  readonly sid: string;
  readonly username: string;
  readonly role: string;
  readonly tenant_id: string;
  /** How its owner logged in (RFC 8176), where that was remembered. */
  readonly amr?: readonly string[];
  /** When a second factor was shown, Unix seconds. */
  readonly auth_time?: number;
}

export interface EngineOptions {
  readonly issuer: string;
  readonly config: AuthorizationServerConfig;
  readonly clock: Clock;
  readonly ring: SigningRing;
  readonly entries: Entries;
  /** Milliseconds from consent to the end of a grant. */
  readonly grantMs: number;
  /** Signs cookies. */
  readonly cookieKey: string;
  /** What is meant by clients that name no resource. */
  readonly publicResource: string;
  /** Null for what is none of ours. */
  resources(indicator: string): Resource | null;
  readonly accounts: {
    /** The session that was begun with a grant; null when there is none. */
    sessionOf(grantId: string): Promise<string | null>;
    /** Whether the session stands, and is of this account, which is active. */
    isGood(sessionId: string, accountId: string): Promise<boolean>;
    /** Null when no session that stands goes with the grant. */
    claims(grantId: string, accountId: string): Promise<AgentFacts | null>;
    /** Those of the scopes that somebody with this role may lend. */
    lendable(role: string, scopes: readonly string[]): readonly string[];
  };
  fetch(url: string | URL): Promise<Response>;
  /** Whether this request may make us fetch something. */
  mayFetch(): Promise<boolean>;
  readonly notes: Notes;
}

/** Told of what happens. Never throws. */
export interface Notes {
  fault(error: unknown): void;
  /** A code or a refresh token was shown that had been used before. */
  reused(what: 'authorization_code' | 'refresh_token', accountId: string | null, clientId: string | null): void;
  registered(clientId: string, name: string | null, redirectUris: readonly string[]): void;
  issued(facts: { clientId: string; accountId: string | undefined; grantType: string }): void;
}

/** A login or consent that waits for somebody. */
export interface Pending {
  readonly uid: string;
  readonly prompt: 'login' | 'consent';
  readonly clientId: string;
  readonly clientName: string | null;
  readonly redirectUri: string;
  readonly scopes: readonly string[];
  readonly resources: readonly string[];
  /** Who is logged in with this browser. */
  readonly accountId: string | null;
  /** The authorization request again. */
  readonly query: string;
}

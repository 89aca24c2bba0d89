/** What the composition root hands to identity modules besides the usual environment. */
import type { ModuleEnv } from '../core/module.ts';
import type { Secret } from '../core/secret.ts';
import type { ApiKeyStore } from '../stores/api-keys.ts';
import type { SessionStanding } from '../stores/sessions.ts';
import type { Shared } from '../stores/shared.ts';
import type { AccessClaims, AccessFault } from './account-tokens.ts';
import type { AgentClaims } from './agent-tokens.ts';

/** What the provider of our own accounts asks. Rejections are outages. */
export interface LocalAccounts {
  /** @param route its match: an agent's token is for some routes only */
  read(token: string, now: number, route: string): Promise<AccessClaims | AgentClaims | AccessFault>;
  /** Whether what `read` says depends on the route. */
  readonly readsByRoute: boolean;
  standing(sessionId: string): Promise<SessionStanding | null>;
  isRevoked(tokenId: string): Promise<boolean>;
  /** The session of a browser by the text of its cookie, which counts as a use of it; null when it is no good. */
  byCookie(text: string, now: number): Promise<SessionStanding | null>;
  /** True for a role that can do nothing before a second factor was shown. */
  needsSecondFactor(role: string): boolean;
  /** Null for a role that does not exist. */
  permissionsOf(role: string): readonly string[] | null;
  /** Those of the scopes that an account with this role may lend to an agent: what a tool needs, only who may do it. */
  lendable(role: string, scopes: readonly string[]): readonly string[];
  /** Changes when another process has written; null when the backend cannot tell. */
  externalVersion(): number | null;
}

export interface IdentityEnv extends ModuleEnv {
  readonly keys: ApiKeyStore;
  readonly shared: Shared;
  /** Mixed into API key hashes; see `stores/pepper.ts`. */
  readonly pepper: Secret;
  /** Config `environment`: keys of another one are refused. */
  readonly environment: 'development' | 'staging' | 'production';
  /** Config `public_url`: what clients call us. Null or absent: nobody knows. */
  readonly publicUrl?: string | null;
  /** Null or absent while there is no account service. */
  readonly accounts?: LocalAccounts | null;
}

/** Logins at a provider that tell who somebody is and begin no session: whoever asked decides what becomes of it. */
import type { Principal } from '../../core/principal.ts';
import type { Begun } from './login.ts';

/** Somebody, as checked claims of an ID token say. */
export interface Person {
  readonly principal: Principal;
  /** Null unless the provider says that it has verified the address. */
  readonly verifiedEmail: string | null;
  readonly fullName: string | null;
}

/** What is begun here is nothing to `/auth/oauth`, nor the other way round. Ends that are not good are GatewayErrors, thrown. */
export interface PersonLogin {
  readonly provider: string;
  readonly issuer: string;
  begin(redirectUri: string, returnTo: string, now: number): Promise<Begun>;
  /** What a login was begun for, by what the browser brought back; null for what was not made here. Uses nothing up. */
  returnsTo(sealed: string): string | null;
  /** `person` is null when the claims make no principal. */
  finish(query: string, sealed: string | null, now: number): Promise<{ returnTo: string; person: Person | null }>;
}

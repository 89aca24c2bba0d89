/** Tokens that are good only together with the client certificate they were issued for. Source: RFC 7800, RFC 8705 3. */
import { isJsonObject, type JsonObject } from '../core/json.ts';
import type { Principal } from '../core/principal.ts';
import { linkOf } from './link.ts';
import type { AuthResult, IdentityFacts } from './provider.ts';

/** What a token is bound to: a certificate's thumbprint, nothing, or something that is not understood. */
export type Binding = { readonly thumbprint: string } | 'none' | 'unknown';

/** Reads the claim `cnf`. */
export function bindingOf({ cnf }: JsonObject): Binding {
  if (cnf === undefined) return 'none';
  if (!isJsonObject(cnf)) return 'unknown';
  const { 'x5t#S256': thumbprint, ...others } = cnf;
  // A second condition is one that nobody here would check.
  if (typeof thumbprint !== 'string' || Object.keys(others).length > 0) return 'unknown';
  return { thumbprint };
}

const UNBOUND: AuthResult = Object.freeze({
  kind: 'rejected',
  reason: 'invalid',
  detail: 'the token is bound to another client certificate than the one of this connection',
});

/** Remembers which principals came of bound tokens: a remembered token is checked against each connection anew. */
export class Bindings {
  readonly #thumbprints = new WeakMap<Principal, string>();

  note(principal: Principal, binding: Binding): void {
    if (typeof binding === 'object') this.#thumbprints.set(principal, binding.thumbprint);
  }

  /** The result, unless the connection lacks the certificate that the token is bound to. */
  hold(result: AuthResult, facts: IdentityFacts): AuthResult {
    if (result.kind !== 'authenticated') return result;
    const thumbprint = this.#thumbprints.get(result.principal);
    if (thumbprint === undefined || linkOf(facts.incoming)?.thumbprint === thumbprint) return result;
    return UNBOUND;
  }
}

/** Counts what identity providers answer. Source: acceptance D-62. */
import type { AuthResult, IdentityProvider } from './provider.ts';

/** Where the figures go. A provider that fails is counted by the chain, which decides what a failure is. */
export interface AuthFigures {
  auth(provider: string, result: 'authenticated' | 'rejected' | 'not_applicable'): void;
  /** Seconds of an answer that was waited for. */
  authDuration(provider: string, seconds: number): void;
}

/** The provider, with every answer counted under `name`. */
export function metered(name: string, provider: IdentityProvider, figures: AuthFigures): IdentityProvider {
  const count = ({ kind }: AuthResult) =>
    figures.auth(name, kind === 'authenticated' || kind === 'rejected' ? kind : 'not_applicable');
  return {
    ...(provider.asksFor === undefined ? {} : { asksFor: provider.asksFor }),
    authenticate(credential, facts, signal) {
      const started = performance.now();
      const result = provider.authenticate(credential, facts, signal);
      if (!('then' in result)) {
        count(result);
        return result;
      }
      const done = () => figures.authDuration(name, (performance.now() - started) / 1000);
      result.then((settled) => {
        done();
        count(settled);
      }, done);
      return result;
    },
  };
}

/** What the composition root hands to identity modules besides the usual environment. */
import type { ModuleEnv } from '../core/module.ts';
import type { Secret } from '../core/secret.ts';
import type { ApiKeyStore } from '../stores/api-keys.ts';
import type { Shared } from '../stores/shared.ts';

export interface IdentityEnv extends ModuleEnv {
  readonly keys: ApiKeyStore;
  readonly shared: Shared;
  /** Mixed into API key hashes; see `stores/pepper.ts`. */
  readonly pepper: Secret;
  /** Config `environment`: keys of another one are refused. */
  readonly environment: 'development' | 'staging' | 'production';
}

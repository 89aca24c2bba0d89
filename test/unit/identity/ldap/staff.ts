/** An ldap provider in front of a real server. */
import { Secret } from '../../../../src/core/secret.ts';
import type { IdentityEnv } from '../../../../src/identity/env.ts';
import { ldapSchema } from '../../../../src/identity/ldap-options.ts';
import type { AuthResult, Credential } from '../../../../src/identity/provider.ts';
import { ldap, type PasswordProvider } from '../../../../src/identity/providers/ldap.ts';
import { GATEWAY_DN, GATEWAY_PASSWORD, LDAP_BASE } from '../../../helpers/processes-slapd.ts';
import { NEVER, type Setting, setting } from '../setting.ts';

export interface Staff extends AsyncDisposable {
  readonly provider: PasswordProvider;
  readonly around: Setting;
  /** @param address where it comes from; a usual one when nothing is said */
  login(name: string, password: string, address?: string): Promise<AuthResult>;
  basic(value: string): Promise<AuthResult>;
}

/** What stands in the configuration file, with less waiting than by default. */
export function ldapSettings(url: string, changes: Record<string, unknown> = {}): Record<string, unknown> {
  const direct = 'user_dn_template' in changes || changes.anonymous_search === true;
  return {
    kind: 'ldap',
    url,
    base_dn: LDAP_BASE,
    ...(direct ? {} : { bind_dn: GATEWAY_DN, bind_password: GATEWAY_PASSWORD }),
    refusal_ms: 0,
    ...changes,
  };
}

export async function staff(
  url: string,
  changes: Record<string, unknown> = {},
  env: Partial<IdentityEnv> = {},
): Promise<Staff> {
  const around = await setting(env);
  const provider = (await ldap.create(ldapSchema.parse(ldapSettings(url, changes)), around.env)) as PasswordProvider;
  const basic = async (value: string, address?: string) =>
    provider.authenticate(
      basicHeader(value),
      { ...around.facts(), ...(address === undefined ? {} : { source_ip: address }) },
      NEVER,
    );
  return {
    provider,
    around,
    basic,
    login: (name, password, address) => basic(Buffer.from(`${name}:${password}`).toString('base64'), address),
    async [Symbol.asyncDispose]() {
      await provider.close?.();
      await around[Symbol.asyncDispose]();
    },
  };
}

export function basicHeader(value: string): Credential {
  return { kind: 'basic', value: new Secret(value), source: 'authorization' };
}

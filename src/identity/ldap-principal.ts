/** From a directory entry and its groups to a principal. Source: acceptance D-10 to D-14, S-69, SF-55. */
import { makePrincipal, type Principal } from '../core/principal.ts';
import { freezePrincipal } from './credential-cache.ts';
import type { DirectoryEntry } from './ldap-connection.ts';
import type { LdapOptions } from './ldap-options.ts';
import { foldDn, foldText } from './ldap-text.ts';
import { wholeMonths } from './tenure.ts';

/** A group somebody is in. */
export interface DirectoryGroup {
  readonly dn: string;
  readonly names: readonly string[];
}

type Words = ReadonlyMap<string, readonly string[]>;

/** What a group gives: only those named in the configuration give anything, by their whole name or their short one. */
class GroupMap {
  readonly #byDn: Words;
  readonly #byName: Words;

  constructor(given: Readonly<Record<string, readonly string[]>>) {
    const entries = Object.entries(given);
    this.#byDn = new Map(entries.filter(([key]) => key.includes('=')).map(([key, words]) => [foldDn(key), words]));
    this.#byName = new Map(entries.filter(([key]) => !key.includes('=')).map(([key, words]) => [foldText(key), words]));
  }

  of(groups: readonly DirectoryGroup[]): string[] {
    const found = new Set<string>();
    for (const { dn, names } of groups) {
      for (const word of this.#byDn.get(foldDn(dn)) ?? []) found.add(word);
      for (const name of names) for (const word of this.#byName.get(foldText(name)) ?? []) found.add(word);
    }
    return [...found];
  }
}

/** Makes principals as one configuration says. */
export class PrincipalMapping {
  readonly #options: LdapOptions;
  readonly #provider: string;
  readonly #roles: GroupMap;
  readonly #teams: GroupMap;
  readonly #permissions: GroupMap;

  constructor(options: LdapOptions, provider: string) {
    this.#options = options;
    this.#provider = provider;
    this.#roles = new GroupMap(options.group_roles);
    this.#teams = new GroupMap(options.group_teams);
    this.#permissions = new GroupMap(options.group_permissions);
  }

  /** The attributes that are read. */
  get attributes(): string[] {
    const names = this.#options.attributes;
    const wanted = [names.id, names.username, names.email, names.display_name, names.tenant, names.hired_at];
    return [...new Set(wanted.filter((name) => name !== undefined))];
  }

  /** The frozen principal, or why the entry makes none, in words for the operator. `now` is epoch milliseconds. */
  principal(entry: DirectoryEntry, groups: readonly DirectoryGroup[], login: string, now: number): Principal | string {
    const names = this.#options.attributes;
    const id = nameOf(valuesOf(entry, names.id), login);
    if (id === null || /\p{Cc}/u.test(id)) return `the entry has not one usable value of ${names.id}`;
    const tenant = names.tenant === undefined ? undefined : oneOf(valuesOf(entry, names.tenant));
    if (tenant === undefined && this.#options.require_tenant) return 'the entry has not one tenant';
    const mapped = this.#roles.of(groups);
    const roles = mapped.length > 0 ? mapped : [...this.#options.default_roles];
    const display = valuesOf(entry, names.display_name)[0];
    return freezePrincipal(
      makePrincipal(
        {
          id,
          tenant_id: tenant ?? this.#options.default_tenant,
          type: roles.includes('service') ? 'service' : 'user',
          username: nameOf(valuesOf(entry, names.username), login),
          email: valuesOf(entry, names.email)[0] ?? null,
          roles,
          teams: this.#teams.of(groups),
          groups: groups.map(({ dn }) => dn),
          permissions: this.#permissions.of(groups),
          tenure_months: names.hired_at === undefined ? null : tenure(oneOf(valuesOf(entry, names.hired_at)), now),
          metadata: display === undefined ? {} : { display_name: display },
        },
        this.#provider,
        'basic',
      ),
    );
  }
}

/** The values of an attribute, empty ones left out. */
export function valuesOf(entry: DirectoryEntry, name: string): readonly string[] {
  return (entry.attributes.get(name.toLowerCase()) ?? []).filter((value) => value.trim() !== '');
}

const oneOf = (values: readonly string[]): string | undefined => (values.length === 1 ? values[0] : undefined);

/** As the directory writes it, so that `ALICE` and `alice` are one principal; of several values the one that was typed. */
function nameOf(values: readonly string[], login: string): string | null {
  const one = oneOf(values);
  if (one !== undefined) return one;
  const typed = foldText(login);
  return values.find((value) => foldText(value) === typed) ?? null;
}

/** `2023-01-15`, `2023-01-15T…` or a generalized time such as `20230115093000Z` (RFC 4517 3.3.13). */
function tenure(text: string | undefined, now: number): number | null {
  const match = /^(\d{4})-?(\d{2})-?(\d{2})(?:$|[T\d])/.exec(text ?? '');
  return match === null ? null : wholeMonths(new Date(`${match[1]}-${match[2]}-${match[3]}T00:00:00Z`), new Date(now));
}

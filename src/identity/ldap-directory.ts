/**
 * A login by directory: find the one entry, prove the password on a connection of its own, read the groups.
 * Source: RFC 4513, acceptance S-69, SF-51 to SF-56.
 */
import { randomBytes } from 'node:crypto';
import type { Clock } from '../core/clock.ts';
import type { Principal } from '../core/principal.ts';
import { DirectoryConnection, type DirectoryEntry, DirectoryFault } from './ldap-connection.ts';
import type { LdapOptions } from './ldap-options.ts';
import { DirectoryPool, Places } from './ldap-pool.ts';
import { type DirectoryGroup, PrincipalMapping, valuesOf } from './ldap-principal.ts';
import { escapeDnValue, escapeFilterValue, fill, foldDn, type NameAndPassword } from './ldap-text.ts';

/** Active Directory's rule for members of members. */
const IN_CHAIN = '1.2.840.113556.1.4.1941';
/** Levels of groups in groups, and groups asked about in one search. */
const MAX_LEVELS = 10;
const BATCH = 50;

/** How a login ended; `refused` is for the operator and never told to the caller. */
export type Login = { readonly principal: Principal } | { readonly refused: string; readonly found: boolean };

type Search = DirectoryConnection['search'];

export class LdapDirectory {
  readonly #options: LdapOptions;
  readonly #ca: string | null;
  readonly #mapping: PrincipalMapping;
  readonly #readers: DirectoryPool;
  readonly #logins: Places;

  /** `ca` is PEM text. `provider` is the name that principals carry. */
  constructor(options: LdapOptions, ca: string | null, provider: string, clock: Clock) {
    this.#options = options;
    this.#ca = ca;
    this.#mapping = new PrincipalMapping(options, provider);
    this.#logins = new Places(options.pool.max_connections);
    this.#readers = new DirectoryPool({
      open: (signal) => this.#openReader(signal),
      clock,
      maxConnections: options.pool.max_connections,
      idleMs: options.pool.idle_ms,
    });
  }

  /** `now` is epoch milliseconds. Throws DirectoryFault when the directory cannot tell. */
  async login({ name, password }: NameAndPassword, now: number, signal: AbortSignal): Promise<Login> {
    const template = this.#options.user_dn_template;
    if (template !== undefined) {
      return this.#prove(fill(template, { username: name }, escapeDnValue), name, password, null, now, signal);
    }
    const entries = await this.#readers.use((reader) => reader.search(this.#userSearch(name), signal), signal);
    const [entry] = entries;
    if (entry !== undefined && entries.length === 1 && entry.dn !== '') {
      return this.#prove(entry.dn, name, password, entry, now, signal);
    }
    await this.#pretend(signal);
    const refused = entry === undefined ? 'no such entry' : 'more than one entry has this user name';
    return { refused, found: false };
  }

  #userSearch(name: string) {
    return {
      base: this.#options.user_base_dn,
      scope: 'sub',
      filter: fill(this.#options.user_search_filter, { username: name }, escapeFilterValue),
      attributes: this.#mapping.attributes,
    } as const;
  }

  /** A connection for one password: it is never used to look anything up for somebody else, nor kept. */
  #prove(
    dn: string,
    name: string,
    password: string,
    entry: DirectoryEntry | null,
    now: number,
    signal: AbortSignal,
  ): Promise<Login> {
    return this.#logins.within(signal, async () => {
      const connection = await this.#connect(signal);
      try {
        const refused = await connection.bind(dn, password, signal);
        if (refused !== null) return { refused, found: entry !== null };
        const read = <T>(work: (search: Search) => Promise<T>): Promise<T> =>
          this.#hasReaders()
            ? this.#readers.use((reader) => work(reader.search.bind(reader)), signal)
            : work(connection.search.bind(connection));
        return await read((search) => this.#describe(search, dn, name, entry, now, signal));
      } finally {
        connection.close();
      }
    });
  }

  #hasReaders(): boolean {
    return this.#options.bind_dn !== undefined || this.#options.anonymous_search;
  }

  async #describe(
    search: Search,
    dn: string,
    name: string,
    known: DirectoryEntry | null,
    now: number,
    signal: AbortSignal,
  ): Promise<Login> {
    const entry = known ?? (await this.#readEntry(search, dn, signal));
    if (entry === null) return { refused: 'the entry cannot be read', found: true };
    const groups = await this.#groups(search, entry.dn, name, signal);
    const principal = this.#mapping.principal(entry, groups, name, now);
    return typeof principal === 'string' ? { refused: principal, found: true } : { principal };
  }

  async #readEntry(search: Search, dn: string, signal: AbortSignal): Promise<DirectoryEntry | null> {
    const found = await search(
      { base: dn, scope: 'base', filter: '(objectClass=*)', attributes: this.#mapping.attributes },
      signal,
    );
    return found.length === 1 ? (found[0] ?? null) : null;
  }

  async #groups(search: Search, userDn: string, name: string, signal: AbortSignal): Promise<DirectoryGroup[]> {
    const { nested_groups, group_search_filter, max_groups } = this.#options;
    const template =
      nested_groups === 'matching-rule'
        ? group_search_filter.replaceAll('={user_dn}', `:${IN_CHAIN}:={user_dn}`)
        : group_search_filter;
    const found = new Map<string, DirectoryGroup>();
    let level = await this.#groupsOf(search, [userDn], name, template, signal);
    for (let depth = 0; level.length > 0; depth++) {
      // In a circle of groups nothing new comes up any more.
      const fresh = level.filter(({ dn }) => !found.has(foldDn(dn)));
      for (const group of fresh) found.set(foldDn(group.dn), group);
      if (found.size > max_groups)
        throw new DirectoryFault(`${name.slice(0, 100)} is in more than ${max_groups} groups`);
      if (nested_groups !== 'search' || fresh.length === 0) break;
      if (depth >= MAX_LEVELS) throw new DirectoryFault(`groups in groups lie deeper than ${MAX_LEVELS} levels`);
      level = await this.#groupsOf(
        search,
        fresh.map(({ dn }) => dn),
        null,
        template,
        signal,
      );
    }
    return [...found.values()];
  }

  /** The groups these entries are members of. `name`: of a person; groups are members by their distinguished names only. */
  async #groupsOf(
    search: Search,
    members: readonly string[],
    name: string | null,
    template: string,
    signal: AbortSignal,
  ): Promise<DirectoryGroup[]> {
    if (name === null && !template.includes('{user_dn}')) return [];
    const { group_base_dn, group_name_attribute } = this.#options;
    const groups: DirectoryGroup[] = [];
    for (let from = 0; from < members.length; from += BATCH) {
      const filters = members
        .slice(from, from + BATCH)
        .map((dn) => fill(template, { user_dn: dn, username: name ?? '' }, escapeFilterValue));
      const filter = filters.length === 1 ? (filters[0] ?? '') : `(|${filters.join('')})`;
      const found = await search(
        { base: group_base_dn, scope: 'sub', filter, attributes: [group_name_attribute] },
        signal,
      );
      for (const entry of found) groups.push({ dn: entry.dn, names: valuesOf(entry, group_name_attribute) });
    }
    return groups;
  }

  /** What a wrong password costs, for a name that is not there: the same connection and the same question. */
  #pretend(signal: AbortSignal): Promise<void> {
    return this.#logins.within(signal, async () => {
      const connection = await this.#connect(signal);
      try {
        const nobody = `cn=${randomBytes(12).toString('hex')},${this.#options.user_base_dn}`;
        await connection.bind(nobody, randomBytes(12).toString('hex'), signal);
      } finally {
        connection.close();
      }
    });
  }

  async #openReader(signal: AbortSignal): Promise<DirectoryConnection> {
    const { bind_dn, bind_password } = this.#options;
    const connection = await this.#connect(signal);
    if (bind_dn === undefined || bind_password === undefined) return connection;
    let refused: string | null = 'no answer';
    try {
      refused = await connection.bind(bind_dn, bind_password.reveal(), signal);
    } finally {
      if (refused !== null) connection.close();
    }
    if (refused !== null) throw new DirectoryFault(`the directory refuses bind_dn: ${refused}`);
    return connection;
  }

  /** The first server that can be reached. */
  async #connect(signal: AbortSignal): Promise<DirectoryConnection> {
    const { url: urls, start_tls: startTls, connect_timeout_ms: connectTimeoutMs } = this.#options;
    let last: unknown;
    for (const url of urls) {
      try {
        return await DirectoryConnection.open({ url, startTls, ca: this.#ca, connectTimeoutMs }, signal);
      } catch (error) {
        last = error;
      }
    }
    throw last;
  }

  /** Connects, logs in as the gateway's own account if there is one, and reads the base entry. Throws DirectoryFault. */
  async probe(signal: AbortSignal): Promise<void> {
    const base = this.#options.base_dn;
    await this.#readers.use(
      (reader) =>
        this.#hasReaders()
          ? reader.search({ base, scope: 'base', filter: '(objectClass=*)', attributes: ['1.1'] }, signal)
          : Promise.resolve([]),
      signal,
    );
  }

  close(): void {
    this.#readers.close();
  }
}

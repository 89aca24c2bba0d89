/**
 * One connection to a directory: encrypted before anything is said, used for one purpose, never opened a second time in
 * silence. The client library would connect again by itself, unencrypted and as nobody, with the next password to send;
 * so it gets each socket from here, once. Source: RFC 4511, RFC 4513, acceptance SF-52.
 */
import { connect, isIP, type Socket } from 'node:net';
import { connect as connectTls } from 'node:tls';
import { Client, FilterParser, ResultCodeError } from 'ldapts';

/** How a directory is reached. */
export interface DirectoryAddress {
  /** `ldap://host:port` or `ldaps://host:port`. */
  readonly url: string;
  readonly startTls: boolean;
  /** PEM bundle; null: the system's authorities. */
  readonly ca: string | null;
  /** Milliseconds until the connection stands, encryption included. */
  readonly connectTimeoutMs: number;
}

/** The directory does not answer, or not with what it was asked for: the login can neither be granted nor refused. */
export class DirectoryFault extends Error {}

/** An entry of the directory; attribute names in lower case. */
export interface DirectoryEntry {
  readonly dn: string;
  readonly attributes: ReadonlyMap<string, readonly string[]>;
}

export interface DirectorySearch {
  readonly base: string;
  readonly scope: 'base' | 'sub';
  readonly filter: string;
  readonly attributes: readonly string[];
}

/** Result codes of a bind (RFC 4511 4.1.9) that speak of the account; any other speaks of the server. */
const REFUSALS: ReadonlyMap<number, string> = new Map([
  [10, 'the directory refers to another server, which is not followed'],
  [19, 'the directory refuses the account by a rule'],
  [32, 'the directory has no such entry'],
  [34, 'the directory cannot read the name'],
  [48, 'the account has no password'],
  [49, 'wrong password'],
  [50, 'the account may not log in'],
  [53, 'the directory is not willing to log the account in'],
]);

const GOODBYE_MS = 1000;

/** Attributes whose values are bytes; and `dn`, which as an attribute would take the place of the entry's own name. */
const BINARY = ['objectGUID', 'objectSid', 'dn'];

export class DirectoryConnection {
  readonly #client: Client;
  readonly #address: DirectoryAddress;
  #socket: Socket | null = null;
  #isClosed = false;

  private constructor(address: DirectoryAddress) {
    this.#address = address;
    const url = new URL(address.url);
    const host = url.hostname.replace(/^\[|\]$/g, '');
    const tls = this.#tls(host);
    this.#client = new Client({
      url: address.url,
      // The timers of the library do not cover a handshake that hangs; ours cover everything.
      createConnection: ((port: number) => this.#once(() => connect(port, host))) as typeof connect,
      createSecureConnection: ((...given: unknown[]) => {
        const [upgrade] = given;
        // StartTLS hands over the socket that it is to encrypt; ldaps asks for a new one.
        if (typeof upgrade === 'object') return connectTls({ ...tls, socket: this.#live() });
        return this.#once(() => connectTls({ ...tls, port: Number(given[0]) }));
      }) as typeof connectTls,
    });
  }

  /** Connects and encrypts. Throws DirectoryFault. `signal` ends it at any time later, too. */
  static async open(address: DirectoryAddress, signal: AbortSignal): Promise<DirectoryConnection> {
    const connection = new DirectoryConnection(address);
    await connection.#run(signal, 'cannot be reached', address.connectTimeoutMs, (client) =>
      address.startTls ? client.startTLS({}) : greet(client),
    );
    return connection;
  }

  /** False once the other side hung up, an answer was late or the connection was closed. */
  get isUsable(): boolean {
    return !this.#isClosed;
  }

  /**
   * Proves a password. Null when the directory accepts it, else why not, in words for the operator. Throws DirectoryFault
   * when that cannot be told, TypeError for an empty name or password, which many servers accept as nobody.
   */
  async bind(dn: string, password: string, signal: AbortSignal): Promise<string | null> {
    if (!dn.includes('=') || password.trim() === '') throw new TypeError('a bind needs a name and a password');
    try {
      await this.#run(signal, 'does not answer a login', null, (client) => client.bind(dn, password));
      return null;
    } catch (error) {
      const cause = error instanceof DirectoryFault ? error.cause : null;
      const refusal = cause instanceof ResultCodeError ? REFUSALS.get(cause.code) : undefined;
      if (refusal === undefined || !(cause instanceof ResultCodeError)) throw error;
      // Active Directory tells its reason as `data 775`.
      const data = /\bdata ([0-9a-f]{1,8})\b/.exec(cause.message)?.[1];
      return data === undefined ? refusal : `${refusal} (data ${data})`;
    }
  }

  /** The entries found. References to other servers are left out, not followed. Throws DirectoryFault. */
  async search(search: DirectorySearch, signal: AbortSignal): Promise<DirectoryEntry[]> {
    const { base, scope, filter, attributes } = search;
    // No size limit is asked for: the library takes a list that was cut off for a whole one when it is.
    const { searchEntries } = await this.#run(signal, 'does not answer a search', null, (client) =>
      client.search(base, { scope, filter, attributes: [...attributes], explicitBufferAttributes: BINARY }),
    );
    return searchEntries.map(readEntry);
  }

  /** Says goodbye and closes. Never throws. */
  close(): void {
    if (this.#isClosed) return;
    this.#isClosed = true;
    const socket = this.#socket;
    this.#client.unbind().catch(() => {});
    // The goodbye gets a moment to leave.
    if (socket !== null) setTimeout(() => socket.destroy(), GOODBYE_MS).unref();
  }

  #tls(host: string): object {
    // `host` is what the certificate is compared with; a server name must not be an address (RFC 6066 3).
    return {
      host,
      ...(isIP(host) === 0 ? { servername: host } : {}),
      ...(this.#address.ca === null ? {} : { ca: this.#address.ca }),
      minVersion: 'TLSv1.2',
      rejectUnauthorized: true,
    };
  }

  #once(open: () => Socket): Socket {
    if (this.#socket !== null) throw new DirectoryFault('the connection to the directory is gone');
    const socket = open();
    this.#socket = socket;
    socket.setNoDelay(true);
    socket.once('close', () => {
      this.#isClosed = true;
    });
    return socket;
  }

  #live(): Socket {
    if (this.#socket === null || this.#isClosed) throw new DirectoryFault('the connection to the directory is gone');
    return this.#socket;
  }

  /** An answer that comes late, or not at all, ends the connection: the next answer would be taken for this one. */
  async #run<T>(
    signal: AbortSignal,
    what: string,
    ms: number | null,
    work: (client: Client) => Promise<T>,
  ): Promise<T> {
    if (this.#isClosed) throw new DirectoryFault('the connection to the directory is gone');
    const late = Promise.withResolvers<never>();
    const onAbort = () => late.reject(new Error('it took too long'));
    signal.addEventListener('abort', onAbort, { once: true });
    if (signal.aborted) onAbort();
    const timer = ms === null ? null : setTimeout(onAbort, ms);
    const pending = work(this.#client);
    pending.catch(() => {});
    try {
      return await Promise.race([pending, late.promise]);
    } catch (error) {
      if (!(error instanceof ResultCodeError)) this.#destroy();
      const code = error instanceof ResultCodeError ? ` (result ${error.code})` : '';
      throw new DirectoryFault(`the directory ${what}${code}`, { cause: error });
    } finally {
      if (timer !== null) clearTimeout(timer);
      signal.removeEventListener('abort', onAbort);
    }
  }

  #destroy(): void {
    this.#isClosed = true;
    this.#socket?.destroy();
  }
}

/** Any server says something about its root entry, so the connection stands before a password is sent. */
async function greet(client: Client): Promise<void> {
  try {
    await client.search('', { scope: 'base', attributes: ['1.1'] });
  } catch (error) {
    if (!(error instanceof ResultCodeError)) throw error;
  }
}

/** Throws DirectoryFault for text that is no filter. */
export function checkFilter(filter: string): void {
  try {
    FilterParser.parseString(filter);
  } catch (error) {
    throw new DirectoryFault(`not a search filter: ${filter}`, { cause: error });
  }
}

function readEntry(entry: Readonly<Record<string, unknown>>): DirectoryEntry {
  const attributes = new Map<string, readonly string[]>();
  for (const [name, value] of Object.entries(entry)) {
    // Options such as `;lang-de` make another attribute of it.
    if (name !== 'dn') attributes.set(name.toLowerCase(), [value].flat().map(readValue));
  }
  return { dn: typeof entry.dn === 'string' ? entry.dn : '', attributes };
}

/** Bytes of 16 are a GUID as Active Directory writes it: the first three groups little-endian. */
function readValue(value: unknown): string {
  if (!Buffer.isBuffer(value)) return String(value);
  if (value.length !== 16) return value.toString('hex');
  const groups = [
    value.subarray(0, 4).toReversed(),
    value.subarray(4, 6).toReversed(),
    value.subarray(6, 8).toReversed(),
  ];
  return [...groups, value.subarray(8, 10), value.subarray(10)]
    .map((group) => Buffer.from(group).toString('hex'))
    .join('-');
}

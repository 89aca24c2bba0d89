/**
 * Against which authorities TLS checked the client certificates of a connection. The listener knows, whoever identifies
 * the client asks: Node does not tell which certificates the client sent along. Source: RFC 8446 4.4.2.
 */

const checkedAgainst = new WeakMap<object, ReadonlySet<string>>();

/** @param fingerprints `fingerprint256` of each authority of the listener */
export function noteAuthorities(socket: object, fingerprints: ReadonlySet<string>): void {
  checkedAgainst.set(socket, fingerprints);
}

/** Null: nobody said. */
export function authoritiesOf(socket: object): ReadonlySet<string> | null {
  return checkedAgainst.get(socket) ?? null;
}

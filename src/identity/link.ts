/**
 * The connection a request came on, whatever a proxy in front says about the client: only what TLS itself proved.
 * Source: RFC 8446 4.4.2, RFC 8705 3, acceptance HF-14.
 */
import { hash } from 'node:crypto';
import type { IncomingMessage } from 'node:http';
import type { Socket } from 'node:net';
import type { TLSSocket } from 'node:tls';
import { authoritiesOf } from '../core/client-authorities.ts';

/** One per connection, made when first asked for. */
export class Link {
  readonly #socket: Socket;
  /** Of the other end of the socket: the client, or the last proxy. IPv4-mapped IPv6 is shown as IPv4. */
  readonly address: string;
  readonly isEncrypted: boolean;
  #certificate: Buffer | null | undefined;
  #thumbprint: string | null | undefined;

  constructor(socket: Socket) {
    this.#socket = socket;
    this.address = (socket.remoteAddress ?? '').replace(/^::ffff:(?=\d+\.)/i, '').replace(/%.*$/, '');
    this.isEncrypted = isTls(socket);
  }

  /** DER of the certificate whose key the other end proved to hold; null: none. What came along Node does not tell. */
  get certificate(): Buffer | null {
    if (this.#certificate === undefined) {
      this.#certificate = isTls(this.#socket) ? (this.#socket.getPeerX509Certificate()?.raw ?? null) : null;
    }
    return this.#certificate;
  }

  /** Whether TLS found the certificate good. Asked each time: it also holds for a session that was taken up again. */
  get isAuthorized(): boolean {
    return isTls(this.#socket) && this.#socket.authorized && !this.#socket.destroyed;
  }

  /** `fingerprint256` of those TLS checked the certificate against; null: nobody said, or it did not find it good. */
  get authorities(): ReadonlySet<string> | null {
    return this.isAuthorized ? authoritiesOf(this.#socket) : null;
  }

  /** base64url SHA-256 of the certificate (RFC 8705 3.1); null: none, or not a good one. */
  get thumbprint(): string | null {
    const leaf = this.isAuthorized ? this.certificate : null;
    if (leaf === null) return null;
    this.#thumbprint ??= hash('sha256', leaf, 'base64url');
    return this.#thumbprint;
  }
}

const isTls = (socket: Socket): socket is TLSSocket => 'encrypted' in socket && socket.encrypted === true;

const links = new WeakMap<Socket, Link>();

/** Of a request; null where there is no connection, as in a test of one part. */
export function linkOf(incoming: Pick<IncomingMessage, 'socket'> | undefined): Link | null {
  if (incoming === undefined) return null;
  const known = links.get(incoming.socket);
  if (known !== undefined) return known;
  const link = new Link(incoming.socket);
  links.set(incoming.socket, link);
  return link;
}

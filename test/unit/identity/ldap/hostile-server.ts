/** A directory that does not keep to the rules: it answers each request with the bytes a test gives it. */
import { type AddressInfo, createServer, type Socket } from 'node:net';

export interface HostileServer extends AsyncDisposable {
  readonly url: string;
  /** What clients sent, in pieces as they came. */
  readonly received: Buffer[];
  readonly sockets: ReadonlySet<Socket>;
}

/** What is sent back for a request: bytes, nothing at all, or an end of the connection. */
export type Answer = Buffer | null | 'hang up';

/** `answer` gets the message id and the tag of the operation (RFC 4511 4.2 onwards). */
export async function startHostile(answer: (id: number, tag: number, bytes: Buffer) => Answer): Promise<HostileServer> {
  const received: Buffer[] = [];
  const sockets = new Set<Socket>();
  const server = createServer((socket) => {
    sockets.add(socket);
    socket.on('error', () => {});
    socket.on('close', () => sockets.delete(socket));
    socket.on('data', (bytes) => {
      received.push(bytes);
      // SEQUENCE, length, INTEGER, one byte of length, the id, then the operation. All test messages are short.
      const at = (bytes[1] ?? 0) < 0x80 ? 2 : 2 + ((bytes[1] ?? 0) & 0x7f);
      const width = bytes[at + 1] ?? 1;
      const back = answer(bytes.readUIntBE(at + 2, width), bytes[at + 2 + width] ?? 0, bytes);
      if (back === 'hang up') socket.destroy();
      else if (back !== null) socket.write(back);
    });
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', () => resolve()));
  return {
    url: `ldap://127.0.0.1:${(server.address() as AddressInfo).port}`,
    received,
    sockets,
    async [Symbol.asyncDispose]() {
      for (const socket of sockets) socket.destroy();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}

export const BIND = 0x60;
export const SEARCH = 0x63;
export const EXTENDED = 0x77;

const tlv = (tag: number, ...parts: Buffer[]): Buffer => {
  const body = Buffer.concat(parts);
  const length = body.length < 128 ? [body.length] : [0x82, body.length >> 8, body.length & 255];
  return Buffer.concat([Buffer.from([tag, ...length]), body]);
};
const text = (value: string): Buffer => tlv(4, Buffer.from(value));
const message = (id: number, operation: Buffer): Buffer => tlv(0x30, tlv(2, Buffer.from([id])), operation);

/** The end of an operation: result code, matched name, words. */
export function result(id: number, requestTag: number, code: number, matched = '', words = ''): Buffer {
  const tag = requestTag === BIND ? 0x61 : requestTag === SEARCH ? 0x65 : 0x78;
  return message(id, tlv(tag, tlv(10, Buffer.from([code])), text(matched), text(words)));
}

/** One entry found. */
export function entry(id: number, dn: string, attributes: Readonly<Record<string, readonly string[]>>): Buffer {
  const list = Object.entries(attributes).map(([name, values]) =>
    tlv(0x30, text(name), tlv(0x31, ...values.map(text))),
  );
  return message(id, tlv(0x64, text(dn), tlv(0x30, ...list)));
}

/** A reference to another server instead of an entry. */
export function reference(id: number, url: string): Buffer {
  return message(id, tlv(0x73, text(url)));
}

/** The connections of one listener: how many there may be, and how they end. */
import type { Server } from 'node:http';
import { Server as NetServer, type Socket } from 'node:net';
import { networkOf } from '../core/network.ts';
import { canonicalAddress } from './addresses.ts';

export interface ConnectionLimits {
  readonly connections: number;
  readonly connections_per_ip: number;
}

/** A connection this young may have its first request on the way. */
const YOUNG_MS = 250;
/** A turn of the event loop in which next to nothing was done. */
const SHORT_TURN_MS = 0.2;
/** As many as may wait in the kernel; a flood that goes on is not waited for. */
const MAX_WAITING = 1024;

/** Who counts together. A listener on every address sees IPv4 clients as IPv6 ones, which are told apart in full. */
export const partyOf = (address: string): string => networkOf(canonicalAddress(address) ?? address);

/** Keeps count of a listener's connections and ends them in an orderly way. */
export class Connections {
  /** With the time each was accepted, milliseconds of `performance.now()`. */
  readonly sockets = new Map<Socket, number>();
  private readonly perAddress = new Map<string, number>();
  private readonly server: Server;
  private emptied: (() => void) | null = null;
  private taken = 0;

  /**
   * @param exempt addresses without a limit of their own: proxies, through which many clients come
   * @param onRefused told why a connection was not taken
   */
  constructor(
    server: Server,
    limits: ConnectionLimits,
    exempt: (address: string) => boolean,
    onRefused: (reason: 'total' | 'address') => void,
  ) {
    this.server = server;
    server.maxConnections = limits.connections;
    server.on('drop', () => {
      this.taken++;
      onRefused('total');
    });
    server.on('connection', (socket: Socket) => {
      this.taken++;
      const address = socket.remoteAddress ?? '';
      const party = partyOf(address);
      const count = (this.perAddress.get(party) ?? 0) + 1;
      if (count > limits.connections_per_ip && !exempt(address)) {
        onRefused('address');
        socket.destroy();
        return;
      }
      this.perAddress.set(party, count);
      this.sockets.set(socket, performance.now());
      socket.once('close', () => this.forget(socket, party));
    });
  }

  private forget(socket: Socket, party: string): void {
    this.sockets.delete(socket);
    const left = (this.perAddress.get(party) ?? 1) - 1;
    if (left === 0) this.perAddress.delete(party);
    else this.perAddress.set(party, left);
    if (this.sockets.size === 0) this.emptied?.();
  }

  /**
   * Takes in the connections that the kernel has completed, which closing the listener would reset. Node accepts one in
   * each turn of the event loop, so a turn that brings none says that none waits. It must also be a short one: what
   * arrived while the turn was busy has not been looked for yet.
   */
  async acceptWaiting(): Promise<void> {
    for (let turn = 0; turn < MAX_WAITING; turn++) {
      const before = this.taken;
      const began = performance.now();
      await new Promise((resolve) => setImmediate(resolve));
      if (this.taken === before && performance.now() - began < SHORT_TURN_MS) return;
    }
  }

  /** Stops listening and nothing else; `http.Server.close` would also cut idle connections, with requests in their buffers. */
  stopAccepting(): void {
    NetServer.prototype.close.call(this.server);
  }

  /** Closes connections that are between two requests, after taking in what has already arrived on them. */
  async closeIdle(): Promise<void> {
    // Two turns of the event loop: bytes that lay in the kernel are read and turn the connection busy.
    await new Promise((resolve) => setImmediate(resolve));
    await new Promise((resolve) => setImmediate(resolve));
    this.server.closeIdleConnections();
    const old = performance.now() - YOUNG_MS;
    for (const [socket, since] of this.sockets) if (socket.bytesRead === 0 && since < old) socket.destroy();
  }

  /** Resolves true when no connection is left, false after `ms` milliseconds. */
  async allClosed(ms: number): Promise<boolean> {
    if (this.sockets.size === 0) return true;
    const { promise, resolve } = Promise.withResolvers<boolean>();
    this.emptied = () => resolve(true);
    const timer = setTimeout(resolve, ms, false);
    const closed = await promise;
    clearTimeout(timer);
    this.emptied = null;
    return closed;
  }

  destroyAll(): void {
    for (const socket of this.sockets.keys()) socket.destroy();
  }
}

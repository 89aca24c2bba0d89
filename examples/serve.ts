/**
 * What the example upstreams share: listen on loopback, tell the parent where, and stop with it.
 * Usage of each: `node examples/NAME.ts [PORT]`; without a port the system picks one.
 */
import type { RequestListener } from 'node:http';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';

/** Serves on 127.0.0.1 and resolves with the base URL. Under a parent with an IPC channel it reports there and ends when the channel closes. */
export async function serve(listener: RequestListener, path: string): Promise<string> {
  const server = createServer(listener);
  const port = Number(process.argv[2] ?? 0);
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject);
    server.listen(port, '127.0.0.1', resolve);
  });
  const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}${path}`;
  const stop = () => {
    server.close();
    server.closeAllConnections();
    process.exit(0);
  };
  const signals = ['SIGINT', 'SIGTERM'] as const;
  if (process.send) {
    process.send({ url });
    process.once('disconnect', stop);
    // Terminals and service managers signal the whole process group; the parent drains first and then lets go of us.
    for (const signal of signals) process.on(signal, () => undefined);
  } else {
    process.stdout.write(`${url}\n`);
    for (const signal of signals) process.once(signal, stop);
  }
  return url;
}

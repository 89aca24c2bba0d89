/** The bridge from the door to the control plane's fetch-style app. The data plane does not pass here: it costs 20 µs. */
import type { IncomingMessage } from 'node:http';
import { getRequestListener } from '@hono/node-server';
import type { Received } from '../core/exchange.ts';

/** What an app gets besides the request: the cleaned view of it. */
export interface ControlEnv {
  readonly received: Received;
}

/** A Hono app's `fetch`, or anything like it. */
export type ControlApp = (request: Request, env: ControlEnv) => Response | Promise<Response>;

/**
 * Serves requests through the app, which sees the canonical path and the cleaned headers only.
 * @param failed what is answered when the app throws: node-server would print the error and answer in its own words
 */
export function controlListener(
  app: ControlApp,
  failed: (thrown: unknown, received: Received) => Response,
): (received: Received) => Promise<void> {
  const current = new WeakMap<IncomingMessage, Received>();
  const listener = getRequestListener(
    async (request, env) => {
      const received = current.get(env.incoming as IncomingMessage);
      if (received === undefined) throw new Error('a control request without its exchange');
      try {
        return await app(request, { received });
      } catch (thrown) {
        return failed(thrown, received);
      }
    },
    // Load balancers ask for health in HTTP/1.0, which needs no Host; hygiene refuses its absence elsewhere.
    { overrideGlobalObjects: false, hostname: 'localhost' },
  );
  return async (received) => {
    const { incoming, outgoing } = received;
    current.set(incoming, received);
    incoming.url = received.path + received.query;
    incoming.rawHeaders = Object.entries(received.headers).flat();
    await listener(incoming, outgoing);
  };
}

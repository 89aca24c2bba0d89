/** The floor every ratio refers to: `node:http` + undici `Pool.dispatch`, nothing parsed. Usage: node floor.ts UPSTREAM */
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { Pool } from 'undici';

const pool = new Pool(process.argv[2] ?? '', { connections: 100, pipelining: 1 });
const server = createServer((request, response) => {
  const hasBody = request.method === 'POST';
  pool.dispatch(
    {
      path: request.url ?? '/',
      method: request.method as 'GET',
      headers: { 'content-type': 'application/json', 'content-length': request.headers['content-length'] ?? '0' },
      body: hasBody ? request : null,
    },
    {
      onRequestStart() {},
      onResponseStart(_controller, status, headers) {
        response.writeHead(status, headers as Record<string, string>);
      },
      onResponseData(controller, chunk) {
        if (response.write(chunk)) return;
        controller.pause();
        response.once('drain', () => controller.resume());
      },
      onResponseEnd: () => void response.end(),
      onResponseError: () => void response.destroy(),
    },
  );
});
server.listen(0, '127.0.0.1', () =>
  process.send?.({ url: `http://127.0.0.1:${(server.address() as AddressInfo).port}` }),
);
process.once('disconnect', () => process.exit(0));

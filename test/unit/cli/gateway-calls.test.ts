import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { main } from '../../../src/cli/cli.ts';
import { fakeIo } from './fake-io.ts';

const seen: { readonly bearer: string | undefined; readonly key: string | string[] | undefined }[] = [];
let status = 200;
let body = '{"items":[]}';
const server = createServer((request, response) => {
  seen.push({ bearer: request.headers.authorization, key: request.headers['x-api-key'] });
  response.writeHead(status, { 'content-type': 'application/json' }).end(body);
});
let url: string;

beforeAll(async () => {
  await new Promise<void>((done) => server.listen(0, '127.0.0.1', done));
  url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
});
afterAll(() => void server.close());

async function run(argv: readonly string[], env: Record<string, string>) {
  const { io, written } = fakeIo({ env: { PORTCULLIS_URL: url, ...env } });
  const code = await main(argv, io);
  return { code, err: written.err, sent: seen.splice(0) };
}

test('a token goes as a bearer token, where the second factor of a person can be seen', async () => {
  const { code, sent } = await run(['approvals', 'list'], { PORTCULLIS_API_KEY: 'eyJh.eyJz.c2ln' });
  expect({ code, sent }).toEqual({ code: 0, sent: [{ bearer: 'Bearer eyJh.eyJz.c2ln', key: undefined }] });
});

test('a key goes as a key', async () => {
  const { sent } = await run(['approvals', 'list'], { PORTCULLIS_API_KEY: 'pc_dev_a_b' });
  expect(sent).toEqual([{ bearer: undefined, key: 'pc_dev_a_b' }]);
});

test('says that a token has expired', async () => {
  status = 401;
  body = '{"error":{"code":"TOKEN_EXPIRED"}}';
  const { code, err } = await run(['approvals', 'list'], { PORTCULLIS_API_KEY: 'eyJh.eyJz.c2ln' });
  status = 200;
  body = '{"items":[]}';
  expect(code).toBe(1);
  expect(err).toContain('refuses the key: it has expired');
});

test('names the file of a key that is not there, without a stack', async () => {
  const { code, err, sent } = await run(['delegate', '--to', 'bot'], { PORTCULLIS_API_KEY_FILE: '/nonexistent/key' });
  expect(code).toBe(3);
  expect(err).toBe('portcullis delegate: there is no /nonexistent/key\n');
  expect(sent).toEqual([]);
});

test('an unknown state of requests is wrong usage, and nothing is asked', async () => {
  const { code, err, sent } = await run(['approvals', 'list', '--state', 'open'], { PORTCULLIS_API_KEY: 'k' });
  expect({ code, sent }).toEqual({ code: 2, sent: [] });
  expect(err).toContain('--state is one of pending, approved, rejected, expired, used, all');
});

test('an empty list is said to be empty', async () => {
  const { code, err } = await run(['approvals', 'list'], { PORTCULLIS_API_KEY: 'k' });
  expect(code).toBe(0);
  expect(err).toBe('No request is pending that this key may see.\n');
});

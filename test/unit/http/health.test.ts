import { describe, expect, test } from 'vitest';
import type { Received } from '../../../src/core/exchange.ts';
import { createHealthApp, isHealthPath } from '../../../src/http/app.ts';
import { verifies } from '../../helpers/verifies.ts';
import { renderError } from './open-door.ts';

const env = (path: string) => ({ received: { id: 'req_1', path, method: 'GET', headers: {} } as unknown as Received });

function ask(path: string, ready = true, init: RequestInit = {}): Response | Promise<Response> {
  const app = createHealthApp({
    readiness: () => ({ ready, failing: ready ? [] : ['policy'] }),
    renderError,
    onDefect: () => {},
  });
  return app.fetch(new Request(`http://gate.example${path}`, init), env(path));
}

describe('health', () => {
  test('is told under its names', async () => {
    for (const path of ['/livez', '/live', '/readyz', '/ready', '/health']) {
      expect(isHealthPath(path)).toBe(true);
      expect((await ask(path)).status).toBe(200);
      expect((await ask(path, true, { method: 'HEAD' })).status).toBe(200);
      expect((await ask(path, true, { method: 'POST' })).status).toBe(405);
    }
  });

  test('an instance that is not ready is alive and gives no details', async () => {
    expect((await ask('/livez', false)).status).toBe(200);
    for (const path of ['/readyz', '/ready', '/health']) {
      const answer = await ask(path, false);
      expect(answer.status).toBe(503);
      expect(await answer.text()).not.toContain('policy');
    }
  });

  test('only exact paths are health paths', async () => {
    verifies('HF-15');
    for (const path of [
      '/healthXYZ',
      '/health/',
      '/health/x',
      '/livezz',
      '/Livez',
      '/',
      '/constructor',
      '/__proto__',
    ]) {
      expect(isHealthPath(path)).toBe(false);
      expect((await ask(path)).status).toBe(404);
    }
  });
});

import { describe, expect, test } from 'vitest';
import { Secret } from '../../../src/core/secret.ts';
import { createLogging, type LoggingOptions } from '../../../src/observability/logger.ts';
import { verifies } from '../../helpers/verifies.ts';

function collect(options: Partial<LoggingOptions> = {}) {
  const lines: string[] = [];
  const logging = createLogging({ level: 'info', levels: {}, write: (text) => lines.push(text), ...options });
  return { logging, lines, parsed: () => lines.map((text) => JSON.parse(text) as Record<string, unknown>) };
}

describe('logging', () => {
  test('writes one JSON line with time, level, component and message', () => {
    const { logging, parsed, lines } = collect();
    logging.component('audit').warn({ file: 'a' }, 'slow disk');
    expect(lines[0]).toMatch(/\n$/);
    expect(parsed()).toEqual([
      { level: 'warn', time: expect.stringMatching(/Z$/), component: 'audit', file: 'a', message: 'slow disk' },
    ]);
  });

  test('has a level per component, which can be changed while it runs', () => {
    verifies('D-61', 'V-37');
    const { logging, parsed } = collect({ levels: { identity: 'debug' } });
    const say = () => {
      for (const name of ['identity', 'storage']) logging.component(name).debug({}, name);
    };
    say();
    logging.setLevel('debug', 'storage');
    logging.setLevel('error', 'identity');
    say();
    logging.setLevel('error');
    logging.component('other').info({}, 'other');
    expect(parsed().map(({ message }) => message)).toEqual(['identity', 'storage']);
  });

  test('takes secrets out of fields, messages, errors and causes', () => {
    verifies('X-07');
    const { logging, lines } = collect();
    const token = ['eyJhbGciOiJIUzI1NiJ9', 'eyJzdWIiOiJ4In0', 'c2lnbmF0dXJl'].join('.');
    const error = new Error(`upstream said ${token}`, {
      cause: { authorization: `Bearer ${token}`, url: 'https://u:hunter2@x/' },
    });
    logging.component('x').error(
      {
        err: error,
        password: 'hunter2',
        nested: { headers: { cookie: 'hunter2' }, list: [new Secret('hunter2')] },
        key: new Secret('hunter2'),
      },
      `failed for Bearer ${token}`,
    );
    expect(lines.join('')).not.toContain('hunter2');
    expect(lines.join('')).not.toContain(token.slice(0, 20));
    expect(lines.join('')).toContain('upstream said');
  });

  test('survives what cannot be written: circles, big integers, bytes', () => {
    const { logging, parsed } = collect();
    const circle: Record<string, unknown> = { big: 10n, bytes: Buffer.alloc(3), when: new Date(0) };
    circle.self = circle;
    logging.component('x').info(circle, 'odd');
    expect(parsed()[0]).toMatchObject({ big: '10', bytes: '[3 bytes]', message: 'odd' });
  });

  test('does not look at the fields of lines that are not written', () => {
    const { logging } = collect();
    const trap = Object.defineProperty({}, 'x', {
      enumerable: true,
      get: () => {
        throw new Error('looked');
      },
    });
    logging.component('x').debug(trap, 'quiet');
  });
});

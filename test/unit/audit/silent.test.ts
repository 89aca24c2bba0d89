import { expect, test } from 'vitest';
import { createSilentRecorder } from '../../../src/audit/silent.ts';
import { loadConfigText } from '../../../src/config/load.ts';
import { IDENTITY_SCHEMA } from '../../../src/modules.ts';

const load = (mode: string) =>
  loadConfigText(`version: 1\nmode: ${mode}\naudit: { mode: off }\n`, 'portcullis.yaml', {
    env: {},
    providers: IDENTITY_SCHEMA,
  });

test('audit can be switched off in development and is refused in production with its line', () => {
  expect(load('development').config?.audit.mode).toBe('off');
  expect(
    load('production')
      .problems.map(({ text }) => text)
      .join('\n'),
  ).toMatch(/portcullis\.yaml:3.*records every request/);
});

test('a recorder that is off says so once in the log', () => {
  const warnings: string[] = [];
  const logger = { debug() {}, info() {}, warn: (_: object, text: string) => void warnings.push(text), error() {} };
  const recorder = createSilentRecorder({ logger } as unknown as Parameters<typeof createSilentRecorder>[0]);
  recorder.reopen();
  expect(warnings).toEqual(['audit is off: no request will be recorded']);
  expect(recorder.status().healthy).toBe(true);
});

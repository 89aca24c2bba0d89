import { defineConfig } from 'vitest/config';

export default defineConfig({
  test: {
    include: ['test/**/*.test.ts'],
    pool: 'forks',
    testTimeout: 20_000,
    hookTimeout: 60_000,
    passWithNoTests: false,
    globalSetup: './test/helpers/compiler-setup.ts',
    reporters: ['default', './test/helpers/coverage-reporter.ts'],
  },
});

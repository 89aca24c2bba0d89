import { availableParallelism } from 'node:os';
import { defineConfig } from 'vitest/config';

export default defineConfig({
  test: {
    include: ['test/**/*.test.ts'],
    pool: 'forks',
    // By itself it would leave one of two cores to others; most tests wait for processes rather than compute.
    maxWorkers: Math.max(2, availableParallelism()),
    testTimeout: 20_000,
    hookTimeout: 60_000,
    passWithNoTests: false,
    globalSetup: './test/helpers/compiler-setup.ts',
    reporters: ['default', './test/helpers/coverage-reporter.ts'],
  },
});

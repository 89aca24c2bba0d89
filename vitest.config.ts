import { availableParallelism } from 'node:os';
import { join } from 'node:path';
import { defineConfig } from 'vitest/config';

// Scenarios start the program some hundred times, and half of such a start is compiling it. Workers and the programs they
// start (`cleanEnv`) inherit this; what changed is compiled again, as Node compares sources.
process.env.NODE_COMPILE_CACHE ??= join(import.meta.dirname, 'node_modules/.cache/compiled');

export default defineConfig({
  test: {
    include: ['test/**/*.test.ts'],
    pool: 'forks',
    // One more than there are cores: most tests wait for processes rather than compute.
    maxWorkers: availableParallelism() + 1,
    testTimeout: 20_000,
    hookTimeout: 60_000,
    passWithNoTests: false,
    globalSetup: './test/helpers/compiler-setup.ts',
    reporters: ['default', './test/helpers/coverage-reporter.ts'],
  },
});

/** The compiled policy of test/corpus/policy/host as host. */
import { readFile } from 'node:fs/promises';
import { BUILTINS } from '../../../../src/policy/wasm/builtins.ts';
import { PolicyHost } from '../../../../src/policy/wasm/host.ts';
import { DEFAULT_LIMITS, type HostLimits, PolicyProgram } from '../../../../src/policy/wasm/program.ts';

export const HOST_WASM = new URL('../../../corpus/policy/host/host.wasm', import.meta.url);
/** 2025-01-15T10:30:00.123Z */
export const NOW = 1_736_937_000_123;

export async function makeHost(limits: Partial<HostLimits> = {}, data = '{"limits":[1,2]}'): Promise<PolicyHost> {
  const program = await PolicyProgram.load(await readFile(HOST_WASM), BUILTINS, { ...DEFAULT_LIMITS, ...limits });
  return new PolicyHost(program, data);
}

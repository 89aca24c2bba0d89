/** Runs the public suite in its own process and reads what it writes. */
import { spawn } from 'node:child_process';
import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

const CLI = join(import.meta.dirname, '../../node_modules/@modelcontextprotocol/conformance/dist/index.js');

/** Revisions whose frozen lists are run. */
export const REVISIONS = ['2025-11-25', '2026-07-28'] as const;
export type Revision = (typeof REVISIONS)[number];

export interface SuiteRun {
  /** 0: every scored scenario passed. */
  readonly exitCode: number;
  /** `scenario: check` to its status, in the order of the suite. */
  readonly checks: ReadonlyMap<string, string>;
}

interface Check {
  readonly id: string;
  readonly status: string;
}

export async function runSuite(url: string, revision: Revision): Promise<SuiteRun> {
  const out = mkdtempSync(join(tmpdir(), 'conformance-'));
  try {
    const args = [CLI, 'server', '--url', url, '--requirements', revision, '-o', out];
    const child = spawn(process.execPath, args, { stdio: 'ignore' });
    const exitCode = await new Promise<number>((resolve, reject) => {
      child.once('error', reject);
      child.once('exit', (code) => resolve(code ?? 1));
    });
    return { exitCode, checks: readChecks(out) };
  } finally {
    rmSync(out, { recursive: true, force: true });
  }
}

/** One folder per scenario: `server-<scenario>-<timestamp>`. */
function readChecks(out: string): ReadonlyMap<string, string> {
  const found = new Map<string, string>();
  for (const folder of readdirSync(out).sort()) {
    const scenario = folder.replace(/^server-/, '').replace(/-\d{4}-\d{2}-\d{2}T[\d-]+Z$/, '');
    const checks = JSON.parse(readFileSync(join(out, folder, 'checks.json'), 'utf8')) as readonly Check[];
    const seen = new Map<string, number>();
    for (const { id, status } of checks) {
      const nth = (seen.get(id) ?? 0) + 1;
      seen.set(id, nth);
      found.set(`${scenario}: ${id}${nth === 1 ? '' : ` #${nth}`}`, status);
    }
  }
  return found;
}

export interface Row {
  readonly check: string;
  readonly direct: string;
  readonly proxied: string;
}

/** The two runs side by side. */
export function compare(direct: SuiteRun, proxied: SuiteRun): readonly Row[] {
  const names = new Set([...direct.checks.keys(), ...proxied.checks.keys()]);
  return [...names].map((check) => ({
    check,
    direct: direct.checks.get(check) ?? 'absent',
    proxied: proxied.checks.get(check) ?? 'absent',
  }));
}

/** Finds, among the sources of a bundle, the rules that speak of its own records. They read events, not requests. */
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { DROP_ENTRYPOINT, MASK_ENTRYPOINT } from './log-rules.ts';

export interface LogSources {
  /** Entrypoints to compile, of the two there can be. */
  readonly entrypoints: readonly string[];
  /** Sources whose input is an event: what they read says nothing about what requests must carry. */
  readonly files: readonly string[];
}

const PACKAGE = /^package[ \t]+system\.log[ \t]*$/m;
const RULES: readonly (readonly [string, RegExp])[] = [
  [MASK_ENTRYPOINT, /^(?:default[ \t]+)?mask\b/m],
  [DROP_ENTRYPOINT, /^(?:default[ \t]+)?drop\b/m],
];

/** `names` are paths below `dir`. */
export async function findLogSources(dir: string, names: readonly string[]): Promise<LogSources> {
  const entrypoints = new Set<string>();
  const files: string[] = [];
  let isUsedElsewhere = false;
  for (const name of names) {
    const text = (await readFile(join(dir, name), 'utf8')).replaceAll(/#.*$/gm, '').replaceAll('\r', '');
    if (!PACKAGE.test(text)) {
      isUsedElsewhere ||= text.includes('system.log');
      continue;
    }
    files.push(name);
    for (const [entrypoint, rule] of RULES) if (rule.test(text)) entrypoints.add(entrypoint);
  }
  // Rules that other packages ask run on requests too.
  return { entrypoints: [...entrypoints].sort(), files: isUsedElsewhere ? [] : files };
}

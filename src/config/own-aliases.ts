/** Variables that name code of the operator's own. Source: contracts 1. */
import { existsSync } from 'node:fs';
import { isAbsolute, resolve } from 'node:path';
import { AliasError, type Draft } from './alias-draft.ts';

/**
 * A path as a person types it before a command: relative to the configuration like every path there, or, when nothing is
 * at that place, to the directory the command was called in.
 */
export function typedPath(value: string, draft: Draft): string {
  if (isAbsolute(value) || /^[a-z][a-z0-9+.-]+:/i.test(value) || existsSync(resolve(draft.files.baseDir, value)))
    return value;
  return existsSync(resolve(value)) ? resolve(value) : value;
}

const SHARED = ['stores', 'shared'] as const;

/** A store of one's own in place of the configured one. */
export function setStore(value: string, draft: Draft): void {
  draft.set([...SHARED, 'module'], typedPath(value, draft));
}

/** Which export of it. */
export function setStoreClass(value: string, draft: Draft): void {
  if (draft.get([...SHARED, 'module']) === undefined) throw new AliasError('set PORTCULLIS_STORAGE_MODULE with it');
  draft.set([...SHARED, 'class'], value);
}

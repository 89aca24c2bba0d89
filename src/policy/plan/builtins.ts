/** Every builtin a plan may call: those the module's host supplies and those OPA compiles into a module. */
import { BUILTINS } from '../wasm/builtins.ts';
import type { BuiltinTable } from '../wasm/imports.ts';
import { COLLECTIONS } from './native/collections.ts';
import { NUMBERS } from './native/numbers.ts';
import { TEXTS } from './native/texts.ts';

/** By name. A rule that needs another one cannot be explained. */
export const PLAN_BUILTINS: BuiltinTable = new Map([...NUMBERS, ...COLLECTIONS, ...TEXTS, ...BUILTINS]);

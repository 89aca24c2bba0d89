/**
 * Takes out of an event what a mask names: JSON pointers below `/input`, `/result` and `/nd_builtin_cache`. A pointer to
 * nothing is passed over; one that is none, or points elsewhere, makes the whole mask bad. Source: OPA decision log masks.
 */
import { isJsonObject, type JsonValue } from '../core/json.ts';
import type { LogEvent } from './log-event.ts';

export interface MaskRule {
  readonly op: 'remove' | 'upsert';
  readonly path: string;
  readonly value: JsonValue;
}

type Tree = Record<string, JsonValue>;

const ROOTS: ReadonlySet<string> = new Set(['input', 'result', 'nd_builtin_cache']);
/** Stands where an array had an element, so that the places of the others stay while rules run. */
const GONE = Symbol('gone');
const MAX_RULES = 1000;

/** The rules that a policy's answer means, or null when any of them is none. */
export function readMask(value: JsonValue): readonly MaskRule[] | null {
  if (!Array.isArray(value) || value.length > MAX_RULES) return null;
  const rules: MaskRule[] = [];
  for (const item of value as readonly JsonValue[]) {
    const rule = readRule(item);
    if (rule === null) return null;
    rules.push(rule);
  }
  return rules;
}

function readRule(item: JsonValue): MaskRule | null {
  if (typeof item === 'string') return isMaskPath(item) ? { op: 'remove', path: item, value: null } : null;
  if (!isJsonObject(item)) return null;
  const { op, path, value = null } = item;
  if (typeof path !== 'string' || !isMaskPath(path)) return null;
  return op === 'remove' || op === 'upsert' ? { op, path, value } : null;
}

/** Whether a mask may name this. */
export function isMaskPath(path: string): boolean {
  return path.startsWith('/') && ROOTS.has(path.split('/')[1] ?? '');
}

/** Changes the event and names the places in `erased` and `masked`. What is removed stays removed, whatever the order. */
export function applyMask(event: LogEvent, rules: readonly MaskRule[]): void {
  const shortened = new Set<unknown[]>();
  const masked = rules.filter((rule) => rule.op === 'upsert' && upsert(event, rule));
  const erased = rules.filter((rule) => rule.op === 'remove' && remove(event, rule.path, shortened));
  if (masked.length > 0) event.masked = [...(event.masked ?? []), ...masked.map(({ path }) => path)];
  if (erased.length > 0) event.erased = [...(event.erased ?? []), ...erased.map(({ path }) => path)];
  for (const list of shortened) {
    const kept = list.filter((item) => item !== GONE);
    list.length = 0;
    list.push(...kept);
  }
}

/** The text between the slashes is a member's name as it stands, or else with `~1` and `~0` for slash and tilde. */
function memberOf(holder: Tree, part: string): string {
  return Object.hasOwn(holder, part) ? part : part.replaceAll('~1', '/').replaceAll('~0', '~');
}

function indexOf(list: readonly unknown[], part: string): number | null {
  return /^\d{1,9}$/.test(part) && Number(part) < list.length ? Number(part) : null;
}

/** The member, or undefined when there is none. */
function step(holder: unknown, part: string): unknown {
  if (Array.isArray(holder)) {
    const at = indexOf(holder, part);
    return at === null ? undefined : holder[at];
  }
  if (!isJsonObject(holder)) return undefined;
  const name = memberOf(holder, part);
  return Object.hasOwn(holder, name) ? holder[name] : undefined;
}

function remove(event: LogEvent, path: string, shortened: Set<unknown[]>): boolean {
  const parts = path.slice(1).split('/');
  const last = parts.pop() ?? '';
  let holder: unknown = event;
  for (const part of parts) holder = step(holder, part);
  if (Array.isArray(holder)) {
    const at = indexOf(holder, last);
    if (at === null || holder[at] === GONE) return false;
    holder[at] = GONE;
    shortened.add(holder);
    return true;
  }
  if (!isJsonObject(holder)) return false;
  return Object.hasOwn(holder, memberOf(holder, last)) && Reflect.deleteProperty(holder, memberOf(holder, last));
}

/** Makes the objects on the way that are not there. */
function upsert(event: LogEvent, { path, value }: MaskRule): boolean {
  const parts = path.slice(1).split('/');
  const last = parts.pop() ?? '';
  let holder: unknown = event;
  for (const [depth, part] of parts.entries()) {
    let next = step(holder, part);
    if (next === undefined) {
      // A document that is not there is not made up.
      if (depth === 0 || !isJsonObject(holder)) return false;
      next = Object.create(null) as Tree;
      write(holder, memberOf(holder as Tree, part), next as Tree);
    }
    holder = next;
  }
  if (Array.isArray(holder)) {
    const at = indexOf(holder, last);
    if (at === null) return false;
    holder[at] = value;
    return true;
  }
  if (!isJsonObject(holder) || (parts.length === 0 && !Object.hasOwn(holder, last))) return false;
  write(holder, memberOf(holder, last), value);
  return true;
}

/** Never by assignment: `__proto__` is a name like any other here. */
function write(holder: object, name: string, value: JsonValue): void {
  Object.defineProperty(holder, name, { value, enumerable: true, configurable: true, writable: true });
}

/**
 * Changes that obligations make to JSON: members left out of a request, numbers capped, members hidden in an answer.
 * Values that are not touched keep their meaning to the digit. Source: design 2.5.
 */
import { GatewayError } from '../core/errors.ts';
import type { LocalPlan, MessageRewriter, ResponseHeaders } from '../core/exchange.ts';
import type { JsonObject, JsonValue } from '../core/json.ts';
import { isJsonObject } from '../core/json.ts';
import { REDACTED } from '../core/redaction.ts';

/** JSON inside a string inside JSON …: deeper than this nothing is looked for, and the string is hidden as a whole. */
const MAX_NESTED_TEXTS = 4;

/** How names are compared: as a reader that ignores case would (NFKC also folds U+017F and U+212A). */
export function foldName(name: string): string {
  return name.normalize('NFKC').toLowerCase();
}

/** A set to compare with. */
export function foldNames(names: Iterable<string>): ReadonlySet<string> {
  const folded = new Set<string>();
  for (const name of names) folded.add(foldName(name));
  return folded;
}

/** The value without the members of these names, at any depth; the same object when there are none. */
export function withoutMembers<T extends JsonValue>(value: T, names: ReadonlySet<string>): T {
  return edit(value, (name) => (names.has(foldName(name)) ? undefined : KEEP)) as T;
}

/** The value with the members of these names hidden, at any depth and also in strings that hold a JSON text. */
export function hideMembers<T extends JsonValue>(value: T, names: ReadonlySet<string>): T {
  return hide(value, names, 0) as T;
}

/** True when a member of one of these names is anywhere in the value. */
export function hasMember(value: JsonValue, names: ReadonlySet<string>): boolean {
  return withoutMembers(value, names) !== value;
}

/**
 * The object with each named member at most its ceiling; an absent (or null) one is set to it, since what is absent is as
 * large as the receiver likes. Null when a value is there that is no number.
 */
export function clampMembers(object: JsonObject, ceilings: ReadonlyMap<string, number>): JsonObject | null {
  let out: Record<string, JsonValue> | null = null;
  for (const [name, ceiling] of ceilings) {
    const folded = foldName(name);
    let found = false;
    for (const key of Object.keys(object)) {
      const value = object[key];
      if (foldName(key) !== folded || value === null) continue;
      if (typeof value !== 'number') return null;
      found = true;
      const current = out?.[key] ?? value;
      if (typeof current === 'number' && current > ceiling) out = { ...(out ?? object), [key]: ceiling };
    }
    if (!found) out = { ...(out ?? object), [name]: ceiling };
  }
  return out ?? object;
}

const KEEP = Symbol('keep');

type MemberEdit = (name: string) => undefined | typeof KEEP;

/** Copies only what changes. Recursion is bounded by the parser's depth. */
function edit(value: JsonValue, member: MemberEdit): JsonValue {
  if (typeof value !== 'object' || value === null || JSON.isRawJSON(value)) return value;
  if (Array.isArray(value)) {
    const items = value as readonly JsonValue[];
    const next = items.map((item) => edit(item, member));
    return next.some((item, at) => item !== items[at]) ? next : value;
  }
  let out: Record<string, JsonValue> | null = null;
  for (const [key, item] of Object.entries(value as JsonObject)) {
    const isKept = member(key) === KEEP;
    const next = isKept ? edit(item, member) : null;
    if (isKept && next === item) continue;
    out ??= { ...(value as JsonObject) };
    if (isKept) out[key] = next;
    else delete out[key];
  }
  return out ?? value;
}

function hide(value: JsonValue, names: ReadonlySet<string>, nesting: number): JsonValue {
  if (typeof value === 'string') return hideInText(value, names, nesting);
  if (typeof value !== 'object' || value === null || JSON.isRawJSON(value)) return value;
  if (Array.isArray(value)) return value.map((item: JsonValue) => hide(item, names, nesting));
  const entries = Object.entries(value as JsonObject).map(([key, item]): [string, JsonValue] => [
    key,
    names.has(foldName(key)) ? REDACTED : hide(item, names, nesting),
  ]);
  return Object.fromEntries(entries);
}

/** Tools like to answer with JSON as text: alone, several of them, or after some words. */
function hideInText(text: string, names: ReadonlySet<string>, nesting: number): JsonValue {
  if (!/^\s*[[{]/.test(text)) return spells(text, names) ? REDACTED : text;
  let inner: JsonValue;
  try {
    inner = parseExact(text);
  } catch {
    // More than one document, or a broken one: it cannot be taken apart.
    return spells(text, names) ? REDACTED : text;
  }
  return nesting >= MAX_NESTED_TEXTS ? REDACTED : JSON.stringify(hide(inner, names, nesting + 1));
}

/** True when one of the names stands in a text as a member of JSON does: quoted (also escaped once), before a colon. */
function spells(text: string, names: ReadonlySet<string>): boolean {
  for (const [, name = ''] of text.matchAll(/"([^"\\]{1,128})\\?"\s{0,64}:/g)) {
    if (names.has(foldName(name))) return true;
  }
  return false;
}

/** Parses without losing digits: a number that JavaScript would write differently keeps its own spelling. */
export function parseExact(text: string): JsonValue {
  return JSON.parse(text, (_key, value: unknown, context?: { readonly source?: string }) =>
    typeof value === 'number' && context?.source !== undefined && String(value) !== context.source
      ? JSON.rawJSON(context.source)
      : value,
  ) as JsonValue;
}

/** What of a message is looked into: everything, or the payload members of a JSON-RPC message. */
export type RedactionScope = 'whole' | 'json-rpc';

const PAYLOAD = ['result', 'params', 'error'] as const;

/** The text of a JSON message with members hidden. Throws UPSTREAM_ERROR when it is no JSON. */
export function hideInMessage(text: string, names: ReadonlySet<string>, scope: RedactionScope): string {
  let value: JsonValue;
  try {
    value = parseExact(text);
    if (scope === 'whole') return JSON.stringify(hide(value, names, 0));
  } catch (cause) {
    throw new GatewayError('UPSTREAM_ERROR', { message: 'The answer cannot be redacted', cause });
  }
  if (!isJsonObject(value)) throw new GatewayError('UPSTREAM_ERROR', { message: 'The answer cannot be redacted' });
  const out: Record<string, JsonValue> = { ...value };
  for (const member of PAYLOAD) {
    const part = value[member];
    if (part !== undefined) out[member] = hide(part, names, 0);
  }
  return JSON.stringify(out);
}

/** The same answer of the gateway with members hidden in its body. */
export function hideInReply(plan: LocalPlan, hidden: readonly string[]): LocalPlan {
  const names = foldNames(hidden);
  return {
    kind: 'local',
    async answer(permitted) {
      const reply = await plan.answer(permitted);
      return { ...reply, body: hideInMessage(reply.body.toString(), names, 'whole') };
    },
  };
}

/**
 * Hides members in every message of an answer, after another rewriter had its turn. What cannot be looked into is not
 * passed on. Written anew even where nothing was found: bytes with doubled keys could be read in another way.
 */
export class RedactingRewriter implements MessageRewriter {
  readonly #names: ReadonlySet<string>;
  readonly #scope: RedactionScope;
  readonly #inner: MessageRewriter | null;
  #isStream = false;

  constructor(names: readonly string[], scope: RedactionScope, inner: MessageRewriter | null) {
    this.#names = foldNames(names);
    this.#scope = scope;
    this.#inner = inner;
  }

  head(status: number, received: ResponseHeaders): ResponseHeaders {
    const headers = this.#inner?.head?.(status, received) ?? received;
    const type = headers['content-type'];
    this.#isStream = typeof type === 'string' && type.startsWith('text/event-stream');
    const isJson = typeof type === 'string' && type.startsWith('application/json');
    const isPlain = (headers['content-encoding'] ?? 'identity') === 'identity';
    const isAccepted = status === 202 && type === undefined;
    const isBodiless = isAccepted || status === 204 || status === 304 || headers['content-length'] === '0';
    if (isBodiless || (isPlain && (isJson || this.#isStream))) return headers;
    throw new GatewayError('UPSTREAM_ERROR', { message: 'The answer cannot be redacted' });
  }

  message(text: string): string | 'drop' {
    const before = this.#inner?.message(text) ?? text;
    if (before === 'drop' || before === '') return before;
    // The mark that ends an OpenAI stream.
    if (this.#isStream && before === '[DONE]') return before;
    return hideInMessage(before, this.#names, this.#scope);
  }
}

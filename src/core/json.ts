/** JSON values as the gateway handles them: parsed once, never mutated. */
export type JsonValue = null | boolean | number | string | readonly JsonValue[] | JsonObject;

/**
 * A JSON object. The strict parser refuses a `__proto__` key; the ordinary prototype stays (taking it off costs half of
 * the parse), so keys that a caller chooses are read with `Object.hasOwn`.
 */
export interface JsonObject {
  readonly [key: string]: JsonValue;
}

/** True for a JSON object (not null, not an array). */
export function isJsonObject(value: unknown): value is JsonObject {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

/** JSON values as the gateway handles them: parsed once, never mutated. */
export type JsonValue = null | boolean | number | string | readonly JsonValue[] | JsonObject;

/** A JSON object. Objects made by our strict parser have no prototype, so `__proto__` can never be inherited. */
export interface JsonObject {
  readonly [key: string]: JsonValue;
}

/** True for a JSON object (not null, not an array). */
export function isJsonObject(value: unknown): value is JsonObject {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

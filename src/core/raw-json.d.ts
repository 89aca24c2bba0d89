/** JSON parse with source text access (ECMAScript proposal, in Node 24), which the compiler's library does not know yet. */
interface JSON {
  /** A value that `JSON.stringify` writes as this text: a primitive only. */
  rawJSON(text: string): object;
  isRawJSON(value: unknown): boolean;
  parse(
    text: string,
    reviver: (this: unknown, key: string, value: unknown, context?: { readonly source?: string }) => unknown,
  ): unknown;
}

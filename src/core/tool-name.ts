/**
 * Names of tools where a difference would let something through: a server may be less particular about them than this
 * gateway, and what guards a tool guards every name by which the server could find it.
 */

/**
 * How they are compared, whether a server folds to small letters or to capitals. Capitals last: a small sigma is another
 * one at the end of a word, and a dotless i has no other way back. Decomposed, so that a part of a name begins and ends
 * with the same letters as the name.
 */
export function foldToolName(name: string): string {
  return name.normalize('NFKD').toLowerCase().toUpperCase();
}

const folded = new WeakMap<object, ReadonlyMap<string, string>>();

/**
 * What is declared of a tool: by its very name, else by one that is compared alike. For what makes a call no easier; what
 * could, goes by the very name alone.
 * @param tools never changed
 */
export function declaredAlike<T>(tools: Readonly<Record<string, T>>, name: string): T | undefined {
  if (Object.hasOwn(tools, name)) return tools[name];
  const names = folded.get(tools) ?? foldAll(tools);
  const alike = names.size === 0 ? undefined : names.get(foldToolName(name));
  return alike === undefined ? undefined : tools[alike];
}

function foldAll(tools: Readonly<Record<string, unknown>>): ReadonlyMap<string, string> {
  const names = new Map(Object.keys(tools).map((name) => [foldToolName(name), name] as const));
  folded.set(tools, names);
  return names;
}

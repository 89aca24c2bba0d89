/** Whether all of a value can be put before an approver: nobody can say yes to what nobody has seen. Source: design 2.4. */
import type { JsonValue } from '../core/json.ts';

/** Of the whole as JSON, in UTF-16 units; no single text of it can be longer. */
export const MAX_SHOWN_LENGTH = 65_536;
/** What takes secrets out shows no more than this, so what is larger must not come to it. */
const MAX_DEPTH = 31;
const MAX_CONTAINERS = 2000;
const MAX_MEMBERS = 2000;

/** False for what would have to be cut to be shown. */
export function canBeShown(value: JsonValue): boolean {
  return JSON.stringify(value).length <= MAX_SHOWN_LENGTH && isSmall(value, 1, { containers: 0 });
}

function isSmall(value: JsonValue, depth: number, seen: { containers: number }): boolean {
  if (typeof value !== 'object' || value === null) return true;
  seen.containers++;
  const members: readonly JsonValue[] = Array.isArray(value) ? value : (Object.values(value) as JsonValue[]);
  if (depth > MAX_DEPTH || seen.containers > MAX_CONTAINERS || members.length > MAX_MEMBERS) return false;
  return members.every((member) => isSmall(member, depth + 1, seen));
}

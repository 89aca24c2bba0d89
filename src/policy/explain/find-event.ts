/** Finds one decision in a decision log, with the document it was made on. */
import type { JsonObject, JsonValue } from '../../core/json.ts';
import { type LoggedEvent, readEvent } from '../replay/event.ts';
import { formOf, readRecords } from '../replay/records.ts';

/** The decision, ready to be explained; `input` of a call of a list is the list with this call alone. */
export interface FoundDecision {
  readonly event: LoggedEvent;
  readonly input: JsonObject;
}

/** `other`: how many more decisions the request has. */
export type Search =
  | { readonly kind: 'found'; readonly decision: FoundDecision; readonly other: number }
  | { readonly kind: 'none' }
  /** It is there, but the document it was made on is not. */
  | { readonly kind: 'no_document' };

/** The first decision by its own id, or by that of its request. Rejects where the log cannot be read. */
export async function findDecision(file: string, id: string): Promise<Search> {
  const found: LoggedEvent[] = [];
  const lists = new Map<string, LoggedEvent>();
  const quoted = JSON.stringify(id).slice(1, -1);
  await readRecords(file, await formOf(file), {
    event(text) {
      const wanted = text.includes(quoted);
      // The document of a list stands before its calls; of another list's only the last ones are kept.
      if (!wanted && !text.includes('"calls":[')) return;
      const event = readEvent(text);
      if (typeof event === 'string') return;
      if (event.batch !== null && Array.isArray(event.input.calls)) keep(lists, event.batch.id, event);
      if (wanted && (event.decision_id === id || event.request_id === id)) found.push(event);
    },
    tooLong() {},
    progress() {},
  });
  const [event] = found.filter(({ decision_id }) => decision_id === id).concat(found);
  if (event === undefined) return { kind: 'none' };
  const input = event.batch === null ? event.input : ofList(lists.get(event.batch.id), event.batch.index);
  if (input === null) return { kind: 'no_document' };
  return { kind: 'found', decision: { event, input }, other: found.length - 1 };
}

const MAX_LISTS = 64;

function keep(lists: Map<string, LoggedEvent>, id: string, event: LoggedEvent): void {
  const [oldest] = lists.keys();
  if (lists.size >= MAX_LISTS && oldest !== undefined) lists.delete(oldest);
  lists.set(id, event);
}

function ofList(list: LoggedEvent | undefined, index: number): JsonObject | null {
  const calls = list?.input.calls as readonly JsonValue[] | undefined;
  const call = calls?.[index];
  return list === undefined || call === undefined ? null : { ...list.input, calls: [call] };
}

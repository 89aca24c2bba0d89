/** What a replay counts: bounded, whatever the log holds, and the sum of what several threads have counted. */
import { type Comparison, DIFFERENCES, type Difference } from '../shadow-compare.ts';
import type { DecidingRule } from './deciding-rules.ts';
import type { Unreplayable } from './event.ts';

/** Decisions that changed for the same reason. */
export interface ReplayGroup {
  readonly kind: Difference;
  /** Codes, obligations or failures that came (`+`) and went (`-`), e.g. `+TOOL_NOT_ALLOWED`. */
  readonly cause: string;
  count: number;
  /** Some decision ids, the first ones found. */
  readonly samples: string[];
  /** Decisions whose rules were looked up in the candidate: the first ones. */
  looked_at: number;
  /** The rules of the candidate behind these, by name and place. */
  readonly rules: Map<string, ReplayRule>;
}

/** A rule behind changed decisions. One decision may have several. */
export interface ReplayRule extends DecidingRule {
  count: number;
  readonly samples: string[];
}

export interface ReplayTally {
  /** Lines (or array members) seen, empty ones included. */
  lines: number;
  /** Events seen, whatever became of them. */
  events: number;
  /** Events left out by `--sample`. */
  left_out: number;
  replayed: number;
  same: number;
  /** Logged without a decision; the candidate makes one. */
  cured: number;
  readonly changes: Record<Difference, number>;
  readonly groups: Map<string, ReplayGroup>;
  readonly unreplayable: Partial<Record<Unreplayable, number>>;
  /** The first places of each fault: line numbers, from 1. */
  readonly places: Partial<Record<Unreplayable, number[]>>;
  /** Revisions named in the log, with the count of events. */
  readonly revisions: Map<string, number>;
}

const MAX_GROUPS = 200;
const MAX_SAMPLES = 5;
/** A look takes a hundred times as long as a decision. */
const MAX_LOOKED_AT = 100;
const MAX_GROUP_RULES = 20;
const MAX_PLACES = 5;
const MAX_REVISIONS = 50;

export function emptyTally(): ReplayTally {
  const changes = Object.fromEntries(DIFFERENCES.map((kind) => [kind, 0])) as Record<Difference, number>;
  return {
    lines: 0,
    events: 0,
    left_out: 0,
    replayed: 0,
    same: 0,
    cured: 0,
    changes,
    groups: new Map(),
    unreplayable: {},
    places: {},
    revisions: new Map(),
  };
}

export function countUnreplayable(tally: ReplayTally, why: Unreplayable, at: number): void {
  tally.unreplayable[why] = (tally.unreplayable[why] ?? 0) + 1;
  addPlaces(tally, why, [at]);
}

function addPlaces(tally: ReplayTally, why: Unreplayable, at: readonly number[]): void {
  const places = tally.places[why] ?? [];
  if (places.length < MAX_PLACES) tally.places[why] = places.concat(at).slice(0, MAX_PLACES);
}

/**
 * Counts one comparison. `extra` says what else makes the difference (obligations, the failure); `rulesOf` names the rules
 * behind it, and is asked for the first decisions of each group. Null: nobody can say.
 */
export function countComparison(
  tally: ReplayTally,
  { kind, added, removed }: Comparison,
  extra: readonly string[],
  id: string,
  rulesOf: (() => readonly DecidingRule[] | null) | null = null,
): void {
  tally.replayed++;
  if (kind === 'same') {
    tally.same++;
    return;
  }
  tally.changes[kind]++;
  const codes = [...added.map((code) => `+${code}`), ...removed.map((code) => `-${code}`), ...extra];
  const cause = codes.length === 0 ? 'no code' : [...new Set(codes)].sort().join(' ');
  const group = addToGroup(tally, { kind, cause, count: 1, samples: [id] });
  if (rulesOf === null || group.looked_at >= MAX_LOOKED_AT) return;
  const rules = rulesOf();
  if (rules === null) return;
  group.looked_at++;
  for (const rule of rules) addRule(group, { ...rule, count: 1, samples: [id] });
}

function addRule({ rules }: ReplayGroup, added: ReplayRule): void {
  const key = `${added.rule} ${added.at} ${added.stopped_at}`;
  const known = rules.get(key);
  if (known === undefined) {
    if (rules.size < MAX_GROUP_RULES) rules.set(key, { ...added, samples: added.samples.slice(0, MAX_SAMPLES) });
    return;
  }
  known.count += added.count;
  for (const id of added.samples) if (known.samples.length < MAX_SAMPLES) known.samples.push(id);
}

type Counted = Pick<ReplayGroup, 'kind' | 'cause' | 'count' | 'samples'>;

function addToGroup(tally: ReplayTally, { kind, cause, count, samples }: Counted): ReplayGroup {
  const known = tally.groups.get(`${kind} ${cause}`);
  const key = known !== undefined || tally.groups.size < MAX_GROUPS ? `${kind} ${cause}` : `${kind} other causes`;
  const group = tally.groups.get(key);
  if (group === undefined) {
    const shown = key.endsWith(' other causes') ? 'other causes' : cause;
    const made = { kind, cause: shown, count, samples: samples.slice(0, MAX_SAMPLES), looked_at: 0, rules: new Map() };
    tally.groups.set(key, made);
    return made;
  }
  group.count += count;
  for (const id of samples) if (group.samples.length < MAX_SAMPLES) group.samples.push(id);
  return group;
}

export function countRevision(tally: ReplayTally, revision: string, count = 1): void {
  const known = tally.revisions.get(revision);
  if (known === undefined && tally.revisions.size >= MAX_REVISIONS) return;
  tally.revisions.set(revision, (known ?? 0) + count);
}

/** Adds what was counted in the part of the log right behind. */
export function merge(tally: ReplayTally, other: ReplayTally): void {
  const { lines } = tally;
  tally.lines += other.lines;
  for (const name of ['events', 'left_out', 'replayed', 'same', 'cured'] as const) tally[name] += other[name];
  for (const kind of DIFFERENCES) tally.changes[kind] += other.changes[kind];
  for (const group of other.groups.values()) {
    const sum = addToGroup(tally, group);
    sum.looked_at += group.looked_at;
    for (const rule of group.rules.values()) addRule(sum, rule);
  }
  for (const [revision, count] of other.revisions) countRevision(tally, revision, count);
  for (const [why, count] of Object.entries(other.unreplayable) as [Unreplayable, number][]) {
    tally.unreplayable[why] = (tally.unreplayable[why] ?? 0) + count;
    addPlaces(
      tally,
      why,
      (other.places[why] ?? []).map((at) => at + lines),
    );
  }
}

/** True when the candidate decides anything differently. */
export function differs(tally: ReplayTally): boolean {
  return DIFFERENCES.some((kind) => tally.changes[kind] > 0);
}

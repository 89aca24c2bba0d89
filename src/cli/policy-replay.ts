/** `portcullis policy replay`: what would a policy have decided on what is in the decision log? Source: policy-engine 5. */
import { stat } from 'node:fs/promises';
import { resolve } from 'node:path';
import { loadBundle } from '../policy/bundle.ts';
import { formOf } from '../policy/replay/records.ts';
import { replay } from '../policy/replay/replay.ts';
import { differs, type ReplayGroup, type ReplayTally } from '../policy/replay/tally.ts';
import { replayOnThreads } from '../policy/replay/threads.ts';
import { DIFFERENCES } from '../policy/shadow-compare.ts';
import { requireReadable } from './input-file.ts';
import type { Io } from './io.ts';
import { CommandError, EXIT, line, UsageError } from './io.ts';
import { type VerificationArguments, verificationRules } from './policy-bundle.ts';
import { profileCommand } from './policy-profile.ts';
import { notReplayedText } from './policy-replay-reasons.ts';

export interface ReplayArguments extends VerificationArguments {
  /** Directory or archive of the candidate. */
  readonly bundle: string;
  readonly data?: string | undefined;
  readonly sample?: string | undefined;
  readonly jobs?: string | undefined;
  /** What the rules cost, instead of what changes. */
  readonly profile?: boolean | undefined;
  readonly repeat?: string | undefined;
  readonly json?: boolean | undefined;
}

const REPORT_EVERY_MS = 2000;
const MAX_JOBS = 64;
/** So many that one interruption of the process is not taken for the cost of a rule. */
const DEFAULT_REPEATS = '3';
const MAX_REPEATS = 1000;

/** Exit 0: nothing would be decided differently; 1: something would, or nothing could be replayed. */
export async function replayCommand(rest: readonly string[], options: ReplayArguments, io: Io): Promise<number> {
  const [name, extra] = rest;
  if (name === undefined) throw new UsageError('expected the decision log to replay');
  if (extra !== undefined) throw new UsageError(`unexpected argument ${extra}`);
  const sample = count('--sample', options.sample, Number.MAX_SAFE_INTEGER);
  const jobs = count('--jobs', options.jobs, MAX_JOBS);
  const repeat = count('--repeat', options.repeat ?? DEFAULT_REPEATS, MAX_REPEATS);
  const { profile = false } = options;
  if (profile ? options.jobs !== undefined : options.repeat !== undefined) {
    throw new UsageError(profile ? '--profile reads with one thread, without --jobs' : '--repeat goes with --profile');
  }
  const file = resolve(io.cwd, name);
  const dataFile = options.data === undefined ? null : resolve(io.cwd, options.data);
  for (const path of [file, options.bundle, dataFile]) {
    if (path !== null) requireReadable(path, path === options.bundle ? 'any' : 'file');
  }
  const location = { bundleDir: options.bundle, dataFile };
  const started = performance.now();
  const failed = (error: unknown): never => {
    throw new CommandError(error instanceof Error ? error.message : String(error));
  };
  const signing = await verificationRules(options, io);
  const bundle = await loadBundle(location, signing).catch(failed);
  const form = await formOf(file).catch(failed);
  const say = reporter(io, (await stat(file)).size, started);
  if (profile) {
    const asked = { bundleDir: options.bundle, log: { file, form }, sample, repeat, json: options.json === true };
    return profileCommand(bundle, asked, say, io).catch(failed);
  }
  const { signal } = io;
  let tally: ReplayTally;
  if (jobs === 1 || form !== 'lines') {
    if (jobs > 1) io.err('portcullis policy replay: a log in this form is read by one thread\n');
    const onProgress = (bytes: number, so: ReplayTally): void => say(bytes, so.events);
    tally = await replay(bundle, file, form, { sample, signal, onProgress }).catch(failed);
  } else
    tally = await replayOnThreads(location, file, { jobs, sample, signing, signal, onProgress: say }).catch(failed);
  const seconds = (performance.now() - started) / 1000;
  if (options.json === true) line(io, JSON.stringify(asJson(tally, bundle.revision, seconds)));
  else print(tally, bundle.revision, seconds, io);
  return differs(tally) || (tally.replayed === 0 && tally.events > 0) ? EXIT.failed : EXIT.ok;
}

function count(name: string, text: string | undefined, maximum: number): number {
  if (text === undefined) return 1;
  const value = Number(text);
  if (/^\d+$/.test(text) && value >= 1 && value <= maximum) return value;
  throw new UsageError(`${name} takes a number from 1 to ${maximum}, not ${text}`);
}

/** At most one line every two seconds, on standard error. */
function reporter(io: Io, size: number, started: number): (bytes: number, events: number) => void {
  let next = started + REPORT_EVERY_MS;
  return (bytes, events) => {
    const now = performance.now();
    if (now < next) return;
    next = now + REPORT_EVERY_MS;
    const rate = Math.round(events / ((now - started) / 1000));
    io.err(`${Math.floor((100 * bytes) / Math.max(1, size))} %, ${events} events, ${rate} a second\n`);
  };
}

function asJson(tally: ReplayTally, revision: string, seconds: number): object {
  const { groups, revisions, lines: _lines, ...counts } = tally;
  return {
    candidate: revision,
    seconds: Math.round(seconds * 1000) / 1000,
    ...counts,
    differs: differs(tally),
    groups: sortedGroups(tally).map((group) => ({ ...group, rules: sortedRules(group) })),
    revisions: Object.fromEntries(revisions),
  };
}

const sortedGroups = ({ groups }: ReplayTally) =>
  [...groups.values()].sort((a, b) => b.count - a.count || (a.cause < b.cause ? -1 : 1));

const sortedRules = ({ rules }: ReplayGroup) => [...rules.values()].sort((a, b) => b.count - a.count);

const KINDS: Readonly<Record<(typeof DIFFERENCES)[number], string>> = {
  allow_to_deny: 'allowed then, denied now',
  deny_to_allow: 'denied then, allowed now',
  obligations: 'other obligations',
  reasons: 'denied for other reasons',
  failure: 'no decision now',
};

function print(tally: ReplayTally, revision: string, seconds: number, io: Io): void {
  const rate = Math.round(tally.events / Math.max(seconds, 0.001));
  line(io, `candidate ${revision}`);
  line(io, `${tally.events} events, ${tally.replayed} replayed in ${seconds.toFixed(1)} s (${rate} a second)`);
  if (tally.left_out > 0) line(io, `${tally.left_out} left out by --sample`);
  line(io, `${tally.same} unchanged`);
  if (tally.cured > 0) line(io, `${tally.cured} had no decision then and have one now`);
  for (const kind of DIFFERENCES) {
    if (tally.changes[kind] === 0) continue;
    line(io, `${tally.changes[kind]} ${KINDS[kind]}`);
    for (const group of sortedGroups(tally)) {
      if (group.kind === kind) printGroup(group, io);
    }
  }
  for (const [why, many] of Object.entries(tally.unreplayable)) {
    const places = tally.places[why as keyof ReplayTally['places']] ?? [];
    line(
      io,
      `${many} not replayed: ${notReplayedText(why)} (line ${places.join(', ')}${many > places.length ? ', …' : ''})`,
    );
  }
}

/** The rules are those of the first decisions; where these are not all, it says so. */
function printGroup(group: ReplayGroup, io: Io): void {
  const { count, cause, samples, looked_at } = group;
  line(io, `  ${count} × ${cause}  e.g. ${samples.join(' ')}`);
  const of = looked_at < count ? ` of the first ${looked_at}` : '';
  for (const { rule, at, stopped_at, count: many, samples: ids } of sortedRules(group)) {
    const how = stopped_at === null ? '' : `, stopped at ${stopped_at}`;
    line(io, `    ${many}${of}: ${at}  ${rule}${how}  e.g. ${ids.slice(0, 2).join(' ')}`);
  }
}

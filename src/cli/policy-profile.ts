/** `portcullis policy replay LOG --profile`: which rules cost what over a decision log. Source: policy-engine 7. */
import type { Bundle } from '../policy/bundle.ts';
import { type LogProfile, profileLog } from '../policy/explain/profile-log.ts';
import type { LogForm } from '../policy/replay/records.ts';
import { PolicyLoadError } from '../policy/wasm/program.ts';
import { printProfile, printReached } from './explain-measures.ts';
import type { Io } from './io.ts';
import { CommandError, EXIT, line } from './io.ts';
import { notReplayedText } from './policy-replay-reasons.ts';

export interface ProfileArguments {
  readonly bundleDir: string;
  readonly log: { readonly file: string; readonly form: LogForm };
  readonly sample: number;
  readonly repeat: number;
  readonly json: boolean;
}

/** Exit 0: something was profiled, or there was nothing to; 1: nothing could be. */
export async function profileCommand(
  bundle: Bundle,
  { bundleDir, log, sample, repeat, json }: ProfileArguments,
  say: (bytes: number, events: number) => void,
  io: Io,
): Promise<number> {
  const options = { sample, repeat, signal: io.signal, onProgress: say };
  const measured = await profileLog(bundle, bundleDir, log, options).catch((error: unknown) => {
    if (error instanceof PolicyLoadError) throw new CommandError(error.message);
    throw error;
  });
  if (json) line(io, JSON.stringify(measured));
  else print(measured, io);
  return measured.profile.inputs === 0 && measured.events > 0 ? EXIT.failed : EXIT.ok;
}

function print({ revision, events, left_out, not_profiled, profile, coverage }: LogProfile, io: Io): void {
  line(io, `policy ${revision}`);
  line(io, `${events} events, ${profile.inputs} profiled${left_out > 0 ? `, ${left_out} left out by --sample` : ''}`);
  for (const [why, many] of Object.entries(not_profiled)) line(io, `${many} not profiled: ${notReplayedText(why)}`);
  if (profile.inputs === 0) return;
  printProfile(profile, io);
  printReached(coverage, io);
}

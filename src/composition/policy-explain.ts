/** Explanations for the administration listener: of the policy in force, and of what its decision log holds. */
import { existsSync } from 'node:fs';
import { resolve } from 'node:path';
import type { ExplainAdmin } from '../admin/explain.ts';
import { GatewayError } from '../core/errors.ts';
import type { Bundle } from '../policy/bundle.ts';
import { type ExplainRequest, explain } from '../policy/explain/explain.ts';
import { findDecision } from '../policy/explain/find-event.ts';
import { PlanFault } from '../policy/plan/interpreter.ts';
import { PolicyLoadError } from '../policy/wasm/program.ts';
import type { Generation } from './assembly.ts';
import type { OpenPlatform } from './platform.ts';

/** Requests wait as long as this takes: what needs more can be explained with the command, beside the gateway. */
const TIME_MS = 500;

/** Looks at the generation of the moment. */
export function explainAdmin(generation: () => Generation, platform: OpenPlatform): ExplainAdmin {
  return async (question) => {
    const { config, engine } = generation();
    const bundle = engine.activeBundle();
    if (bundle === null) throw new GatewayError('CONFLICT', { message: 'There is no policy in force' });
    const at = (path: string): string => resolve(platform.baseDir, path);
    const log = config.policy.decision_log?.file;
    const request: ExplainRequest =
      'id' in question
        ? await fromLog(question.id, log === undefined ? null : at(log), bundle)
        : {
            entrypoint: question.entrypoint ?? config.policy.entrypoint,
            input: question.input,
            now: question.clock === undefined ? platform.clock.now() : Date.parse(question.clock),
          };
    const { bundle: place } = config.policy;
    try {
      const { repeat, coverage } = question;
      const bounds = { timeMs: TIME_MS, repeat, coverage };
      return explain(bundle, typeof place === 'string' ? at(place) : platform.baseDir, { ...request, ...bounds });
    } catch (fault) {
      if (!(fault instanceof PlanFault) && !(fault instanceof PolicyLoadError)) throw fault;
      throw new GatewayError('UNPROCESSABLE', { message: fault.message });
    }
  };
}

async function fromLog(id: string, log: string | null, bundle: Bundle): Promise<ExplainRequest> {
  if (log === null) throw new GatewayError('NOT_FOUND', { message: 'Decisions are not logged to a file' });
  const search = existsSync(log) ? await findDecision(log, id) : ({ kind: 'none' } as const);
  if (search.kind === 'none') throw new GatewayError('NOT_FOUND', { message: 'No such decision in the log' });
  if (search.kind === 'no_document') {
    throw new GatewayError('NOT_FOUND', { message: 'The log does not hold the document of this decision' });
  }
  const { event, input } = search.decision;
  if (event.revision !== bundle.revision) {
    throw new GatewayError('CONFLICT', {
      message: `Decided by the policy ${event.revision.slice(0, 100)}, which is no longer in force`,
    });
  }
  return { entrypoint: event.entrypoint, input, now: event.now, drawn: event.drawn, masked: event.hidden };
}

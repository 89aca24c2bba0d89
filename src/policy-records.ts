/** From the configuration to where decisions are recorded and which candidate is shown them. */
import { readFileSync } from 'node:fs';
import { resolve } from 'node:path';
import type { Platform } from './assembly.ts';
import type { Config } from './config/schema.ts';
import type { DecisionLogOptions } from './policy/decision-log.ts';

/** Null when decisions are not logged. */
export function decisionLogOptions(config: Config, platform: Platform): DecisionLogOptions | null {
  const log = config.policy.decision_log;
  if (log === undefined) return null;
  const { file, service, upload } = log;
  const at = (path: string): string => resolve(platform.baseDir, path);
  return {
    file: file === undefined ? undefined : at(file),
    service:
      service === undefined
        ? undefined
        : {
            url: service.url,
            credential: service.credential,
            partition: service.partition,
            ca: service.ca === undefined ? undefined : readFileSync(at(service.ca), 'utf8'),
            minSeconds: upload.min_seconds,
            maxSeconds: upload.max_seconds,
            maxBytes: upload.max_bytes,
          },
    mask: log.mask,
    maxWaiting: log.max_waiting,
    dropOver: log.drop_over,
    dropped: platform.metrics.logDropped,
    ruleFailed: platform.metrics.logRuleFailed,
    uploaded: platform.metrics.logUploaded,
  };
}

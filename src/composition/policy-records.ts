/** From the configuration to where decisions are recorded and which candidate is shown them. */
import { resolve } from 'node:path';
import type { Config } from '../config/schema.ts';
import { watchFiles } from '../config/watch.ts';
import type { DecisionLogOptions } from '../policy/decision-log.ts';
import type { PolicyEngine } from '../policy/engine.ts';
import type { Shadow } from '../policy/shadow.ts';
import { startShadow } from '../policy/shadow.ts';
import { startStatusReports } from '../policy/status-reports.ts';
import type { Platform } from './assembly.ts';
import { bindableRoutes } from './routes.ts';
import { readAuthority } from './upstream-set.ts';

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
            ca: readAuthority(['policy', 'decision_log', 'service', 'ca'], service.ca, platform.baseDir) ?? undefined,
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

/** Tells a service how the policy does, until the generation ends. */
export function reportStatus(config: Config, platform: Platform, engine: PolicyEngine, cleanup: AsyncDisposableStack) {
  const wanted = config.policy.status_reports;
  if (wanted === undefined) return;
  const reports = startStatusReports({
    ...{ url: wanted.url, credential: wanted.credential, partition: wanted.partition },
    ca: readAuthority(['policy', 'status_reports', 'ca'], wanted.ca, platform.baseDir) ?? undefined,
    everyMs: wanted.every_seconds * 1000,
    read: () => engine.status(),
    logger: platform.logging.component('policy'),
  });
  cleanup.defer(() => reports.close());
}

/** The candidate's thread; null when none is tried out. It ends with the generation. */
export function buildShadow(config: Config, platform: Platform, cleanup: AsyncDisposableStack): Shadow | null {
  const { shadow: wanted, entrypoint, watch } = config.policy;
  if (wanted === undefined) return null;
  const logger = platform.logging.component('shadow');
  const bundleDir = resolve(platform.baseDir, wanted.bundle);
  const dataFile = wanted.data === undefined ? null : resolve(platform.baseDir, wanted.data);
  const { metrics } = platform;
  const shadow = startShadow({
    ...{ bundleDir, dataFile, entrypoint, sample: wanted.sample, timeLimitMs: wanted.time_limit_ms, logger },
    routes: bindableRoutes(config),
    ...{ compared: metrics.shadow, violation: metrics.shadowViolation, dropped: metrics.shadowDropped },
  });
  cleanup.defer(() => shadow.close());
  if (watch) {
    const paths = dataFile === null ? [bundleDir] : [bundleDir, dataFile];
    const watcher = watchFiles(paths, () => void shadow.reload(), {
      onError: (error) => logger.error({ err: error }, 'policy_watch_failed'),
    });
    cleanup.defer(() => watcher.close());
  }
  return shadow;
}

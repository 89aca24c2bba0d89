/** Old environment names whose setting does not exist in this version. Source: acceptance D-48..D-50, DW-07, DW-08, TW-04, V-40. */

export interface Unavailable {
  readonly env: string;
  readonly reason: string;
  /** Values (lower case) that ask for nothing and are let through. */
  readonly harmless: readonly string[];
}

const OFF = ['0', 'false', 'no', 'off', 'never', 'none'];

function family(reason: string, harmless: readonly string[], names: readonly string[]): readonly Unavailable[] {
  return names.map((env) => ({ env, reason, harmless }));
}

/** Refused unless the value asks for nothing. When a setting is built, its row moves to `aliases.ts`. */
export const UNAVAILABLE: readonly Unavailable[] = [
  ...family('large bodies are not kept in S3', [], ['MY_S3_BUCKET', 'MY_S3_REGION']),
  ...family('there is no Redis', [], ['DYN_AUTH_REDIS_URL', 'DYN_AUTH_REDIS_PASSWORD']),
  ...family('responses are not stored', OFF, [
    'DYN_STORAGE_PROVIDER',
    'DYN_STORAGE_REDIS_URL',
    'DYN_STORAGE_REDIS_PASSWORD',
    'DYN_STORAGE_REDIS_TLS',
    'DYN_STORAGE_MAX_RESPONSE_SIZE_MB',
    'DYN_STORAGE_DEFAULT_TTL_HOURS',
    'DYN_STORAGE_MAX_TTL_HOURS',
    'DYN_STORAGE_MAX_RESPONSES',
    'DYN_STORAGE_ENCRYPTION',
    'DYN_STORAGE_ENCRYPTION_MASTER_KEY_PATH',
    'DYN_RATE_LIMIT_RESPONSES_PER_HOUR',
    'DYN_RATE_LIMIT_MAX_STORED_RESPONSES',
    'DYN_RATE_LIMIT_MAX_STORAGE_GB',
    'DYN_STATEFUL_RESPONSES_STORE_URL',
    'DYN_STATEFUL_RESPONSES_DEFAULT_TTL_SECS',
    'DYN_STATEFUL_RESPONSES_TTL_SWEEP_SECS',
    'DYNAMO_ENABLE_STATEFUL_RESPONSES',
    'DYNAMO_RESPONSES_DEFAULT_TTL_SECS',
    'DYNAMO_RESPONSES_MAX_TTL_SECS',
    'DYNAMO_RESPONSES_STORE_BY_DEFAULT',
    'DYNAMO_RESPONSES_MAX_PER_SESSION',
    'DYNAMO_RESPONSES_BACKEND',
    'DYNAMO_RESPONSES_REDIS_URL',
  ]),
  ...family(
    'there is no credential vault',
    [],
    [
      'TA_SECURE_AUTH_STORAGE_MANAGER_MODULE',
      'TA_SECURE_AUTH_STORAGE_MANAGER_CLASS',
      'TA_AUTH_STORAGE_MANAGER_MODULE',
      'TA_AUTH_STORAGE_MANAGER_CLASS',
      'TA_REDIS_HOST',
      'TA_REDIS_PORT',
      'TA_REDIS_DB',
      'TA_REDIS_TTL',
      'TA_REDIS_PWD',
      'TA_REDIS_SSL',
      'TA_OAUTH_REDIRECT_URI',
      'TA_OAUTH_CLIENT_NAME',
      'TA_OAUTH_BASE_URL',
    ],
  ),
  ...family('decisions are made in this process, no policy service is asked', [], ['SARK_URL', 'SARK_TIMEOUT']),
];

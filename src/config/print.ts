/** The configuration as it took effect, without anything secret: for people, bug reports and the admin API. Source: X-07, DF-18. */
import { stringify } from 'yaml';
import { isSensitiveName, REDACTED, scrubText } from '../core/redaction.ts';
import { Secret } from '../core/secret.ts';

/** Names of settings that sound secret and are not: they hold names, switches or file names. */
const PLAIN_SETTINGS = new Set(['sensitive_params', 'redact', 'credentials', 'tokens', 'key', 'max_token_bytes']);

/** A plain copy with secrets replaced: those wrapped, those by name, and passwords inside URLs. */
export function redactConfig(value: unknown): unknown {
  if (value instanceof Secret) return REDACTED;
  if (typeof value === 'string') return scrubText(value);
  if (typeof value !== 'object' || value === null) return value;
  if (Array.isArray(value)) return value.map(redactConfig);
  const entries = value instanceof Map ? [...value.entries()] : Object.entries(value);
  return Object.fromEntries(
    entries.map(([name, inner]) => {
      const hide = typeof inner === 'string' && isSensitiveName(String(name)) && !PLAIN_SETTINGS.has(String(name));
      return [String(name), hide ? REDACTED : redactConfig(inner)];
    }),
  );
}

/** YAML of the redacted configuration. */
export function configYaml(config: unknown): string {
  return stringify(redactConfig(config), { lineWidth: 0, aliasDuplicateObjects: false });
}

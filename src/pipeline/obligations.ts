/** What the gateway can do on a policy's behalf. An obligation it cannot perform turns the allow into a deny. */
import type { Decision, Obligation } from '../core/decision.ts';

const SAFE_NAME = /^x-[a-z0-9-]{1,60}$/;
const SAFE_VALUE = /^[\x20-\x7e]{0,1024}$/;

/** Conditions (approval, MFA) are not performed but unmet: an allow that still carries one is not a permission. */
export function canPerform(obligation: Obligation): boolean {
  switch (obligation.type) {
    case 'audit':
      return true;
    case 'set_header':
      return isSafeHeader(obligation.name, obligation.value);
    case 'require_approval':
    case 'require_mfa':
    case 'redact_parameters':
    case 'redact_result':
    case 'inject_credential':
    case 'rate_limit':
    case 'clamp':
      return false;
    default:
      return refuseUnknown(obligation);
  }
}

/** Only `x-…` names, never one that carries identity, and nothing that could end a header line. */
function isSafeHeader(name: string, value: string): boolean {
  const lower = name.toLowerCase();
  return SAFE_NAME.test(lower) && !lower.startsWith('x-auth-') && lower !== 'x-tenant-id' && SAFE_VALUE.test(value);
}

/** A type that came from policy data at run time and that this version does not know. */
function refuseUnknown(_obligation: never): boolean {
  return false;
}

/** Headers that permitted decisions add to the upstream request; null for the usual case of none. */
export function obligedHeaders(decisions: readonly Decision[]): Record<string, string> | null {
  let headers: Record<string, string> | null = null;
  for (const decision of decisions) {
    for (const obligation of decision.obligations) {
      if (obligation.type !== 'set_header') continue;
      headers ??= {};
      headers[obligation.name.toLowerCase()] = obligation.value;
    }
  }
  return headers;
}

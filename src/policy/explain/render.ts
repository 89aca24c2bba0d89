/** An explanation as a short tree for people. */
import { isJsonObject } from '../../core/json.ts';
import type { Explanation, MissedRule } from './explain.ts';

const MAX_VALUE = 120;
const MAX_FIRED = 20;

function short(value: unknown): string {
  const text = JSON.stringify(value);
  return text.length > MAX_VALUE ? `${text.slice(0, MAX_VALUE)}…` : text;
}

/** What was decided, when and by which policy, in two lines. */
export function renderHeading({ allow, entrypoint, clock, revision }: Explanation): readonly string[] {
  const word = allow === null ? 'VALUE' : allow ? 'ALLOW' : 'DENY';
  return [`${word}  ${entrypoint}  at ${clock}`, `policy ${revision}`];
}

/** What the record of the decision does not hold, in one line, if any. */
export function renderMasked({ masked }: Explanation): readonly string[] {
  return masked.length === 0 ? [] : [`not in the record, so perhaps decided otherwise then: ${masked.join(', ')}`];
}

/** Lines, without a newline at their ends. Control characters are left to the caller. */
export function renderExplanation(one: Explanation): readonly string[] {
  const out = [...renderHeading(one)];
  const { result } = one;
  if (isJsonObject(result) && Array.isArray(result.deny)) {
    for (const each of result.deny)
      if (isJsonObject(each)) out.push(`  ${each.code}  ${each.message} (${each.package})`);
    const obligations = Array.isArray(result.obligations) ? result.obligations : [];
    for (const each of obligations) out.push(`  obligation ${short(each)}`);
  } else out.push(`  = ${short(result)}`);
  out.push(...renderMasked(one));
  if (one.missed.length > 0) {
    out.push('did not let it pass, the closest first:');
    for (const missed of one.missed) out.push(...renderMissed(missed, '  '));
  }
  out.push('fired:');
  for (const { rule, at, value } of mostTelling(one).slice(0, MAX_FIRED)) {
    out.push(`  ${at}  ${rule} = ${short(value)}`);
  }
  if (one.fired.length > MAX_FIRED) out.push(`  … ${one.fired.length - MAX_FIRED} more with --json`);
  if (!one.sources) out.push('(the sources are not at hand, or have changed since: only places are shown)');
  return out;
}

/** What was found last depends on what was found first. Before all stand the rules of the packages that denied. */
function mostTelling({ fired, result }: Explanation): Explanation['fired'] {
  const latest = fired.toReversed();
  const deny = isJsonObject(result) && Array.isArray(result.deny) ? result.deny.filter(isJsonObject) : [];
  const packages = new Set(deny.map((one) => one.package).filter((name) => name !== 'portcullis.main'));
  const denied = (rule: string): boolean => packages.has(rule.slice(0, rule.lastIndexOf('.')));
  return [...latest.filter(({ rule }) => denied(rule)), ...latest.filter(({ rule }) => !denied(rule))];
}

function renderMissed(missed: MissedRule, indent: string): readonly string[] {
  const { rule, at, stopped_at, expression, values, because } = missed;
  const out = [`${indent}${at}  ${rule}`, `${indent}  stopped at ${stopped_at}  ${expression ?? ''}`.trimEnd()];
  for (const { expression: text, value, defined } of values) {
    if (text === expression && !defined) out.push(`${indent}    is undefined`);
    else if (text !== expression || value !== false)
      out.push(`${indent}    ${text} = ${defined ? short(value) : 'undefined'}`);
  }
  for (const one of because) out.push(...renderMissed(one, `${indent}    `));
  return out;
}

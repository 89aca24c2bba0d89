/**
 * `regex.*` beyond what the module brings. Matching is linear in the text: patterns run on V8's non-backtracking engine,
 * and one that cannot run there has no value. (The module's own regex.match is RE2 and takes every pattern.)
 */
import { setFlagsFromString } from 'node:v8';
import type { Rego } from '../values.ts';
import { asInteger, asText, Mismatch, pure } from './support.ts';

const MAX_CACHED = 500;
const cache = new Map<string, RegExp>();
let enabled = false;

/** A pattern in RE2's spelling as linear JavaScript expression, global. Throws where that cannot be. */
export function linearPattern(pattern: string): RegExp {
  const known = cache.get(pattern);
  if (known !== undefined) {
    known.lastIndex = 0;
    return known;
  }
  if (!enabled) {
    setFlagsFromString('--enable-experimental-regexp-engine');
    enabled = true;
  }
  const source = pattern
    .replaceAll('(?P<', '(?<')
    .replaceAll('\\A', '^')
    .replaceAll('\\z', '$')
    .replace(/\[\[:(\w+):\]\]/g, (_, name: string) => CLASSES[name] ?? '[]');
  const made = new RegExp(source, 'lg');
  if (cache.size >= MAX_CACHED) cache.clear();
  cache.set(pattern, made);
  return made;
}

const CLASSES: Readonly<Record<string, string>> = {
  alpha: '[A-Za-z]',
  digit: '[0-9]',
  alnum: '[0-9A-Za-z]',
  upper: '[A-Z]',
  lower: '[a-z]',
  space: '[\\t\\n\\v\\f\\r ]',
  word: '[0-9A-Za-z_]',
  xdigit: '[0-9A-Fa-f]',
  punct: '[!-/:-@\\[-`{-~]',
};

/** Go's replacement templates: `$1`, `${1}`, `$name`, `$$`. */
function expandTemplate(template: string, match: RegExpExecArray): string {
  return template.replace(/\$(?:\$|\{(\w+)\}|(\w+))/g, (text, braced?: string, plain?: string) => {
    if (text === '$$') return '$';
    const name = braced ?? plain ?? '';
    return /^\d+$/.test(name) ? (match[Number(name)] ?? '') : (match.groups?.[name] ?? '');
  });
}

/** Matches as Go finds them: an empty one right after another match does not count. */
function* matches(pattern: string, text: string): Generator<RegExpExecArray> {
  let end = -1;
  for (const match of text.matchAll(linearPattern(pattern))) {
    if (match[0] === '' && match.index === end) continue;
    end = match.index + match[0].length;
    yield match;
  }
}

function replace(text: string, pattern: string, template: string): string {
  let out = '';
  let from = 0;
  for (const match of matches(pattern, text)) {
    out += text.slice(from, match.index) + expandTemplate(template, match);
    from = match.index + match[0].length;
  }
  return out + text.slice(from);
}

function split(pattern: string, text: string): Rego {
  if (text === '') return [''];
  const parts: string[] = [];
  let from = 0;
  for (const match of matches(pattern, text)) {
    if (match[0] === '' && (match.index === 0 || match.index >= text.length)) continue;
    parts.push(text.slice(from, match.index));
    from = match.index + match[0].length;
  }
  parts.push(text.slice(from));
  return parts;
}

function find(pattern: string, text: string, limit: number): Rego {
  const found: string[] = [];
  for (const match of matches(pattern, text)) {
    if (limit >= 0 && found.length >= limit) break;
    found.push(match[0]);
  }
  return found;
}

/** A text in which parts between delimiters are patterns. */
function templateMatch(template: string, text: string, open: string, close: string): boolean {
  if ([...open].length !== 1 || [...close].length !== 1) throw new Mismatch('delimiters are single characters');
  let source = '';
  let depth = 0;
  let part = '';
  for (const char of template) {
    if (char === open && depth++ === 0) source += escapePattern(part);
    else if (char === close && --depth === 0) source += `(${part})`;
    else {
      part += char;
      continue;
    }
    if (depth > 1 || (depth === 1 && char === close)) part += char;
    else part = '';
    if (depth < 0) throw new Mismatch('unbalanced delimiters');
  }
  if (depth !== 0) throw new Mismatch('unbalanced delimiters');
  const expression = linearPattern(`^${source}${escapePattern(part)}$`);
  return expression.test(text);
}

function escapePattern(text: string): string {
  return text.replace(/[\\^$.*+?()[\]{}|/]/g, '\\$&');
}

export const REGEX = pure({
  'regex.replace': ([text, pattern, template]) => replace(asText(text), asText(pattern), asText(template)),
  'regex.split': ([pattern, text]) => split(asText(pattern), asText(text)),
  'regex.find_n': ([pattern, text, limit]) => find(asText(pattern), asText(text), asInteger(limit)),
  'regex.template_match': ([template, text, open, close]) =>
    templateMatch(asText(template), asText(text), asText(open), asText(close)),
});

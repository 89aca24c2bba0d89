/**
 * Refuses secrets that are no secrets: shorter than 128 bits, from the list everybody knows, or printed in the
 * product's own examples and documentation. In development these are warnings, because a laptop may use `secret`;
 * well-known ones and those from our own examples are refused everywhere. Source: contracts 1 and 5.
 */
import { readdirSync, readFileSync } from 'node:fs';
import { join, relative, resolve } from 'node:path';
import { comparableName } from '../core/redaction.ts';
import { Secret } from '../core/secret.ts';
import { type Path, type Places, type Problem, problem } from './problem.ts';
import type { Config } from './schema.ts';

const MIN_BITS = 128;
const PRODUCT = resolve(import.meta.dirname, '../..');
const DEFAULT_TEXTS = [join(PRODUCT, 'config'), join(PRODUCT, 'docs')];

/** Compared without case and punctuation; a secret that consists of these alone is one of them. */
const KNOWN_WORDS = [
  'changeme',
  'changethis',
  'changeit',
  'replaceme',
  'placeholder',
  'yoursecret',
  'yourjwtsecret',
  'yoursecretkey',
  'yourapikey',
  'yourtoken',
  'supersecret',
  'topsecret',
  'mysecret',
  'secretkey',
  'jwtsecret',
  'jwtsecretkey',
  'secret',
  'password',
  'passw0rd',
  'admin',
  'root',
  'token',
  'default',
  'example',
  'letmein',
  'test',
  'testing',
  'development',
  'devonly',
  'insecure',
  'generated',
  'qwerty',
  'please',
  'inproduction',
  'minimum32characters',
  'atleast32characters',
  'here',
  'your',
  'key',
  'my',
  'the',
  'this',
  'is',
  'a',
  'very',
  'long',
  'not',
  'for',
  'use',
  'only',
  'jwt',
  'api',
  'dev',
  'super',
  'change',
  'in',
  'production',
  'hs256',
  '1234567890',
  '123456789',
  '12345678',
  '123456',
  '123',
  '12',
  '1',
].toSorted((a, b) => b.length - a.length);

/** True when the text is made of well-known words only: `change-me-in-production`, `secret123`, `admin admin`. */
export function isKnownSecret(text: string): boolean {
  let rest = comparableName(text);
  if (rest === '') return true;
  // Greedy from the left is enough: the words are placeholders, and a miss is still caught by its length.
  while (rest !== '') {
    const word = KNOWN_WORDS.find((candidate) => rest.startsWith(candidate));
    if (word === undefined) return false;
    rest = rest.slice(word.length);
  }
  return true;
}

/** The shortest text that, repeated, gives this one: `abcabcabc` says no more than `abc`. */
function period(text: string): number {
  const doubled = text + text;
  return doubled.indexOf(text, 1);
}

/** An upper bound of the bits in a text, from its alphabet and its repetition. It cannot see that a sentence is guessable. */
export function secretBits(text: string): number {
  const length = text.length === 0 ? 0 : period(text);
  if (new Set(text).size < 6) return Math.min(length, 8) * 2;
  if (/^\d*$/.test(text)) return length * Math.log2(10);
  if (/^(?:[0-9a-f]*|[0-9A-F]*)$/.test(text)) return length * 4;
  if (/^(?:[a-z]*|[A-Z]*)$/.test(text)) return length * Math.log2(26);
  if (/^[A-Za-z0-9+/=_-]*$/.test(text)) return length * 6;
  return length * 6.5;
}

/** Every secret of a configuration with its path. */
export function* secretsOf(value: unknown, path: Path = []): Generator<{ path: Path; secret: Secret }> {
  if (value instanceof Secret) yield { path, secret: value as Secret };
  else if (Array.isArray(value)) for (const [index, item] of value.entries()) yield* secretsOf(item, [...path, index]);
  else if (typeof value === 'object' && value !== null) {
    for (const [name, item] of Object.entries(value)) yield* secretsOf(item, [...path, name]);
  }
}

/** `Bearer x` and `Basic x` are a scheme and a secret; PEM keys carry their strength in their type. */
function bareSecret(text: string): string {
  return text.replace(/^(?:Bearer|Basic|ApiKey) +/i, '').trim();
}

function textFiles(directory: string): string[] {
  try {
    return readdirSync(directory, { recursive: true, withFileTypes: true })
      .filter((entry) => entry.isFile() && /\.(?:ya?ml|json|md|txt|env)$/.test(entry.name))
      .map((entry) => join(entry.parentPath, entry.name));
  } catch {
    // Not every installation carries the documentation.
    return [];
  }
}

/** The public file and line a text occurs in, or null. */
export function publicPlace(text: string, directories: readonly string[]): string | null {
  if (text.length < 8) return null;
  for (const file of directories.flatMap(textFiles)) {
    const at = readFileSync(file, 'utf8').indexOf(text);
    if (at === -1) continue;
    const before = readFileSync(file, 'utf8').slice(0, at).split('\n').length;
    return `${relative(PRODUCT, file)}:${before}`;
  }
  return null;
}

function fault(text: string, directories: readonly string[]): { message: string; always: boolean } | null {
  if (text.startsWith('-----BEGIN ')) return null;
  const place = publicPlace(text, directories);
  if (place !== null) return { message: `this secret is public: it occurs in ${place}`, always: true };
  if (isKnownSecret(text)) return { message: 'this is a well-known placeholder, not a secret', always: true };
  const bits = Math.floor(secretBits(text));
  if (bits >= MIN_BITS) return null;
  return { message: `a secret needs at least ${MIN_BITS} bits; this one has at most ${bits}`, always: false };
}

/** Problems of all secrets. Messages never hold one. */
export function secretProblems(
  config: Config,
  places: Places,
  directories: readonly string[] = DEFAULT_TEXTS,
): Problem[] {
  const problems: Problem[] = [];
  for (const { path, secret } of secretsOf(config)) {
    const found = fault(bareSecret(secret.reveal()), directories);
    if (found === null) continue;
    const severity = found.always || config.mode === 'production' ? 'error' : 'warning';
    problems.push(problem(severity, path, found.message, places.of(path)));
  }
  return problems;
}

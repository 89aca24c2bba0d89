/** HTTP APIs: the method decides. Source: acceptance S-17, SF-04; RFC 9110 section 9.2.1 (safe methods). */
import type { JsonObject, JsonValue } from '../../core/json.ts';
import { isJsonObject } from '../../core/json.ts';
import type { Classifier, ClassifierInput, Finding } from '../classifier.ts';
import type { ReasonId } from '../reasons.ts';
import { textsOf } from '../strings.ts';
import { hasAny, wordsOf } from '../words.ts';

const read = (reason: ReasonId): Finding => ({ type: 'query', reason });
const write = (reason: ReasonId): Finding => ({ type: 'mutation', reason });

const READ = read('api:read');
const WRITE = write('api:write');
const UNKNOWN_METHOD = write('api:unknown-method');
const OVERRIDE = write('api:method-override');
const GRAPHQL = write('api:graphql-mutation');
const NAME_READ: Finding = { ...read('api:name-read'), basis: 'name' };
/** The list phase of a tool that takes the method: with GET it reads, with others it writes. */
const ANY_METHOD: Finding = { ...NAME_READ, possible: [{ type: 'query' }, { type: 'mutation' }] };
const NAME_WRITE: Finding = { ...write('api:name-write'), basis: 'name' };

const SAFE = new Set(['GET', 'HEAD', 'OPTIONS']);
const UNSAFE = new Set(['POST', 'PUT', 'PATCH', 'DELETE']);
/** Names under which tools take the method. */
const METHOD_KEYS = new Set(['method', 'httpmethod', 'verb', 'httpverb', 'requestmethod']);
const OVERRIDE_KEYS = new Set(['xhttpmethodoverride', 'xhttpmethod', 'xmethodoverride', '_method']);

const READ_WORDS = new Set(
  'get list read fetch search find describe show lookup count head options view retrieve check'.split(' '),
);
const WRITE_WORDS = new Set(
  (
    'post put patch delete create update remove add set send submit upload write insert edit modify cancel close ' +
    'merge approve reject assign move rename archive publish invite revoke grant reset purge drop destroy erase wipe ' +
    'clear execute run trigger start stop restart enable disable import sync transfer pay refund charge subscribe ' +
    'unsubscribe register deregister replace append save store push commit deploy release rollback reopen lock unlock ' +
    'mark star follow fork transition kill terminate'
  ).split(' '),
);

function plain(key: string): string {
  return key.toLowerCase().replaceAll('-', '').replaceAll(' ', '');
}

function methodFinding(value: JsonValue | undefined): Finding {
  if (typeof value !== 'string') return UNKNOWN_METHOD;
  const method = value.trim().toUpperCase();
  if (SAFE.has(method)) return READ;
  return UNSAFE.has(method) ? WRITE : UNKNOWN_METHOD;
}

/** What the tool's name says; used alone when no method is given, and to raise otherwise. */
function nameFinding(tool: string): Finding | null {
  const words = wordsOf(tool);
  if (hasAny(words, WRITE_WORDS)) return NAME_WRITE;
  const first = words[0];
  return first !== undefined && READ_WORDS.has(first) ? NAME_READ : null;
}

/** Methods that change something, with those of WebDAV and caches. */
const KNOWN_UNSAFE = new Set([
  ...UNSAFE,
  ...'CONNECT TRACE PURGE COPY MOVE MKCOL PROPPATCH LOCK UNLOCK MERGE BIND REBIND UNBIND LINK UNLINK ACL UPDATE'.split(
    ' ',
  ),
]);

function isMethodKey(key: string): boolean {
  return METHOD_KEYS.has(plain(key).replaceAll('_', ''));
}

/** A method below the top (`{request: {method: …}}`) raises when it writes; a word such as `card` may be anything. */
function writesBelow(value: JsonValue | undefined, depth: number): boolean {
  if (typeof value !== 'object' || value === null) return false;
  if (depth > 16) return true;
  for (const [key, item] of Object.entries(value as JsonObject)) {
    const isWrite = typeof item === 'string' && KNOWN_UNSAFE.has(item.trim().toUpperCase());
    if ((isWrite && isMethodKey(key)) || writesBelow(item, depth + 1)) return true;
  }
  return false;
}

/** A second method hidden in headers, in the query or in a form field. */
function overrides(value: JsonValue | undefined, depth: number): boolean {
  if (depth > 8) return true;
  if (typeof value === 'string') return /[?&;\s"']_method=|x-http-method|x-method-override/i.test(value);
  if (Array.isArray(value)) return value.some((item: JsonValue) => overrides(item, depth + 1));
  if (!isJsonObject(value)) return false;
  for (const key in value) {
    if (OVERRIDE_KEYS.has(plain(key)) && methodFinding(value[key]) !== READ) return true;
    if (overrides(value[key], depth + 1)) return true;
  }
  return false;
}

/** The keyword with a brace anywhere behind it. Two searches: one expression for both takes quadratic time on a long text. */
function declaresMutation(text: string): boolean {
  const at = text.search(/(?<![\w$@])(?:mutation|subscription)\b/);
  return at >= 0 && text.includes('{', at);
}

function isGraphqlMutation(parameters: JsonObject): boolean {
  for (const key in parameters) {
    const { texts } = textsOf(parameters[key]);
    for (const text of texts) if (declaresMutation(text)) return true;
  }
  return false;
}

function classify(input: ClassifierInput): readonly Finding[] {
  const byName = nameFinding(input.tool);
  const { parameters } = input;
  // List phase: a tool whose name says nothing may still be called with GET.
  if (parameters === null) return [byName ?? ANY_METHOD];
  const found: Finding[] = [];
  let seen = false;
  for (const key in parameters) {
    if (!isMethodKey(key)) continue;
    found.push(methodFinding(parameters[key]));
    seen = true;
  }
  if (!seen) found.push(byName ?? UNKNOWN_METHOD);
  else if (byName === NAME_WRITE) found.push(NAME_WRITE);
  if (writesBelow(parameters, 0)) found.push(WRITE);
  if (overrides(parameters, 0)) found.push(OVERRIDE);
  if (isGraphqlMutation(parameters)) found.push(GRAPHQL);
  return found;
}

/** The classifier of type `api`. */
export const httpApiClassifier: Classifier = { serverType: 'api', classify };

/** Kubernetes: verbs of the name and of the arguments, and the kinds they touch. Source: acceptance S-19, SF-06. */
import type { JsonObject, JsonValue } from '../../core/json.ts';
import type { Classifier, ClassifierInput, Finding } from '../classifier.ts';
import type { ReasonId } from '../reasons.ts';
import { textsOf } from '../strings.ts';
import { wordsOf } from '../words.ts';

const READ_VERBS = new Set(
  'get list describe watch logs log top explain events event status version find show read view search inspect'.split(
    ' ',
  ),
);
const WRITE_VERBS = new Set('label annotate wait'.split(' '));
const ADMIN_VERBS = new Set(
  (
    'create delete scale restart rollout apply patch replace edit update set drain cordon uncordon taint run expose ' +
    'autoscale rollback undo kill evict approve deny upgrade install uninstall helm remove destroy stop start resume ' +
    'pause deploy modify write add put post import deletecollection prune purge reset migrate cleanup rename move sync'
  ).split(' '),
);
const EXEC_VERBS = new Set('exec attach execute shell cp copy proxy debug portforward ssh'.split(' '));
const IMPERSONATION = new Set(
  'token tokenrequest impersonate bind escalate certificate serviceaccounttoken'.split(' '),
);
const SECRET_WORDS = new Set(['secret', 'secrets']);
/** Parameters that hold a command line, a verb, or name a kind. */
const COMMAND_KEYS = new Set(['command', 'cmd', 'args', 'arguments', 'argv', 'commandline', 'kubectl']);
const VERB_KEYS = new Set(['verb', 'action', 'operation', 'op', 'subresource', 'subcommand']);
const KIND_KEYS = new Set([
  'resource',
  'resources',
  'kind',
  'kinds',
  'type',
  'resourcetype',
  'apiresource',
  'path',
  'uri',
  'url',
  'object',
  'manifest',
  'yaml',
  'spec',
]);

const byName = (type: Finding['type'], reason: ReasonId): Finding => ({ type, reason, basis: 'name' });
const byArgument = (type: Finding['type'], reason: ReasonId): Finding => ({ type, reason });

interface Kinds {
  readonly read: Finding;
  readonly write: Finding;
  readonly admin: Finding;
  readonly exec: Finding;
  readonly impersonation: Finding;
}

const kinds = (make: typeof byName): Kinds => ({
  read: make('query', 'k8s:read'),
  write: make('mutation', 'k8s:write'),
  admin: make('admin', 'k8s:admin'),
  exec: make('admin', 'k8s:exec'),
  impersonation: make('admin', 'k8s:impersonation'),
});
const FROM_NAME = kinds(byName);
const FROM_ARGUMENT = kinds(byArgument);
/** The list phase of a command runner: the command decides. */
const ANY_COMMAND: Finding = {
  ...FROM_NAME.read,
  possible: [{ type: 'query' }, { type: 'mutation' }, { type: 'admin' }],
};
const SECRETS: Finding = {
  type: 'query',
  level: 'high',
  reason: 'k8s:secrets' satisfies ReasonId,
  basis: 'raise',
  resources: ['secrets'],
};
const BAD_COMMAND = byArgument('admin', 'k8s:command');

function verbFinding(word: string, next: string | undefined, kind: Kinds): Finding | null {
  if (EXEC_VERBS.has(word) || (word === 'port' && next === 'forward')) return kind.exec;
  if (IMPERSONATION.has(word)) return kind.impersonation;
  if (ADMIN_VERBS.has(word)) return kind.admin;
  if (WRITE_VERBS.has(word)) return kind.write;
  return READ_VERBS.has(word) ? kind.read : null;
}

function addVerbs(words: readonly string[], kind: Kinds, found: Finding[]): boolean {
  let any = false;
  words.forEach((word, index) => {
    const finding = verbFinding(word, words[index + 1], kind);
    if (finding !== null) {
      found.push(finding);
      any = true;
    }
    if (SECRET_WORDS.has(word)) found.push(SECRETS);
  });
  return any;
}

/** Options that lead to another cluster, identity or file, or hand the credentials to another server; so does any URL. */
const FAR_OPTION =
  /(?:^|\s)--(?:as|token|kubeconfig|server|raw|user|username|password|context|cluster|client|certificate|insecure|tls|kube|cache|profile|log|template|filename|kustomize|output-directory|post-renderer)\b|(?:^|\s)-[AwhRfpit]*s|:\/\/|-file=/;

/** A kubectl command line: refused where a shell or an unknown verb could do something else. */
function addCommand(text: string, found: Finding[]): void {
  if (text.length > 4096 || /[;&|`$<>\\\n\r'"(){}]/.test(text) || FAR_OPTION.test(text)) {
    found.push(BAD_COMMAND);
    return;
  }
  const tokens = text.trim().split(/\s+/);
  if (tokens[0] === 'kubectl') tokens.shift();
  const words = tokens.filter((token) => !token.startsWith('-')).flatMap((token) => wordsOf(token));
  const verb = tokens[0] === undefined ? null : verbFinding(tokens[0].toLowerCase(), undefined, FROM_ARGUMENT);
  if (verb === null || tokens[0]?.startsWith('-') === true) found.push(BAD_COMMAND);
  addVerbs(words, FROM_ARGUMENT, found);
}

/** Kinds and sub-resources: `pods/exec`, `secrets`, `*`. */
function addKind(text: string, found: Finding[]): void {
  const words = wordsOf(text.slice(0, 256));
  for (const word of words) {
    if (SECRET_WORDS.has(word)) found.push(SECRETS);
    if (IMPERSONATION.has(word)) found.push(FROM_ARGUMENT.impersonation);
  }
  if (/\/(?:exec|attach|portforward|proxy|ephemeralcontainers)\b/i.test(text)) found.push(FROM_ARGUMENT.exec);
  if (/(?:^|[,/\s])\*/.test(text)) found.push(SECRETS);
  if (/\bkind["']?\s*:\s*["']?secret/i.test(text)) found.push(SECRETS);
}

function addArguments(parameters: JsonObject, found: Finding[]): void {
  const visit = (value: JsonValue | undefined, depth: number): void => {
    if (typeof value !== 'object' || value === null) return;
    if (depth > 32) {
      found.push(BAD_COMMAND);
      return;
    }
    for (const [key, item] of Object.entries(value as JsonObject)) {
      const name = wordsOf(key).join('');
      if (COMMAND_KEYS.has(name)) addCommand(textsOf(item).texts.join(' '), found);
      else if (VERB_KEYS.has(name)) for (const text of textsOf(item).texts) addVerb(text, found);
      else if (KIND_KEYS.has(name)) for (const text of textsOf(item).texts) addKind(text, found);
      visit(item, depth + 1);
    }
  };
  visit(parameters, 0);
}

function addVerb(text: string, found: Finding[]): void {
  if (!addVerbs(wordsOf(text), FROM_ARGUMENT, found)) found.push(FROM_ARGUMENT.admin);
}

const onlyRaise = (finding: Finding): Finding => ({ ...finding, basis: 'raise' });

const COMMAND_TOOLS = new Set(['kubectl', 'helm', 'oc']);

function classify(input: ClassifierInput): readonly Finding[] {
  const found: Finding[] = [];
  const words = wordsOf(input.tool);
  const isCommandTool = words.some((word) => COMMAND_TOOLS.has(word));
  const named = isCommandTool
    ? words.filter((word) => word !== 'run' && word !== 'exec' && word !== 'execute' && word !== 'helm')
    : words;
  addVerbs(named, FROM_NAME, found);
  if (input.parameters !== null) {
    const start = found.length;
    addArguments(input.parameters, found);
    // Only a command runner is what its arguments say: elsewhere a caller could add a harmless verb to lower the class.
    if (!isCommandTool) for (let i = start; i < found.length; i++) found[i] = onlyRaise(found[i] ?? BAD_COMMAND);
  }
  // The list phase of a command runner: the least it can do is read.
  else if (isCommandTool && found.length === 0) found.push(ANY_COMMAND);
  return found;
}

/** The classifier of type `k8s`. */
export const kubernetesClassifier: Classifier = { serverType: 'k8s', classify };

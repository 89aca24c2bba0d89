/**
 * Servers whose tools speak to language models. Asking a model is `integration`; what trains, publishes or deletes models,
 * runs code, or administers the provider's account is `admin`. A name with a word that nobody knows stays unknown, so that
 * a familiar word beside it lowers nothing. Source: acceptance S-11, S-13, S-22, SF-09.
 */
import type { Sensitivity, ToolType } from '../../core/call.ts';
import type { JsonObject, JsonValue } from '../../core/json.ts';
import type { Classifier, ClassifierInput, Finding } from '../classifier.ts';
import type { ReasonId } from '../reasons.ts';
import { textsOf } from '../strings.ts';
import { hasAny, wordsOf } from '../words.ts';

const words = (text: string): ReadonlySet<string> => new Set(text.split(' '));

const ASK = words(
  'chat complete completion completions generate generation embed embedding embeddings summarise summarize summary ' +
    'summarisation summarization translate translation ask prompt message messages respond response responses answer ' +
    'rewrite paraphrase classify classification extract extraction rerank reranking moderate moderation moderations ' +
    'predict infer inference transcribe transcription transcriptions converse conversation query reason think score',
);
const READ = words('list get retrieve show describe count tokenize tokenise status info find search view read');
const MEDIA = words(
  'image images picture pictures video videos speech voice audio music tts dalle draw paint inpaint upscale',
);
const BATCH = words('batch batches bulk');
const WRITE = words(
  'create update modify edit add set put post patch save store write upload import insert append attach submit start ' +
    'enable disable cancel pause resume stop rename move copy clone restore',
);
const OBJECTS = words(
  'assistant assistants agent agents thread threads run runs vector vectors store stores memory memories skill skills',
);
const FILES = words('file files document documents dataset datasets attachment attachments');
const DESTROY = words('delete remove destroy purge drop wipe erase clear reset truncate unregister revoke evict prune');
const TRAIN = words(
  'train training finetune finetuning finetunes finetuned ft lora rlhf dpo distill distillation pretrain checkpoint ' +
    'checkpoints adapter adapters quantize merge weights',
);
const RELEASE = words(
  'deploy deployment deployments undeploy publish release register promote rollback serve load unload pull push',
);
const EXECUTE = words(
  'exec execute execution eval shell bash terminal sandbox interpreter codeinterpreter python javascript code subprocess ' +
    'command computer browser operator repl notebook',
);
const ACCOUNT = words(
  'key keys apikey apikeys secret secrets credential credentials admin organization organisation org project projects user ' +
    'users member members invite invites role roles permission permissions billing payment quota quotas limit limits ' +
    'ratelimit webhook webhooks certificate certificates audit policy policies guardrail guardrails account accounts config ' +
    'configuration settings setting',
);
/** Words that say nothing of what is done. */
const NEUTRAL = words(
  'a an the api of for to from with by in on and or v llm ai ml model models text texts input output content token tokens gpt ' +
    'claude openai anthropic gemini google azure bedrock mistral llama cohere ollama vllm qwen deepseek openrouter local ' +
    'remote stream streaming multi turn new one all my details detail usage system user name id ids history context tool ' +
    'tools json structured fast async sync call result results sentiment language languages question questions',
);
const KNOWN: readonly ReadonlySet<string>[] = [ASK, READ, MEDIA, BATCH, WRITE, OBJECTS, FILES, NEUTRAL];

/** Parameters that say what a generic tool does, or what the model may do itself. */
const VERB_KEYS = words('method verb action operation op endpoint path url uri task command cmd resource route api');
const TOOL_KEYS = words('tools tool functions toolchoice plugins connectors toolconfig');
const FILE_KEYS = words(
  'file files fileid fileids attachment attachments toolresources vectorstoreids containers container',
);

type Basis = Finding['basis'];
const found = (type: ToolType, reason: ReasonId, basis: Basis, level?: Sensitivity): Finding => ({
  type,
  reason,
  basis,
  ...(level === undefined ? {} : { level }),
});

/** Words of a name with each pair of neighbours as one word too: `fine_tune`, `fineTune` and `finetune` are the same. */
function paired(text: string): readonly string[] {
  const single = wordsOf(text);
  return single.flatMap((word, at) => (at === 0 ? [word] : [word, `${single[at - 1]}${word}`]));
}

/** What is dangerous whatever else is there. `isRead`: nothing but reading is done to it. */
function dangers(all: readonly string[], isRead: boolean, basis: Basis): Finding[] {
  const list: Finding[] = [];
  if (hasAny(all, DESTROY)) list.push(found('admin', 'llm:admin', basis));
  if (hasAny(all, EXECUTE)) list.push(found('admin', 'llm:execution', basis));
  if (hasAny(all, TRAIN)) list.push(isRead ? found('query', 'llm:read', basis) : found('admin', 'llm:training', basis));
  if (hasAny(all, RELEASE)) list.push(isRead ? found('query', 'llm:read', basis) : found('admin', 'llm:admin', basis));
  if (hasAny(all, ACCOUNT)) {
    list.push(isRead ? found('query', 'llm:account', basis, 'high') : found('admin', 'llm:admin', basis));
  }
  return list;
}

const EXECUTE_VERBS = words(
  'exec execute start run launch trigger submit train deploy publish promote rollback push pull',
);

/** What a name of known words says. */
function plain(all: readonly string[]): Finding[] {
  const list: Finding[] = [];
  const writes = hasAny(all, WRITE);
  if (hasAny(all, FILES)) {
    list.push(writes ? found('mutation', 'llm:files', 'name', 'high') : found('query', 'llm:files', 'name', 'medium'));
  }
  if (hasAny(all, OBJECTS) && (writes || !hasAny(all, READ))) list.push(found('mutation', 'llm:write', 'name', 'high'));
  const isRead = hasAny(all, READ) && !writes;
  if (hasAny(all, MEDIA) && !isRead) list.push(found('integration', 'llm:media', 'name', 'high'));
  if (hasAny(all, BATCH) && !isRead) list.push(found('integration', 'llm:batch', 'name', 'high'));
  if (hasAny(all, ASK) && !isRead) list.push(found('integration', 'llm:inference', 'name'));
  if (isRead) list.push(found('query', 'llm:read', 'name'));
  // Something is written, and the name does not say what.
  if (list.length === 0 && writes) list.push(found('mutation', 'llm:write', 'name', 'high'));
  return list;
}

const UNREADABLE = found('admin', 'llm:unreadable', 'raise');
const MAX_DEPTH = 32;

/** A caller chooses arguments, so they only raise. What is said to the model is not looked at. */
function addArguments(value: JsonValue | undefined, depth: number, list: Finding[]): void {
  if (typeof value !== 'object' || value === null) return;
  if (depth > MAX_DEPTH) {
    list.push(UNREADABLE);
    return;
  }
  for (const [key, item] of Object.entries(value as JsonObject)) {
    const name = wordsOf(key).join('');
    if (VERB_KEYS.has(name)) addVerbs(item, list);
    if (TOOL_KEYS.has(name)) addTools(item, list);
    if (FILE_KEYS.has(name) && item !== null) list.push(found('query', 'llm:files', 'raise', 'high'));
    addArguments(item, depth + 1, list);
  }
}

function addVerbs(item: JsonValue | undefined, list: Finding[]): void {
  const { texts, complete } = textsOf(item);
  if (!complete) list.push(UNREADABLE);
  for (const text of texts) {
    const all = paired(decoded(text));
    // A caller could put a harmless verb beside the real one.
    list.push(...dangers(all, false, 'raise'));
    if (hasAny(all, WRITE)) list.push(found('mutation', 'llm:write', 'raise', 'high'));
  }
}

/** `%64elete` is `delete` to whoever takes it for a URL. */
function decoded(text: string): string {
  if (!text.includes('%')) return text;
  try {
    return `${text} ${decodeURIComponent(text)}`;
  } catch {
    return `${text} delete`;
  }
}

/** Tools that the model is given: the provider's own run code or reach further; a caller's functions are the caller's. */
function addTools(item: JsonValue | undefined, list: Finding[]): void {
  const entries: readonly JsonValue[] = Array.isArray(item) ? item : [item ?? null];
  for (const entry of entries) {
    const { texts, keys } = typeof entry === 'string' ? { texts: [entry], keys: [] } : kindsOf(entry);
    for (const text of [...texts, ...keys]) {
      const all = paired(text);
      if (all.length === 0 || (all.length === 1 && OWN_FUNCTIONS.has(all[0] ?? ''))) continue;
      list.push(
        hasAny(all, EXECUTE) ? found('admin', 'llm:execution', 'raise') : found('query', 'llm:tools', 'raise', 'high'),
      );
    }
  }
}

const OWN_FUNCTIONS = words('function auto none required any');

/** How an entry names its kind: by `type`, or by its only key. */
function kindsOf(entry: JsonValue): { readonly texts: readonly string[]; readonly keys: readonly string[] } {
  if (typeof entry !== 'object' || entry === null || Array.isArray(entry)) return { texts: [], keys: [] };
  const { type } = entry as JsonObject;
  return typeof type === 'string' ? { texts: [type], keys: [] } : { texts: [], keys: Object.keys(entry) };
}

function classify({ tool, parameters }: ClassifierInput): readonly Finding[] {
  const single = wordsOf(tool);
  const all = paired(tool);
  const isRead = hasAny(single, READ) && !hasAny(all, WRITE) && !hasAny(all, EXECUTE_VERBS);
  const list = dangers(all, isRead, 'name');
  const isKnown = single.length > 0 && single.every((word) => KNOWN.some((table) => table.has(word)));
  if (isKnown) list.push(...plain(all));
  // A read of what is dangerous counts only where every word is known.
  else if (!list.some(({ type }) => type === 'admin')) list.push(...isReadOfDanger(single, list));
  if (parameters !== null) addArguments(parameters, 0, list);
  return list;
}

const DANGEROUS: readonly ReadonlySet<string>[] = [TRAIN, RELEASE, ACCOUNT, words('fine tuning tune tuned tunes')];

/** With a word that nobody knows nothing is lowered: what was found only raises. */
function isReadOfDanger(single: readonly string[], list: Finding[]): Finding[] {
  const tables = [...KNOWN, ...DANGEROUS];
  if (single.every((word) => tables.some((table) => table.has(word)))) return [];
  const raising = list.map((finding): Finding => ({ ...finding, basis: 'raise' }));
  list.length = 0;
  return raising;
}

/** The classifier of type `llm`. */
export const llmClassifier: Classifier = { serverType: 'llm', classify };

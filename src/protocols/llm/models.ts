/** Which configured model answers which name, and the list that callers see. Source: acceptance 1.3.2, llm 6.3. */
import type { Call } from '../../core/call.ts';
import { GatewayError } from '../../core/errors.ts';
import type { LocalPlan, Message, Permitted, Reply } from '../../core/exchange.ts';

/** One entry of the configuration's `models`. */
export interface ModelEntry {
  readonly name: string;
  /** Model names it answers; empty: its own, and any name where it is the route's only model. */
  readonly serves: readonly string[];
  /** Path of its URL, without trailing slash, e.g. `/v1`. */
  readonly basePath: string;
}

/** The names of one route's models; made once per route. */
export class ModelCatalog {
  readonly #entries: readonly ModelEntry[];
  readonly #byName = new Map<string, ModelEntry>();
  /** The only model of the route, when it names none that it serves. */
  readonly #any: ModelEntry | null;

  constructor(entries: readonly ModelEntry[]) {
    this.#entries = entries;
    for (const entry of entries) {
      for (const name of namesOf(entry)) if (!this.#byName.has(name)) this.#byName.set(name, entry);
    }
    const [only] = entries;
    this.#any = entries.length === 1 && only !== undefined && only.serves.length === 0 ? only : null;
  }

  /** The entry that answers this name. Throws MODEL_NOT_FOUND. */
  resolve(model: string): ModelEntry {
    const entry = this.#byName.get(model) ?? this.#any;
    if (entry === null) throw unknownModel(model);
    return entry;
  }

  /** Every name that callers can ask for, in the order of the configuration. */
  names(): { readonly model: string; readonly entry: ModelEntry }[] {
    const listed = this.#entries.flatMap((entry) => namesOf(entry).map((model) => ({ model, entry })));
    return listed.filter(({ model, entry }) => this.#byName.get(model) === entry);
  }
}

const namesOf = (entry: ModelEntry): readonly string[] => (entry.serves.length === 0 ? [entry.name] : entry.serves);

/** The same answer whether a model does not exist or may not be seen. */
export function unknownModel(model: string): GatewayError {
  const shown = model.length > 128 ? `${model.slice(0, 128)}…` : model;
  return new GatewayError('MODEL_NOT_FOUND', {
    message: `The model '${shown}' does not exist or you do not have access to it.`,
    details: { param: 'model' },
  });
}

/** `GET /models`, or one of them when `only` is given: answered from the configuration, one decision per name. */
export function listModels(catalog: ModelCatalog, only: string | null): Message {
  const listed = catalog.names().filter(({ model }) => only === null || model === only);
  if (only !== null && listed.length === 0) throw unknownModel(only);
  return {
    calls: listed.map(({ model, entry }) => listCall(model, entry)),
    mode: 'filter',
    body: null,
    dialect: 'openai',
    rpcId: undefined,
    plan: answerWith(
      listed.map(({ model, entry }) => modelObject(model, entry)),
      only,
    ),
  };
}

function answerWith(objects: readonly object[], only: string | null): LocalPlan {
  return {
    kind: 'local',
    answer: ({ decisions }: Permitted): Reply => {
      const seen = objects.filter((_, index) => decisions[index]?.allow === true && decisions[index].failure === null);
      if (only === null) return json({ object: 'list', data: seen });
      const [one] = seen;
      if (one === undefined) throw unknownModel(only);
      return json(one);
    },
  };
}

function listCall(model: string, entry: ModelEntry): Call {
  return {
    action: 'llm:models:list',
    server: null,
    tool: null,
    parameters: {},
    annotations: null,
    schema_hash: null,
    resource: { type: 'model', id: entry.name, tenant_id: null, owner_id: null, permissions: null },
    llm: { model, resolved_model: entry.name, stream: false, max_tokens: null, message_count: 0, tools: [] },
  };
}

/** `created` is unknown to a gateway; OpenAI clients want a number. */
const modelObject = (model: string, entry: ModelEntry): object => ({
  id: model,
  object: 'model',
  created: 0,
  owned_by: entry.name,
});

/** Private: the answer depends on who asked. */
const json = (value: unknown): Reply => ({
  status: 200,
  headers: { 'content-type': 'application/json', 'cache-control': 'private, no-store' },
  body: JSON.stringify(value),
});

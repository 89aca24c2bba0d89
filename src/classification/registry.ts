/**
 * One pipeline of monotone rules: findings, declared class, base level, sensitive resources, floors, production, hints.
 * Each step can only raise what the step before left, so no argument of a caller can lower a class.
 * Source: contracts 3 ("Class"), acceptance S-14, S-15, S-20 to S-25, SF-02, SF-07 to SF-09.
 */
import type { Call, Classification, Sensitivity, ServerType, ToolType } from '../core/call.ts';
import { sensitivityRank } from '../core/call.ts';
import { GatewayError } from '../core/errors.ts';
import type { JsonObject } from '../core/json.ts';
import type { Logger } from '../core/module.ts';
import { declaredAlike } from '../core/tool-name.ts';
import { actionFinding } from './actions.ts';
import type {
  ClassificationRegistry,
  Classifier,
  ClassifierInput,
  Finding,
  PossibleFinding,
  ServerFacts,
  ToolDeclaration,
} from './classifier.ts';
import { customClassifier } from './classifiers/custom.ts';
import { fileClassifier } from './classifiers/file.ts';
import { httpApiClassifier } from './classifiers/http-api.ts';
import { kubernetesClassifier } from './classifiers/kubernetes.ts';
import { llmClassifier } from './classifiers/llm.ts';
import { createSqlClassifier } from './classifiers/sql.ts';
import { baseLevel, maxLevel, maxType } from './levels.ts';
import type { ReasonId } from './reasons.ts';
import type { ClassificationRule, RuleSet } from './rules.ts';
import { createRules } from './rules.ts';
import type { SensitiveNames } from './sensitive.ts';
import { createSensitiveNames, namedResources } from './sensitive.ts';

/** What a registry is made of. */
export interface RegistryOptions {
  /** Names that raise to at least `high` (`classification.sensitive_resources`). */
  readonly sensitiveResources: readonly string[];
  readonly rules: readonly ClassificationRule[];
  readonly logger: Logger;
  /** Called for each classification of a server whose type nobody serves: for the metric. */
  readonly onUnknown?: ((serverType: string) => void) | undefined;
}

/** The registry as the composition root sees it. */
export interface OpenClassificationRegistry extends ClassificationRegistry {
  /** Adds a classifier; CONFLICT when the type has one and `replace` is not set. Logs `custom_classifier_registered`. */
  register(serverType: ServerType, classifier: Classifier, options?: { readonly replace?: boolean }): void;
  /** Loads the SQL parsers these dialects need. Until then SQL of that dialect is `admin/critical`. */
  prepare(dialects: readonly string[]): Promise<void>;
  /** Server types that have a classifier, sorted. */
  serverTypes(): readonly string[];
}

const NO_SERVER: ServerFacts = {
  name: '',
  type: 'custom',
  dialect: null,
  environment: null,
  region: null,
  data_region: null,
  tags: [],
  owner_team: null,
  enabled: true,
  description: null,
  sensitivity_level: null,
  sensitivity_floor: null,
  tools: {},
  allow: [],
};
const FAILED: readonly Finding[] = [{ type: 'admin', reason: 'unknown:classifier-failed' satisfies ReasonId }];
const MAX_RESOURCES = 256;

/** A class under construction. Every method only raises. */
class Verdict {
  type: ToolType;
  level: Sensitivity;
  readonly reasons: string[] = [];
  readonly resources: string[] = [];

  constructor(type: ToolType, level: Sensitivity) {
    this.type = type;
    this.level = level;
  }

  add(finding: Finding): void {
    this.type = maxType(this.type, finding.type);
    // A finding may be above its type's base level (a secret read), never below it.
    this.level = maxLevel(this.level, maxLevel(baseLevel(finding.type), finding.level ?? 'low'));
    this.reasons.push(finding.reason);
    if (finding.resources !== undefined) this.resources.push(...finding.resources);
  }

  raise(level: Sensitivity, reason: ReasonId): void {
    if (sensitivityRank(level) <= sensitivityRank(this.level)) return;
    this.level = level;
    this.reasons.push(reason);
  }

  /** S-20: medium becomes high, high becomes critical. */
  raiseForProduction(reason: ReasonId): void {
    if (this.level === 'medium') this.raise('high', reason);
    else if (this.level === 'high') this.raise('critical', reason);
  }

  finish(): Classification {
    return {
      tool_type: this.type,
      sensitivity_level: this.level,
      reasons: sortedUnique(this.reasons),
      resources: sortedUnique(this.resources).slice(0, MAX_RESOURCES),
    };
  }
}

function sortedUnique(values: string[]): readonly string[] {
  if (values.length < 2) return values;
  values.sort();
  return values.filter((value, index) => index === 0 || value !== values[index - 1]);
}

function isProduction(value: unknown): boolean {
  if (typeof value !== 'string' || value.length > 64) return false;
  const name = value.trim().toLowerCase();
  return name === 'production' || name === 'prod';
}

/** The class of a tool nothing was found about: what the operator declared, or custom/high. */
function unknownVerdict(server: ServerFacts, declared: ToolDeclaration | undefined): Verdict {
  if (declared?.type !== undefined || declared?.sensitivity !== undefined) {
    const type = declared.type ?? 'custom';
    const verdict = new Verdict(type, declared.sensitivity ?? baseLevel(type));
    noteDeclared(verdict, declared);
    return verdict;
  }
  const verdict = new Verdict('custom', server.sensitivity_level ?? 'high');
  verdict.reasons.push('unknown:tool' satisfies ReasonId);
  if (server.sensitivity_level !== null) verdict.reasons.push('declared:server-level' satisfies ReasonId);
  return verdict;
}

function noteDeclared(verdict: Verdict, declared: ToolDeclaration): void {
  if (declared.type !== undefined) verdict.reasons.push('declared:type' satisfies ReasonId);
  if (declared.sensitivity !== undefined) verdict.reasons.push('declared:sensitivity' satisfies ReasonId);
}

/** Findings exist: the declared class joins by maximum, it cannot lower them. */
function raiseToDeclared(verdict: Verdict, declared: ToolDeclaration | undefined): void {
  if (declared === undefined) return;
  if (declared.type !== undefined && maxType(verdict.type, declared.type) !== verdict.type) {
    verdict.type = declared.type;
    verdict.level = maxLevel(verdict.level, declared.sensitivity ?? baseLevel(declared.type));
    verdict.reasons.push('declared:type' satisfies ReasonId);
  }
  if (declared.sensitivity !== undefined) verdict.raise(declared.sensitivity, 'declared:sensitivity');
}

function isDestructive(annotations: JsonObject): boolean {
  return annotations.destructiveHint === true && annotations.readOnlyHint !== true;
}

/** Hints are the server's word: they raise to what a writing tool is, and never lower. */
function applyHints(verdict: Verdict, annotations: JsonObject | null, byNameOnly: boolean): void {
  if (annotations === null) return;
  const destructive = isDestructive(annotations);
  if (!destructive && annotations.readOnlyHint !== false) return;
  const reason: ReasonId = destructive ? 'hint:destructive' : 'hint:writes';
  // Where the arguments were read, they say what this call does; the hint speaks of all the tool can do.
  if (byNameOnly && maxType(verdict.type, 'mutation') !== verdict.type) {
    verdict.type = 'mutation';
    verdict.reasons.push(reason);
  }
  if (byNameOnly || destructive) verdict.raise('medium', reason);
}

/** Makes the registry with the built-in classifiers; throws INVALID_REQUEST for a rule that cannot be compiled. */
export function createClassificationRegistry(options: RegistryOptions): OpenClassificationRegistry {
  return new Registry(options);
}

class Registry implements OpenClassificationRegistry {
  readonly #classifiers = new Map<string, Classifier>();
  readonly #sensitive: SensitiveNames;
  readonly #rules: RuleSet;
  readonly #logger: Logger;
  readonly #onUnknown: ((serverType: string) => void) | undefined;
  readonly #sql = createSqlClassifier();

  constructor(options: RegistryOptions) {
    this.#sensitive = createSensitiveNames(options.sensitiveResources);
    this.#rules = createRules(options.rules);
    this.#logger = options.logger;
    this.#onUnknown = options.onUnknown;
    const plain = [httpApiClassifier, fileClassifier, kubernetesClassifier, llmClassifier, customClassifier];
    for (const one of [this.#sql, ...plain]) this.#classifiers.set(one.serverType, one);
  }

  prepare(dialects: readonly string[]): Promise<void> {
    return this.#sql.prepare(dialects);
  }

  serverTypes(): readonly string[] {
    return [...this.#classifiers.keys()].sort();
  }

  register(serverType: ServerType, classifier: Classifier, options?: { readonly replace?: boolean }): void {
    const replaced = this.#classifiers.has(serverType);
    if (replaced && options?.replace !== true)
      throw new GatewayError('CONFLICT', { message: `server type ${serverType} already has a classifier` });
    this.#classifiers.set(serverType, classifier);
    const event = 'custom_classifier_registered';
    this.#logger.info({ event, server_type: serverType, replaced }, event);
  }

  classify(call: Call, server: ServerFacts | null): Classification {
    const isTool = call.action === 'gateway:tool:invoke' || call.action === 'gateway:tool:discover';
    return isTool ? this.#classifyTool(call, server ?? NO_SERVER) : this.#classifyAction(call, server);
  }

  #classifyAction(call: Call, server: ServerFacts | null): Classification {
    const finding = actionFinding(call.action);
    const verdict = new Verdict(finding.type, 'low');
    verdict.add(finding);
    if (call.resource.type === 'resource') {
      verdict.resources.push(call.resource.id);
      if (this.#sensitive.matches(call.resource.id)) verdict.raise('high', 'resource:sensitive');
    }
    if (server !== null && isProduction(server.environment)) verdict.raiseForProduction('floor:production');
    return verdict.finish();
  }

  #classifyTool(call: Call, server: ServerFacts): Classification {
    const tool = call.tool ?? '';
    const input: ClassifierInput = { server, tool, parameters: call.parameters, annotations: call.annotations };
    const declared = Object.hasOwn(server.tools, tool) ? server.tools[tool] : undefined;
    const findings = this.#findings(input);
    const least = this.#verdict(input, findings, declared).finish();
    const possible = input.parameters === null ? this.#possible(input, findings, declared, least) : null;
    const result = possible === null ? least : { ...least, possible };
    const event = 'tool_classified';
    this.#logger.debug(
      {
        event,
        server: server.name,
        server_type: server.type,
        tool,
        tool_type: result.tool_type,
        sensitivity_level: result.sensitivity_level,
        reasons: result.reasons,
      },
      event,
    );
    return result;
  }

  /** The class of a tool about which this was found, with everything that raises it. */
  #verdict(input: ClassifierInput, findings: readonly Finding[], declared: ToolDeclaration | undefined): Verdict {
    const { server, parameters } = input;
    const verdict = this.#judge(input, findings, declared);
    this.#raiseForResources(verdict, server, parameters);
    const floor = declaredAlike(server.tools, input.tool)?.floor;
    if (floor !== undefined) verdict.raise(floor, 'floor:tool');
    if (server.sensitivity_floor !== null) verdict.raise(server.sensitivity_floor, 'floor:server');
    if (isProduction(server.environment)) verdict.raiseForProduction('floor:production');
    else if (isProduction(parameters?.environment)) verdict.raiseForProduction('floor:caller-production');
    return verdict;
  }

  /** The other classes that arguments could give, each judged as if they had been found; null when there is none. */
  #possible(
    input: ClassifierInput,
    findings: readonly Finding[],
    declared: ToolDeclaration | undefined,
    least: Classification,
  ): Record<string, Sensitivity> | null {
    const found: readonly PossibleFinding[] = [
      ...findings.flatMap((finding) => finding.possible ?? []),
      ...this.#rules.possible(input.server.type, input.tool),
    ];
    const classes = new Map<ToolType, Sensitivity>();
    for (const { type, level } of found) {
      const verdict = this.#verdict(input, [...findings, { type, level, reason: 'possible' }], declared);
      const known = verdict.type === least.tool_type ? least.sensitivity_level : classes.get(verdict.type);
      if (known === undefined || sensitivityRank(verdict.level) < sensitivityRank(known)) {
        classes.set(verdict.type, verdict.level);
      }
    }
    return classes.size === 0 ? null : Object.fromEntries(classes);
  }

  #judge(input: ClassifierInput, findings: readonly Finding[], declared: ToolDeclaration | undefined): Verdict {
    let standing = false;
    let byNameOnly = true;
    for (const finding of findings) {
      if (finding.basis !== 'raise') standing = true;
      if (finding.basis === undefined) byNameOnly = false;
    }
    const verdict = standing ? new Verdict('query', 'low') : unknownVerdict(input.server, declared);
    for (const finding of findings) verdict.add(finding);
    if (standing) raiseToDeclared(verdict, declared);
    if (!standing && !this.#serves(input.server.type)) verdict.reasons.push('unknown:server-type' satisfies ReasonId);
    applyHints(verdict, input.annotations, byNameOnly);
    return verdict;
  }

  #findings(input: ClassifierInput): readonly Finding[] {
    const { type } = input.server;
    const classifier = this.#classifiers.get(type);
    const ruled = this.#rules.findings(type, input);
    if (classifier === undefined) {
      if (!this.#serves(type)) this.#noteUnknownType(type);
      return ruled;
    }
    try {
      const found = classifier.classify(input);
      return ruled.length === 0 ? found : [...found, ...ruled];
    } catch (cause) {
      this.#logger.error({ event: 'classifier_failed', server_type: type, err: cause }, 'classifier_failed');
      return FAILED;
    }
  }

  /** A type is known when a classifier or a rule speaks of it. */
  #serves(serverType: string): boolean {
    return this.#classifiers.has(serverType) || this.#rules.has(serverType);
  }

  #noteUnknownType(serverType: string): void {
    const event = 'unknown_server_type';
    this.#logger.warn({ event, server_type: serverType }, event);
    this.#onUnknown?.(serverType);
  }

  #raiseForResources(verdict: Verdict, server: ServerFacts, parameters: JsonObject | null): void {
    let hit = verdict.resources.some((name) => this.#sensitive.matches(name));
    if (parameters !== null) {
      const named = namedResources(parameters, server.type === 'sql');
      if (named === null) hit = true;
      else
        for (const name of named) {
          if (this.#sensitive.matches(name)) {
            hit = true;
            verdict.resources.push(name.length > 256 ? name.slice(0, 256) : name);
          }
        }
    }
    if (hit) verdict.raise('high', 'resource:sensitive');
  }
}

/** The contract of classifiers, and the merge rule: the most dangerous answer wins. Source: contracts 3. */
import type {
  Call,
  Classification,
  DataSensitivity,
  Sensitivity,
  ServerType,
  ToolCost,
  ToolType,
} from '../core/call.ts';
import type { JsonObject } from '../core/json.ts';

/** What the operator says of a tool in config (`servers.*.tools.*`). */
export interface ToolDeclaration {
  /** Replaces only the *unknown* default, never a finding. */
  readonly type?: ToolType | undefined;
  readonly sensitivity?: Sensitivity | undefined;
  /** Only raises. */
  readonly floor?: Sensitivity | undefined;
  readonly requires_hitl?: boolean | undefined;
  /** For rules of the operator's own; no class follows from it. */
  readonly cost?: ToolCost | undefined;
  readonly data_sensitivity?: DataSensitivity | undefined;
  readonly sensitive_params?: readonly string[] | undefined;
}

/** The server's own truth, from config; the caller cannot change it. */
export interface ServerFacts {
  readonly name: string;
  readonly type: ServerType;
  readonly dialect: string | null;
  readonly environment: string | null;
  readonly region: string | null;
  readonly data_region: string | null;
  readonly tags: readonly string[];
  readonly owner_team: string | null;
  readonly enabled: boolean;
  readonly description: string | null;
  /** Used for tools that cannot be classified; not a floor. */
  readonly sensitivity_level: Sensitivity | null;
  readonly sensitivity_floor: Sensitivity | null;
  readonly tools: Readonly<Record<string, ToolDeclaration>>;
  /** Requests a server may send back: sampling, elicitation, roots. */
  readonly allow: readonly string[];
}

/** One thing a classifier noticed. Findings combine by maximum. */
export interface Finding {
  readonly type: ToolType;
  /** Absent: the base level of the type. */
  readonly level?: Sensitivity | undefined;
  /** Stable id such as `sql:drop`, from the closed list in docs/classification.md. */
  readonly reason: string;
  readonly resources?: readonly string[] | undefined;
  /**
   * What it rests on. `name`: the tool's name alone, so hints of the server may raise its type. `raise`: it only adds to
   * what is otherwise known and never stands in for the unknown default. Absent: the arguments themselves.
   */
  readonly basis?: 'name' | 'raise' | undefined;
  /** List phase: what arguments may be found to make of the tool besides this, e.g. of one that runs any statement. */
  readonly possible?: readonly PossibleFinding[] | undefined;
}

/** A class that some arguments would give. */
export type PossibleFinding = Pick<Finding, 'type' | 'level'>;

/**
 * Looks at one call to a server of its type. An empty answer means *unknown* (custom/high unless declared). With
 * `parameters: null` (list phase) it names the least class the tool can have, and in `possible` the other types. It never throws: what it cannot read is
 * the most dangerous thing it can be.
 */
export interface Classifier {
  readonly serverType: ServerType;
  classify(call: ClassifierInput): readonly Finding[];
}

export interface ClassifierInput {
  readonly server: ServerFacts;
  readonly tool: string;
  readonly parameters: JsonObject | null;
  readonly annotations: JsonObject | null;
}

/** One registry per gateway, used by the pipeline, the PDP API and the command line alike. */
export interface ClassificationRegistry {
  /** `server` is null for calls that are not about a configured server. */
  classify(call: Call, server: ServerFacts | null): Classification;
}

/** The operator's own rules (`classification.rules`). They add findings; they never take one away. Source: acceptance S-01. */
import type { Sensitivity, ToolType } from '../core/call.ts';
import { GatewayError } from '../core/errors.ts';
import { expressionProblem } from '../core/expression.ts';
import type { ClassifierInput, Finding } from './classifier.ts';
import { textsOf } from './strings.ts';

/** One rule as it stands in config. */
export interface ClassificationRule {
  readonly server_type: string;
  /** Regular expression on the tool's name. */
  readonly tool: string;
  /** Name of a parameter `pattern` is tried on; without it, on every text of the arguments. */
  readonly parameter?: string | undefined;
  readonly pattern?: string | undefined;
  readonly type: ToolType;
  readonly sensitivity?: Sensitivity | undefined;
  readonly reason: string;
}

const MAX_INPUT = 65_536;
const MAX_TOOL = 256;

function compile(source: string, where: string): RegExp {
  const wrong = expressionProblem(source);
  if (wrong !== null) throw new GatewayError('INVALID_REQUEST', { message: `${where}: ${wrong}` });
  return new RegExp(source, 'u');
}

interface Compiled {
  readonly tool: RegExp;
  readonly parameter: string | null;
  readonly pattern: RegExp | null;
  readonly finding: Finding;
}

/** The rules of one gateway, compiled once. */
export interface RuleSet {
  has(serverType: string): boolean;
  findings(serverType: string, input: ClassifierInput): readonly Finding[];
  /** List phase: what rules on arguments would find with the right ones. */
  possible(serverType: string, tool: string): readonly Finding[];
}

const NOTHING: readonly Finding[] = [];

function isAbout(rule: Compiled, tool: string): boolean {
  return tool.length <= MAX_TOOL && rule.tool.test(tool);
}

function applies(rule: Compiled, input: ClassifierInput): boolean {
  if (!isAbout(rule, input.tool)) return false;
  if (rule.pattern === null) return true;
  // In the list phase only the name is known: a rule on arguments does not speak of the least class.
  if (input.parameters === null) return false;
  const value = rule.parameter === null ? input.parameters : input.parameters[rule.parameter];
  const { texts, complete } = textsOf(value);
  if (!complete) return true;
  for (const text of texts) if (text.length > MAX_INPUT || rule.pattern.test(text)) return true;
  return false;
}

/** Compiles the rules; throws INVALID_REQUEST naming the rule when an expression is wrong or may not be linear. */
export function createRules(rules: readonly ClassificationRule[]): RuleSet {
  const byType = new Map<string, Compiled[]>();
  rules.forEach((rule, index) => {
    const where = `classification.rules[${index}]`;
    const compiled: Compiled = {
      tool: compile(rule.tool, `${where}.tool`),
      parameter: rule.parameter ?? null,
      pattern: rule.pattern === undefined ? null : compile(rule.pattern, `${where}.pattern`),
      finding: { type: rule.type, level: rule.sensitivity, reason: rule.reason },
    };
    const list = byType.get(rule.server_type);
    if (list === undefined) byType.set(rule.server_type, [compiled]);
    else list.push(compiled);
  });
  return {
    has: (serverType) => byType.has(serverType),
    findings(serverType, input) {
      const list = byType.get(serverType);
      if (list === undefined) return NOTHING;
      const found: Finding[] = [];
      for (const rule of list) if (applies(rule, input)) found.push(rule.finding);
      return found;
    },
    possible: (serverType, tool) =>
      (byType.get(serverType) ?? [])
        .filter((rule) => rule.pattern !== null && isAbout(rule, tool))
        .map((r) => r.finding),
  };
}

/**
 * What the data of the shipped rules have to be made of. Rules that meet something else deny, or (a list that is a text, an
 * element that is a number) never match: a policy that means something else than its author must not come into force.
 * What is left out is for the rules to make the worst of. Source: docs/policies.md, policy-engine 7.
 */
import { z } from 'zod';
import { isJsonObject, type JsonObject, type JsonValue } from '../core/json.ts';
import type { PatchOperation } from './data-document.ts';
import { PolicyLoadError } from './wasm/program.ts';

const texts = z.array(z.string());
const figure = z.number();
const byName = <T extends z.ZodType>(value: T) => z.record(z.string(), value).optional();

const grant = z.looseObject({
  levels: texts.optional(),
  approved_levels: texts.optional(),
  production: z.boolean().optional(),
});
const trustRule = z.looseObject({ min_tenure_months: figure.nullable(), level: z.string() });

/** Members of one's own may stand beside these everywhere. */
const config = z.looseObject({
  tool_access: byName(z.record(z.string(), grant)),
  levels: byName(texts),
  ungraded_actions: byName(z.boolean()),
  work_hours: z.looseObject({ start: figure.optional(), end: figure.optional(), weekend: texts.optional() }).optional(),
  allowed_regions: texts.nullish(),
  rate_limits: z.looseObject({ default: figure.optional(), roles: byName(figure) }).optional(),
  chain: z.looseObject({ max_depth: figure.optional() }).optional(),
  gdpr: z.looseObject({ data_region: z.string().optional(), source_prefix: z.string().optional() }).optional(),
  hipaa: z.looseObject({ tags: texts.optional(), servers: texts.optional() }).optional(),
  llm: z
    .looseObject({ roles: byName(z.looseObject({ models: texts.optional(), max_tokens: figure.nullish() })) })
    .optional(),
  role_permissions: byName(texts),
  approvals: z.looseObject({ require_mfa: z.boolean().optional() }).optional(),
  a2a: z
    .looseObject({
      capabilities: byName(
        z.looseObject({ min_trust: z.string().optional(), target_capability_required: z.boolean().optional() }),
      ),
      trust_names: byName(z.string()),
    })
    .optional(),
  object_roles: byName(texts),
  tag_roles: byName(texts),
  anonymous: texts.optional(),
  production_names: texts.optional(),
  trust: z
    .looseObject({ ranks: byName(figure), max_depth: byName(figure), roles: byName(z.array(trustRule)) })
    .optional(),
});

const tenant = z.looseObject({ deny: z.array(z.looseObject({})) });

const schema = z.looseObject({ config: config.optional(), tenants: byName(tenant) });

/** An entrypoint that the shipped rules have, and rules of another making would not. */
const OURS = 'mcp/gateway/context/deny';

/** How many faults one refusal names. */
const MAX_FAULTS = 5;

/**
 * Throws PolicyLoadError that names the places. Data of other rules than the shipped ones are their author's business.
 * @param touched changes that were just made: then only what they touched is looked at
 */
export function requireDataShape(
  root: JsonObject,
  entrypoints: ReadonlyMap<string, unknown>,
  touched: readonly PatchOperation[] | null = null,
): void {
  if (!entrypoints.has(OURS) && !isMarked(root)) return;
  const found = schema.safeParse(touched === null ? root : partOf(root, touched));
  if (found.success) return;
  const faults = found.error.issues.slice(0, MAX_FAULTS).map(({ path, message }) => {
    return `${placeOf(path)}: ${message.replace(/^Invalid input: /, '')}`;
  });
  const more = found.error.issues.length - faults.length;
  throw new PolicyLoadError(
    `the data are not what the rules take them for: ${faults.join('; ')}${more > 0 ? `; and ${more} more` : ''}`,
  );
}

/** Shipped data say which edition of these members they are. */
const isMarked = ({ config: part = null }: JsonObject): boolean => isJsonObject(part) && Object.hasOwn(part, 'version');

/** A change of one tenant must not cost a look at all of them. */
function partOf(root: JsonObject, touched: readonly PatchOperation[]): JsonObject {
  const part: Record<string, JsonValue> = {};
  for (const { path } of touched) {
    const [section, name] = path;
    if (section === undefined || !Object.hasOwn(root, section)) continue;
    const whole = root[section] ?? null;
    if (section !== 'tenants' || name === undefined || !isJsonObject(whole)) part[section] = whole;
    else if (Object.hasOwn(whole, name) && part[section] !== whole) {
      part[section] = { ...(part[section] as JsonObject | undefined), [name]: whole[name] ?? null };
    }
  }
  return part;
}

/** `data.config.trust.roles.admin[0].level` */
function placeOf(path: readonly PropertyKey[]): string {
  return path.reduce<string>(
    (place, step) => (typeof step === 'number' ? `${place}[${step}]` : `${place}.${String(step).slice(0, 64)}`),
    'data',
  );
}

/** How often the decision API may be asked, as rows of the table of limits. Source: acceptance SW-06. */
import type { Config } from '../config/schema.ts';
import type { LimitRule } from '../pipeline/limits.ts';
import { isQuestion } from '../protocols/pdp/questions-path.ts';

const PEOPLE = ['user', 'anonymous'] as const;
/** Everything but keys: what tells a person, an agent or a service by itself. */
const NO_KEY = ['bearer', 'basic', 'client-cert', 'auth-code', 'session', 'none'] as const;

/** One row for each kind of credential. Names that an operator gives can hold no colon, so they are never the same. */
export function questionLimits({ users, agents, gateways }: Config['decision_api']['limits']): readonly LimitRule[] {
  const row = (who: string, limit: number | null, types: LimitRule['types'], methods: LimitRule['methods']) =>
    limit === null ? [] : [{ ...questionRule(who, limit), types, methods }];
  return [
    ...row('users', users, PEOPLE, NO_KEY),
    ...row('agents', agents, ['agent'], NO_KEY),
    ...row('gateways', gateways, [], ['api-key']),
    ...row('services', gateways, ['service'], NO_KEY),
  ];
}

function questionRule(who: string, limit: number): Omit<LimitRule, 'types' | 'methods'> {
  const bucket = { limit, windowMs: 60_000 };
  return { name: `questions:${who}`, bucket, per: 'credential', routes: [], roles: [], isMeantFor: isQuestion };
}

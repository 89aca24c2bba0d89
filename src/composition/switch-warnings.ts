/** What to tell an operator who switches something off that nothing here is called by. */
import type { Config } from '../config/schema.ts';
import type { SwitchedOff } from '../stores/switches.ts';

type Named = Pick<SwitchedOff, 'kind' | 'name' | 'within'>;

/** Sentences; a switch is accepted in any case, for a name may come to be used later. */
export async function switchWarnings(
  { kind, name, within }: Named,
  config: Pick<Config, 'servers' | 'models' | 'routes'>,
  hasKey: (id: string) => Promise<boolean>,
): Promise<readonly string[]> {
  const has = (names: object, wanted: string) => Object.hasOwn(names, wanted);
  if (kind === 'server') {
    const isRoute = config.routes.some((route) => route.protocol === 'http' && route.match === name);
    const isKnown = has(config.servers, name) || has(config.models, name) || isRoute;
    return isKnown ? [] : [`the configuration has no server, model or HTTP route "${name}"`];
  }
  if (kind === 'tool') {
    const tools = has(config.servers, within) ? config.servers[within]?.tools : undefined;
    if (tools === undefined) return [`the configuration has no server "${within}"`];
    // Tools need not be listed in the configuration: only where some are does a missing one say anything.
    const isOdd = Object.keys(tools).length > 0 && !has(tools, name);
    return isOdd ? [`the configuration of server "${within}" does not list a tool "${name}"`] : [];
  }
  if (kind === 'key') return (await hasKey(name)) ? [] : [`there is no API key with the id "${name}"`];
  return [];
}

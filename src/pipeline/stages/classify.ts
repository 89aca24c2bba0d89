/** Stage 5: how dangerous is each call. It cannot fail: what nobody knows is the most dangerous thing it can be. */

import { LRUCache } from 'lru-cache';
import type { ClassificationRegistry, ServerFacts } from '../../classification/classifier.ts';
import type { Call, Classification, ClassifiedCall } from '../../core/call.ts';
import type { RequestFacts } from '../../core/decision.ts';
import { NO_APPROVAL } from '../../core/decision.ts';
import type { Admitted, Classified, Decoded } from '../../core/exchange.ts';

export type Classify = (call: Call) => ClassifiedCall;

/** Facts of the deployment that every request shares. */
export interface FactSources {
  regionOf(address: string): string;
  /** Whether the way to the upstream of this call is encrypted too. */
  upstreamEncrypted(server: string | null): boolean;
}

/** Arguments larger than this are classified each time: keeping them as keys would cost more than it saves. */
const KEY_LIMIT = 4096;

/**
 * Classifies with a memory: the class of a call depends on nothing but server, tool, arguments and annotations, so
 * equal text gives an equal class for as long as this configuration lives.
 */
export function createClassify(registry: ClassificationRegistry, servers: ReadonlyMap<string, ServerFacts>): Classify {
  const known = new LRUCache<string, Classification>({
    max: 10_000,
    maxSize: 16_000_000,
    sizeCalculation: (_, key) => key.length + 256,
  });
  return (call) => {
    // Without a server the class follows from the action alone: asking costs less than remembering.
    if (call.server === null) return withClass(call, registry.classify(call, null));
    const server = servers.get(call.server) ?? null;
    const key = keyOf(call);
    const hit = key === null ? undefined : known.get(key);
    if (hit !== undefined) return withClass(call, hit);
    const classification = registry.classify(call, server);
    if (key !== null) known.set(key, classification);
    return withClass(call, classification);
  };
}

/** The hash covers the whole definition of a tool; without one the annotations stand for themselves. */
function keyOf(call: Call): string | null {
  const definition = call.schema_hash ?? call.annotations;
  // What is no tool goes by its id: the resources of a list differ in nothing else.
  const about = call.tool ?? call.resource.id;
  const text = JSON.stringify([call.action, call.server, about, call.parameters, definition]);
  return text.length > KEY_LIMIT ? null : text;
}

function withClass(call: Call, classification: Classification): ClassifiedCall {
  const { a2a, begunBy } = call;
  return {
    action: call.action,
    server: call.server,
    tool: call.tool,
    parameters: call.parameters,
    annotations: call.annotations,
    schema_hash: call.schema_hash,
    resource: call.resource,
    llm: call.llm,
    classification,
    ...(a2a === undefined ? undefined : { a2a }),
    ...(begunBy === undefined ? undefined : { begunBy }),
  };
}

/** What is the same for all calls of a request. */
export function requestFacts(sources: FactSources, exchange: Admitted, server: string | null): RequestFacts {
  const { received } = exchange;
  return {
    request_id: received.id,
    now: received.receivedAt,
    endpoint: received.path,
    source_ip: received.peer.address,
    source_region: sources.regionOf(received.peer.address),
    user_agent: received.headers['user-agent'] ?? null,
    encryption_enabled: received.peer.encrypted && sources.upstreamEncrypted(server),
    rate: exchange.rate,
    approval: NO_APPROVAL,
  };
}

export function classify(run: Classify, sources: FactSources, decoded: Decoded): Classified {
  const { message } = decoded;
  const calls = message.calls.map((call) => run(call));
  return {
    received: decoded.received,
    route: decoded.route,
    principal: decoded.principal,
    rate: decoded.rate,
    rateResetAt: decoded.rateResetAt,
    message,
    facts: requestFacts(sources, decoded, calls[0]?.server ?? null),
    calls,
  };
}

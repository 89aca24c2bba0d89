/**
 * The order of the pipeline is proved by the compiler: `npm run check` compiles this file, and if a wrong order ever
 * compiled, its `@ts-expect-error` line would itself be an error.
 */
import type {
  Admitted,
  Authenticated,
  Classified,
  Decoded,
  Permitted,
  Received,
  Routed,
} from '../../../src/core/exchange.ts';
import type { PipelineParts } from '../../../src/pipeline/pipeline.ts';
import { classify } from '../../../src/pipeline/stages/classify.ts';
import { decide } from '../../../src/pipeline/stages/decide.ts';
import { forward } from '../../../src/pipeline/stages/forward.ts';

/** Never called: it only has to be judged by the compiler. */
export function wrongOrders(
  parts: PipelineParts,
  received: Received,
  routed: Routed,
  authenticated: Authenticated,
  admitted: Admitted,
  decoded: Decoded,
  classified: Classified,
  permitted: Permitted,
): void {
  // @ts-expect-error a received request cannot be forwarded
  void forward(parts.forwarding, received);
  // @ts-expect-error a routed request cannot be forwarded
  void forward(parts.forwarding, routed);
  // @ts-expect-error an authenticated request cannot be forwarded
  void forward(parts.forwarding, authenticated);
  // @ts-expect-error an admitted request cannot be forwarded
  void forward(parts.forwarding, admitted);
  // @ts-expect-error a decoded request cannot be forwarded
  void forward(parts.forwarding, decoded);
  // @ts-expect-error a classified request cannot be forwarded without a decision
  void forward(parts.forwarding, classified);
  // @ts-expect-error decisions alone do not make a permission
  void forward(parts.forwarding, { ...classified, decisions: [] });
  // @ts-expect-error an undecoded request cannot be classified
  classify(parts.classify, parts.facts, admitted);
  // @ts-expect-error an unclassified request cannot be decided
  void decide(parts.engine, parts.performing.mcp, decoded);
  void forward(parts.forwarding, permitted);
}

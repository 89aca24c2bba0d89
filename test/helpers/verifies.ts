import type { RequirementId } from '../requirements.ts';
import { REQUIREMENTS } from '../requirements.ts';

/** Declares which acceptance lines a test proves. Call it in the body of the `describe` or `test` with literal ids. */
export function verifies(...ids: readonly RequirementId[]): void {
  for (const id of ids) if (!(id in REQUIREMENTS)) throw new Error(`verifies('${id}'): no such acceptance line`);
}

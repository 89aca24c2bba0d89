/** Who may decide, and which call an approval is for. Source: design 2.4, security 2.9. */
import type { Call } from '../core/call.ts';
import { GatewayError } from '../core/errors.ts';
import type { Classified } from '../core/exchange.ts';
import type { Actor, Principal } from '../core/principal.ts';
import type { ApprovalCall, ApprovalRecord, ApprovalRequester } from '../stores/approvals.ts';

/** Ids of those who act for a principal, outermost first. */
export function actorsOf(principal: Principal): readonly string[] {
  const ids: string[] = [];
  for (let actor: Actor | null = principal.actor; actor !== null && ids.length < 32; actor = actor.actor) {
    ids.push(actor.id);
  }
  return ids;
}

/** The requester as it is kept. */
export function requesterOf(principal: Principal): ApprovalRequester {
  const { id, type, username, email, roles, auth } = principal;
  const asked = { id, type, username, email, roles, key_id: auth.key_id, actors: actorsOf(principal) };
  // The first party is the requester.
  const acting = (principal.parties ?? []).slice(1).flatMap((party) => [party.username, party.email]);
  const actor_names = acting.filter((name) => name !== null && name !== '') as string[];
  return actor_names.length === 0 ? asked : { ...asked, actor_names };
}

/**
 * Two pairs of eyes: true when the approver is the requester, is (or acts for) somebody of its chain, or is the same
 * person as one of these under another id of another identity provider.
 * @param aliases other ids that are known to be the approver's
 */
export function isSamePerson(
  requester: ApprovalRequester,
  approver: Principal,
  aliases: readonly string[] = [],
): boolean {
  const asked = new Set([requester.id, ...requester.actors]);
  if ([approver.id, ...aliases, ...actorsOf(approver)].some((id) => asked.has(id))) return true;
  // One provider's user name is another's address, or its id.
  const { username, email, actor_names = [] } = requester;
  const names = new Set([username, email, ...actor_names, ...asked].map(plain));
  names.delete('');
  return [approver.username, approver.email, approver.id].some((name) => names.has(plain(name)));
}

const plain = (name: string | null): string => (name ?? '').normalize('NFKC').trim().toLowerCase();

/** What is asked of who decides. */
export interface Fitness {
  readonly requireMfa: boolean;
  readonly allowPrograms: boolean;
}

/**
 * A yes is a person's, who signed in for it: neither a program's nor one said on somebody's behalf. What a key was once
 * made with shows nothing of who holds it now.
 * @throws GatewayError FORBIDDEN, MFA_REQUIRED
 */
export function requireFit(principal: Principal, { requireMfa, allowPrograms }: Fitness): void {
  const { type, actor, auth } = principal;
  const isFit = actor === null && (type === 'user' || (type === 'service' && allowPrograms));
  if (!isFit) throw new GatewayError('FORBIDDEN', { message: 'A person has to decide, in their own name' });
  if (!requireMfa) return;
  if (!auth.mfa_verified) {
    throw new GatewayError('MFA_REQUIRED', { message: 'Deciding on approvals needs a second factor' });
  }
  const isKey = auth.method === 'api-key' || auth.key_id !== null;
  if (!isKey || allowPrograms) return;
  const message = 'Deciding on approvals needs a second factor of the person, and an API key shows none: log in';
  throw new GatewayError('MFA_REQUIRED', { message });
}

/** What is called, in the words of what was approved. */
export interface Asked {
  readonly digest: string;
  readonly revision: string;
  /** Where the call goes: what it is bound to if no server defines what is called. */
  readonly definition: string;
  /** False where a server could not say just now what its tools are. */
  readonly isDescribed: boolean;
  /** Tools that their server does not list are bound to the server. */
  readonly allowUnlisted: boolean;
}

/** What is asked for now, in the words of what was approved; null where it is not one call. */
export function callOf(classified: Classified, asked: Asked): ApprovalCall | null {
  const [call, ...others] = classified.calls;
  if (call === undefined || others.length > 0 || classified.message.mode !== 'all') return null;
  return {
    action: call.action,
    server: call.server,
    tool: call.tool,
    resource: `${call.resource.type}:${call.resource.id}`,
    arguments_digest: asked.digest,
    schema_hash: boundTo(call, asked),
    // The same tool somewhere else does the same to something else.
    ...(call.action === 'gateway:tool:invoke' ? { target: asked.definition } : undefined),
    tool_type: call.classification.tool_type,
    sensitivity_level: call.classification.sensitivity_level,
    policy_revision: asked.revision,
  };
}

/** Null: a tool of which nobody says now what it is. */
function boundTo({ action, schema_hash }: Call, { definition, isDescribed, allowUnlisted }: Asked): string | null {
  if (action !== 'gateway:tool:invoke') return definition;
  return schema_hash ?? (isDescribed && allowUnlisted ? definition : null);
}

/** Why an approval is not for this call, in the order a requester would look: a code and a sentence; null when it is. */
export function mismatch(
  record: ApprovalRecord,
  principal: Principal,
  call: ApprovalCall,
): { readonly why: string; readonly message: string } | null {
  const { requester, call: approved } = record;
  const isRequester =
    record.tenant_id === principal.tenant_id &&
    requester.id === principal.id &&
    requester.type === principal.type &&
    JSON.stringify(requester.actors) === JSON.stringify(actorsOf(principal));
  if (!isRequester) return { why: 'other_principal', message: 'The approval was given to another caller' };
  if (approved.action !== call.action) return { why: 'other_action', message: 'The approval is for another action' };
  if (approved.server !== call.server) return { why: 'other_server', message: 'The approval is for another server' };
  if (approved.tool !== call.tool || approved.resource !== call.resource) {
    return { why: 'other_tool', message: 'The approval is for another tool or object' };
  }
  if (approved.arguments_digest !== call.arguments_digest) {
    return { why: 'changed_arguments', message: 'The arguments are not the ones that were approved' };
  }
  if (approved.schema_hash !== call.schema_hash) return otherDefinition(approved, call);
  if (approved.target !== undefined && approved.target !== call.target) {
    return { why: 'changed_definition', message: 'The server is not where it was when the call was approved' };
  }
  if (approved.tool_type !== call.tool_type || approved.sensitivity_level !== call.sensitivity_level) {
    return { why: 'changed_class', message: 'The call is classified otherwise than when it was approved' };
  }
  if (approved.policy_revision !== call.policy_revision) {
    return { why: 'changed_policy', message: 'The policy was changed after the approval' };
  }
  return null;
}

/** A server that does not name the tool now may be asked again: the approval is still good. */
function otherDefinition(approved: ApprovalCall, call: ApprovalCall) {
  if (call.schema_hash === null) {
    const message = 'The server does not say now how the tool is defined, so it may be another one: try again';
    return { why: 'unknown_definition', message };
  }
  const message =
    approved.schema_hash === null
      ? 'The definition of the tool was not known when it was approved: ask again'
      : 'The definition of the tool is not the one that was approved';
  return { why: 'changed_definition', message };
}

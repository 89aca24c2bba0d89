/** Makes the approvals of one generation, and reports what happens to them: to audit, metrics and the webhook. */
import { standingCheck } from '../accounts/standing.ts';
import { DECIDE } from '../approvals/api.ts';
import type { ApprovalEvent } from '../approvals/approval.ts';
import { Approvals } from '../approvals/approvals.ts';
import { MAX_SHOWN_LENGTH } from '../approvals/showable.ts';
import { ApprovalTokens } from '../approvals/token.ts';
import { ApprovalWebhook } from '../approvals/webhook.ts';
import type { AuditDraft } from '../audit/event.ts';
import { createRedactor } from '../audit/redaction.ts';
import type { Config } from '../config/schema.ts';
import type { Admitted } from '../core/exchange.ts';
import type { Principal } from '../core/principal.ts';
import { scrubText } from '../core/redaction.ts';
import { declaredAlike } from '../core/tool-name.ts';
import { EVERY_TENANT } from '../stores/api-keys.ts';
import { definitions } from './approval-definitions.ts';
import { approverOff } from './approver-standing.ts';
import type { Platform } from './assembly.ts';

const DAY_MS = 86_400_000;
/** How often is looked for what nobody decided in time. */
const SWEEP_MS = 10_000;

/** `cleanup` ends the sweep with the generation. */
export function buildApprovals(config: Config, platform: Platform, cleanup: AsyncDisposableStack): Approvals {
  const { approvals } = config;
  const { clock, metrics } = platform;
  const logger = platform.logging.component('approvals');
  const publicUrl = config.public_url ?? null;
  // An approver must see what is approved: longer texts than audit keeps.
  const redactor = createRedactor({ names: config.audit.redact, maxValueBytes: MAX_SHOWN_LENGTH });
  const webhook =
    approvals.webhook === undefined
      ? null
      : new ApprovalWebhook({
          ...{ url: approvals.webhook.url, secret: approvals.webhook.secret, timeoutMs: approvals.webhook.timeout_ms },
          ...{ publicUrl, clock, logger, onOutcome: metrics.approvalWebhook },
        });
  const service = new Approvals({
    store: platform.approvals,
    tokens: new ApprovalTokens(platform.pepper),
    clock,
    logger,
    ttlMs: approvals.ttl_seconds * 1000,
    requireMfa: approvals.require_mfa,
    allowPrograms: approvals.allow_programs,
    allowUnlisted: approvals.allow_unlisted_tools,
    definitionOf: definitions(config),
    maxPending: approvals.max_pending,
    retentionMs: approvals.retention_days * DAY_MS,
    publicUrl,
    everyTenant: EVERY_TENANT,
    aliases: (id) => platform.accounts.identities.aliasesOf(id),
    requireStanding: standing(config, platform),
    isOff: approverOff(config, platform),
    redact: (value, server, tool) => redactor(value, sensitiveParams(config, server, tool)),
    onEvent(event) {
      platform.onApproval(event);
      webhook?.send(event);
    },
  });
  const sweep = setInterval(() => void service.sweep(), SWEEP_MS);
  sweep.unref();
  cleanup.defer(() => clearInterval(sweep));
  return service;
}

/** Past what a gateway remembers of sessions and keys. */
function standing({ identity, accounts }: Config, { accounts: stores, keys, clock }: Platform) {
  const check = standingCheck({
    ...{ sessions: stores.sessions, keys, kindOf: (name) => identity[name]?.kind },
    needsSecondFactor: (role) => accounts.mfa.required_roles.includes(role),
  });
  return (principal: Principal) => check({ principal, received: { receivedAt: clock.now() } });
}

function sensitiveParams({ servers }: Config, server: string | null, tool: string | null): readonly string[] {
  if (server === null || tool === null || !Object.hasOwn(servers, server)) return [];
  const tools = servers[server]?.tools;
  return tools === undefined ? [] : (declaredAlike(tools, tool)?.sensitive_params ?? []);
}

/** One audit record for each step. */
export function approvalDraft({ type, approval, principal, origin }: ApprovalEvent): AuditDraft {
  const agent = origin?.user_agent ?? null;
  return {
    event_type: `approval_${type}`,
    request_id: origin?.request_id ?? null,
    tenant_id: approval.tenant_id,
    user_id: principal?.id ?? null,
    principal_type: principal?.type ?? null,
    auth_provider: principal?.auth.provider ?? null,
    key_id: principal?.auth.key_id ?? null,
    source_ip: origin?.source_ip ?? null,
    user_agent: agent === null ? null : scrubText(agent.slice(0, 256)),
    session_id: principal?.auth.session_id ?? null,
    ...(principal?.actor ? { actor_id: principal.actor.id } : undefined),
    approval_id: approval.id,
    state: approval.state,
    requester_id: approval.requester.id,
    approver_id: approval.decided_by?.id ?? null,
    approver_key_id: approval.decided_by?.key_id ?? null,
    reason: approval.decision_reason,
    action: approval.call.action,
    server_name: approval.call.server,
    tool_name: approval.call.tool,
    tool_type: approval.call.tool_type,
    sensitivity_level: approval.call.sensitivity_level,
    arguments_digest: approval.call.arguments_digest,
    policy_revision: approval.call.policy_revision,
    requested_by_request: approval.context.request_id,
    expires_at: new Date(approval.expires_at).toISOString(),
  };
}

/** One of several decisions in a request that was refused: the end of the request does not speak of it. */
export function refusedDecisionDraft({ received, route, principal }: Admitted, id: string, why: string): AuditDraft {
  return {
    event_type: 'policy_violation',
    request_id: received.id,
    tenant_id: principal.tenant_id,
    user_id: principal.id,
    principal_type: principal.type,
    auth_provider: principal.auth.provider,
    key_id: principal.auth.key_id,
    source_ip: received.peer.address,
    user_agent: scrubText((received.headers['user-agent'] ?? '').slice(0, 256)),
    session_id: principal.auth.session_id,
    ...(principal.actor === null ? undefined : { actor_id: principal.actor.id }),
    route: route.id,
    method: received.method,
    path: received.path,
    action: DECIDE,
    server_name: null,
    tool_name: null,
    policy_name: 'portcullis.approvals',
    violation_reason: why,
    attempted_action: DECIDE,
    resource: `approval:${scrubText(id)}`,
    severity: 'medium',
  };
}

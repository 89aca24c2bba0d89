/** The class of everything that is not a tool call. Source: contracts 2; levels by acceptance S-13. */
import type { Action } from '../core/call.ts';
import type { Finding } from './classifier.ts';
import type { ReasonId } from './reasons.ts';

const finding = (type: Finding['type'], reason: ReasonId, level?: Finding['level']): Finding => ({
  type,
  reason,
  level,
});

const READ = finding('query', 'action:read');
const WRITE = finding('mutation', 'action:write');
const KEYS = finding('mutation', 'action:write', 'high');
const INTEGRATION = finding('integration', 'action:integration');
const ADMIN = finding('admin', 'action:admin');
const UNKNOWN = finding('custom', 'action:unknown');

const TABLE: ReadonlyMap<string, Finding> = new Map([
  ['mcp:protocol', READ],
  ['gateway:prompt:discover', READ],
  ['gateway:prompt:get', READ],
  ['gateway:resource:discover', READ],
  ['gateway:resource:read', READ],
  ['gateway:task:access', READ],
  ['gateway:server:list', READ],
  ['gateway:server:info', READ],
  ['gateway:server:access', READ],
  ['gateway:roots:list', INTEGRATION],
  ['gateway:sampling:create', INTEGRATION],
  ['gateway:elicitation:create', INTEGRATION],
  ['llm:chat:create', INTEGRATION],
  ['llm:responses:create', INTEGRATION],
  ['llm:messages:create', INTEGRATION],
  ['llm:embeddings:create', INTEGRATION],
  ['llm:models:list', READ],
  ['responses:read', READ],
  ['responses:list', READ],
  ['responses:delete', WRITE],
  ['conversations:read', READ],
  ['conversations:create', WRITE],
  ['conversations:write', WRITE],
  ['conversations:delete', WRITE],
  ['a2a:invoke', INTEGRATION],
  ['a2a:delegate', INTEGRATION],
  ['keys:list', READ],
  ['keys:create', KEYS],
  ['keys:revoke', KEYS],
  ['keys:rotate', KEYS],
  ['approvals:decide', KEYS],
]);

/** The finding for an action other than a tool's; `http:get`, `http:head` and `http:options` read, other methods write. */
export function actionFinding(action: Action): Finding {
  const known = TABLE.get(action);
  if (known !== undefined) return known;
  if (action.startsWith('admin:')) return ADMIN;
  if (action.startsWith('http:')) {
    const method = action.slice(5);
    return method === 'get' || method === 'head' || method === 'options' ? READ : WRITE;
  }
  return UNKNOWN;
}

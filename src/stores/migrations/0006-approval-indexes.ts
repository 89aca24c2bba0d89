import type { Migration } from './migration.ts';

/** Closed requests are kept for weeks: looking for what is due and turning pages must not cost more for them. */
export const approvalIndexes: Migration = {
  version: 6,
  name: 'approval-indexes',
  async up({ schema }) {
    const due = (name: string, columns: string[]) =>
      schema.createIndex(name).on('approvals').columns(columns).where('open_key', 'is not', null).execute();
    const pages = (name: string, columns: string[]) =>
      schema.createIndex(name).on('approvals').columns(columns).execute();
    await due('approvals_due', ['expires_at']);
    await due('approvals_due_by_tenant', ['tenant_id', 'expires_at']);
    await pages('approvals_pages', ['tenant_id', 'id']);
    await pages('approvals_pages_by_state', ['tenant_id', 'state', 'id']);
    await pages('approvals_pages_by_requester', ['tenant_id', 'requester_id', 'id']);
  },
};

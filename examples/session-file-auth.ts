/**
 * A provider of your own: sessions in a JSON file, `{ "<session id>": { "user": "…", "organization": "…", "role": "…" } }`.
 * Use it with `identity: { sessions: { kind: custom, module: ./session-file-auth.ts, options: { file: ./sessions.json } } }`.
 */
import { createHash } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import { resolve } from 'node:path';

/** What of the credential is used here. `value` is a secret: it belongs into no log and no error. */
interface Credential {
  readonly kind: string;
  readonly value: string;
}

interface Session {
  readonly user: string;
  readonly organization: string;
  readonly role: string;
}

const ROLES: Readonly<Record<string, string>> = { admin: 'admin', service: 'developer' };

export default class SessionFileAuth {
  readonly #file: string;

  constructor(options: { readonly file?: string }, env: { readonly baseDir: string }) {
    if (typeof options.file !== 'string') throw new Error('options.file is missing');
    this.#file = resolve(env.baseDir, options.file);
  }

  /** A throw is an outage (503). What this provider does not know is the next one's. */
  async authenticate({ kind, value: id }: Credential) {
    if (kind !== 'bearer' || !id.startsWith('sess_')) return { kind: 'not-applicable' };
    const sessions = new Map(Object.entries(JSON.parse(await readFile(this.#file, 'utf8')) as Record<string, Session>));
    const session = sessions.get(createHash('sha256').update(id).digest('hex'));
    if (session === undefined) return { kind: 'rejected', reason: 'invalid' };
    const { user, organization, role } = session;
    return { kind: 'authenticated', principal: { id: user, tenant_id: organization, roles: [ROLES[role] ?? 'user'] } };
  }
}

/** Profiles of a person: addresses and keys in a file of their home directory. Source: acceptance H-16. */

/** Settings of one profile; others in the file are left unread. */
export interface Profile {
  readonly auth_service_url?: string;
  readonly api_key?: string;
  readonly admin_token?: string;
}

const PROFILE_SETTINGS: ReadonlySet<string> = new Set(['auth_service_url', 'api_key', 'admin_token']);

/**
 * One section of `.hokusai/config` in the home directory: `[name]`, then lines `setting = value`. Throws TypeError when the
 * file or the section is not there, or others than its owner may read the file: it holds secrets.
 */
export function readProfile(name: string, home: string): Profile {
  const files = process.getBuiltinModule('node:fs');
  const path = `${home}/.hokusai/config`;
  let text: string;
  try {
    if ((files.statSync(path).mode & 0o077) !== 0) throw new TypeError(`${path}: others may read it; chmod 600 it`);
    text = files.readFileSync(path, 'utf8');
  } catch (error) {
    throw error instanceof TypeError ? error : new TypeError(`${path}: cannot be read`);
  }
  const found = new Map<string, string>();
  let isOurs = false;
  let isThere = false;
  for (const line of text.split(/\r?\n/)) {
    const section = /^\s*\[([^\]]+)\]\s*$/.exec(line)?.[1];
    if (section !== undefined) {
      isOurs = section.trim() === name;
      isThere ||= isOurs;
    }
    const [, setting = '', value = ''] = /^\s*([a-z_]+)\s*=\s*(.*?)\s*$/.exec(line) ?? [];
    if (isOurs && PROFILE_SETTINGS.has(setting) && value !== '') found.set(setting, value);
  }
  if (!isThere) throw new TypeError(`${path}: there is no profile [${name}]`);
  return Object.fromEntries(found);
}

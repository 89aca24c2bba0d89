/** File tools: the words of the name, then where the paths lead. Source: acceptance S-18, SF-05. */
import type { JsonValue } from '../../core/json.ts';
import { isJsonObject } from '../../core/json.ts';
import type { Classifier, ClassifierInput, Finding } from '../classifier.ts';
import type { ReasonId } from '../reasons.ts';
import { wordsOf } from '../words.ts';

const READ_WORDS = new Set(
  (
    'read list get stat stats search find view cat head tail show info exists ls dir glob grep tree directory ' +
    'directories metadata size checksum hash diff compare preview count walk browse access'
  ).split(' '),
);
const WRITE_WORDS = new Set(
  (
    'write delete remove rm move mv rename edit append copy cp chmod chown chgrp mkdir rmdir touch truncate upload put ' +
    'patch update save insert replace link symlink hardlink unlink create add modify set store sync download extract ' +
    'unzip untar unpack zip compress archive overwrite erase wipe shred purge destroy clear empty trash restore import ' +
    'paste push commit apply lock unlock encrypt decrypt rotate drop clean prune'
  ).split(' '),
);
const EXECUTE_WORDS = new Set(
  'execute exec run launch spawn shell mount unmount umount format mkfs chroot sudo'.split(' '),
);

const READ: Finding = { type: 'query', reason: 'file:read' satisfies ReasonId, basis: 'name' };
const WRITE: Finding = { type: 'mutation', reason: 'file:write' satisfies ReasonId, basis: 'name' };
const EXECUTE: Finding = { type: 'admin', reason: 'file:execute' satisfies ReasonId, basis: 'name' };

const pathFinding = (reason: ReasonId, path: string): Finding => ({
  type: 'query',
  level: 'high',
  reason,
  basis: 'raise',
  resources: [path.length > 256 ? path.slice(0, 256) : path],
});

/** First segments of absolute paths that belong to the operating system. */
const SYSTEM_ROOTS = new Set(
  'etc root proc sys dev boot run sbin usr bin lib lib64 private library system windows'.split(' '),
);
/** Segments, whole, below which secrets live. */
const SECRET_SEGMENTS = new Set(
  (
    '.ssh .gnupg .aws .azure .gcloud .kube .docker .netrc .pgpass .npmrc .pypirc .git-credentials .htpasswd .vault-token ' +
    '.bash_history .zsh_history .mysql_history .psql_history .my.cnf .boto .terraform.d .password-store .config ' +
    'shadow passwd gshadow sudoers sudoers.d authorized_keys known_hosts id_rsa id_dsa id_ecdsa id_ed25519 ' +
    'wp-config.php ntuser.dat sam ntds.dit master.key secrets.yml secrets.yaml secrets.json credentials ' +
    'credentials.json kubeconfig docker.sock environ keychains keychain terraform.tfstate'
  ).split(' '),
);
const SECRET_ENDINGS = [
  '.env',
  '.pem',
  '.key',
  '.pfx',
  '.p12',
  '.jks',
  '.keystore',
  '.kdbx',
  '.ppk',
  '.asc',
  '.gpg',
  '.ovpn',
];
/** Parameters that carry what a file holds rather than where it is. */
const CONTENT_KEYS = new Set(
  'content contents filecontent text filetext body data newtext oldtext newstr oldstr newstring oldstring insert patch diff'.split(
    ' ',
  ),
);
const MAX_PATH = 4096;

function nameFinding(tool: string): Finding | null {
  let found: Finding | null = null;
  for (const word of wordsOf(tool)) {
    if (EXECUTE_WORDS.has(word)) return EXECUTE;
    if (WRITE_WORDS.has(word)) found = WRITE;
    else if (found === null && READ_WORDS.has(word)) found = READ;
  }
  return found;
}

/** Undoes what hides a path: compatibility forms, percent-encoding (thrice), back-slashes, a file: scheme. */
function normalise(text: string): string {
  let path = text.normalize('NFKC');
  for (let round = 0; round < 3 && path.includes('%'); round++) {
    path = path.replace(/%([0-9a-f]{2})/gi, (_, hex: string) => String.fromCharCode(Number.parseInt(hex, 16)));
  }
  path = path.replaceAll('\\', '/').toLowerCase().trim();
  return path.startsWith('file:') ? path.slice(5) : path;
}

/** Without dots and spaces at the end. A loop: an expression would look for the end from each of them. */
function withoutEnd(name: string): string {
  let end = name.length;
  while (end > 0 && (name.charCodeAt(end - 1) === 46 || name.charCodeAt(end - 1) === 32)) end--;
  return name.slice(0, end);
}

/** What stands before the first `;` or space. */
function beforeParameters(segment: string): string {
  const end = segment.search(/[; ]/);
  return end < 0 ? segment : segment.slice(0, end);
}

function isSecretSegment(segment: string): boolean {
  // An NTFS stream, a trailing dot or space leads to the same file.
  const name = withoutEnd(segment.replace(/::?\$?\w*$/, ''));
  if (SECRET_SEGMENTS.has(name) || name === '.env' || name.startsWith('.env.')) return true;
  for (const ending of SECRET_ENDINGS) if (name.endsWith(ending)) return true;
  if (!/[*?[{]/.test(name)) return false;
  // A pattern may spell a secret's name without writing it.
  return name.startsWith('.') || /(?:ssh|pass|shad|id_|env|cred|aws|kube|key|pem)/.test(name);
}

function isOdd(path: string): boolean {
  for (let i = 0; i < path.length; i++) if (path.charCodeAt(i) < 32) return true;
  return /^~|\$[({\w]|`|^\/\/[^/]/.test(path);
}

/** Where one text leads, or null when it is nothing special. */
function examine(text: string): Finding | null {
  if (text.length > MAX_PATH) return text.includes('/') || text.includes('\\') ? longPath(text) : null;
  const path = normalise(text);
  const segments = path.split('/').filter((segment) => segment !== '' && segment !== '.');
  for (const segment of segments) if (isSecretSegment(segment)) return pathFinding('file:secret-path', text);
  const parts = segments.map(beforeParameters);
  if (parts.includes('..') || parts.includes('...')) return pathFinding('file:traversal', text);
  if (isOdd(path)) return pathFinding('file:traversal', text);
  const drive = /^[a-z]:$/.test(segments[0] ?? '');
  const root = drive ? segments[1] : segments[0];
  if ((path.startsWith('/') || drive) && root !== undefined && SYSTEM_ROOTS.has(root))
    return pathFinding('file:system-path', text);
  return path === '/' ? pathFinding('file:system-path', text) : null;
}

/** A long text is content more often than a path: only its beginning can be one. */
function longPath(text: string): Finding | null {
  return examine(text.slice(0, MAX_PATH));
}

/** Every text and key that may be a path; false when there are too many to look at. */
function collectPaths(value: JsonValue, into: string[], depth: number): boolean {
  if (typeof value === 'string') into.push(value);
  else if (typeof value === 'object' && value !== null) {
    if (depth > 64 || into.length > 10_000) return false;
    if (!isJsonObject(value)) return value.every((item) => collectPaths(item, into, depth + 1));
    for (const key in value) {
      const item = value[key];
      // What is written into a file is no path, whatever it mentions; unless it is more than one text.
      if (typeof item === 'string' && CONTENT_KEYS.has(wordsOf(key).join(''))) continue;
      into.push(key);
      if (item !== undefined && !collectPaths(item, into, depth + 1)) return false;
    }
  }
  return true;
}

function classify(input: ClassifierInput): readonly Finding[] {
  const found: Finding[] = [];
  const byName = nameFinding(input.tool);
  if (byName !== null) found.push(byName);
  if (input.parameters === null) return found;
  const paths: string[] = [];
  if (!collectPaths(input.parameters, paths, 0)) found.push(pathFinding('file:traversal', ''));
  for (const text of paths) {
    const path = examine(text);
    if (path !== null) found.push(path);
  }
  return found;
}

/** The classifier of type `file`. */
export const fileClassifier: Classifier = { serverType: 'file', classify };

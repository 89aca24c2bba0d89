/**
 * What counts as a secret by its name or by its look. Used wherever text leaves the process: log lines, audit lines,
 * printed configuration. Source: acceptance SF-66 and X-07.
 */

export const REDACTED = '[redacted]';

/** Parts of names, compared without case and punctuation: `apiKey`, `API-KEY` and `x_api_key` are all `apikey`. */
const SENSITIVE_PARTS = [
  'password',
  'passwd',
  'passphrase',
  'secret',
  'token',
  'apikey',
  'authorization',
  'credential',
  'privatekey',
  'accesskey',
  'signingkey',
  'encryptionkey',
  'cookie',
  'pepper',
  'clientassertion',
];
const SENSITIVE_WHOLE = new Set(['pwd', 'pass', 'pin', 'otp', 'totp', 'cvv', 'cvc', 'ssn', 'auth', 'jwt', 'bearer']);
/** Names that contain a part above and are figures or labels, not secrets. */
const HARMLESS = new Set([
  'maxtokens',
  'maxoutputtokens',
  'maxcompletiontokens',
  'tokencount',
  'tokentype',
  'tokenslimit',
  'tokenlimit',
  'prompttokens',
  'completiontokens',
  'totaltokens',
  'inputtokens',
  'outputtokens',
  'tokenid',
  'apikeyid',
  'credentialkind',
  'credentialsource',
  'credentialid',
]);

/** The form in which names are compared. */
export function comparableName(name: string): string {
  return name.toLowerCase().replace(/[^a-z0-9]/g, '');
}

const seen = new Map<string, boolean>();

function judgeName(name: string): boolean {
  const plain = comparableName(name);
  if (HARMLESS.has(plain)) return false;
  return SENSITIVE_WHOLE.has(plain) || SENSITIVE_PARTS.some((part) => plain.includes(part));
}

/** True when a value under this name must not be written. Answers are kept for up to 2048 short names. */
export function isSensitiveName(name: string): boolean {
  const known = seen.get(name);
  if (known !== undefined) return known;
  const answer = judgeName(name);
  if (name.length <= 64 && seen.size < 2048) seen.set(name, answer);
  return answer;
}

/**
 * Each alternative is anchored by its first characters and by what stands before it, so that no input makes the scan
 * more than linear. Cut-off secrets (a key without its end) match as well.
 */
const LOOKS_SECRET = new RegExp(
  [
    '(?<![A-Za-z0-9])(?:[Bb]earer|BEARER|[Bb]asic|BASIC|ApiKey|Negotiate) +[A-Za-z0-9._~+/=-]{8,}',
    '(?<![\\w-])eyJ[\\w-]{8,}(?:\\.[\\w-]*){0,4}',
    '(?<![\\w-])(?:pc|vllm|hok|sark)_(?:live|test|dev|gw)_\\w{12,}',
    // Keys of this product under a prefix of the deployment's own.
    '(?<![\\w-])[a-z][a-z0-9_]{0,40}_(?:live|test|dev)_\\w{29,}',
    '(?<![\\w-])(?:sk|rk)[-_][\\w-]{16,}',
    '(?<![\\w-])(?:gh[pousr]_|github_pat_|glpat-|xox[abeprs]-|hf_|npm_|AIza)[\\w-]{16,}',
    '(?<![\\w-])(?:AKIA|ASIA)[0-9A-Z]{16}',
    '-----BEGIN [A-Z0-9 ]*PRIVATE KEY-----[^]*?(?:-----END [A-Z0-9 ]*-----|$)',
    '(?<=:\\/\\/)[^\\s\\/@:"]*:[^\\s\\/@"]+(?=@)',
  ].join('|'),
  'g',
);

/** Characters one of which is in every secret above: most texts are let through by this one scan. */
const HINT = /[Bb]earer|BEARER|[Bb]asic|BASIC|ApiKey|Negotiate|eyJ|_|sk-|rk-|pat-|xox|AIza|AKIA|ASIA|-----BEGIN|:\/\//;

/** Values of query parameters whose names say that they are secret. What stands before each is bounded, so it is linear. */
const NAMED_SECRET = new RegExp(
  '(?<=[?&](?:[\\w.%-]{0,40}(?:token|secret|passw|passphrase|api[_-]?key|access[_-]?key|private[_-]?key|credential' +
    '|signature|authorization|cookie|assertion)[\\w.%-]{0,40}|key|sig|pwd|pass|pin|otp|jwt|auth)=)[^&\\s#"\'\\\\<>]+',
  'gi',
);
const PARAMETER = /[?&][\w.%-]+=/;

/** The text without anything that looks like a key, token, private key, password in a URL or secret query parameter. */
export function scrubText(text: string): string {
  if (text.length < 8) return text;
  const clean = HINT.test(text) ? text.replace(LOOKS_SECRET, REDACTED) : text;
  return PARAMETER.test(clean) ? clean.replace(NAMED_SECRET, REDACTED) : clean;
}

/** Writes docs/errors.md from the catalogue: `node tools/errors-doc.ts`. `test/errors.test.ts` compares the two. */
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { CATALOGUE, FAMILIES, OTHER_NAMES } from '../src/core/errors.ts';

const link = (code: string) => `[${code}](#${code})`;
const FAMILY_WORDS = Object.entries(FAMILIES)
  .map(([letters, about]) => `\`${letters}\` ${about}`)
  .join(', ');
const OTHERS = Object.entries(OTHER_NAMES)
  .map(([name, codes]) => `* \`${name}\`: ${codes.map(link).join(', ')}`)
  .join('\n');

const HEAD = `# Errors

Every error of the gateway has one of these codes. Outside MCP and LLM routes it is told as \`application/problem+json\`
(RFC 9457) with \`error.code\`, \`error.message\`, \`error.details\` and \`request_id\`; LLM routes use the OpenAI shape; MCP
routes use JSON-RPC errors (a denial is HTTP 200 with code -31403, -31410, -31429 or -31503 and \`data.code\`). The flag is
what log lines, metrics and audit events show. A number keeps its meaning for good, and its letters say where to look:
${FAMILY_WORDS}. "Retry" says whether the
same request can succeed later without a change. Outside MCP an answer also has
\`Link: </api/v1/errors/CODE>; rel="help"\`: what this table says of the code, as JSON and without a credential. What to
do about the usual ones: [operations](operations.md#when-something-is-refused).

Names and words of other systems (\`/api/v1/errors/NAME\` knows the names too):

${OTHERS}
* "Invalid token": [INVALID_CREDENTIALS](#INVALID_CREDENTIALS), [TOKEN_EXPIRED](#TOKEN_EXPIRED)
* "Permission denied": [FORBIDDEN](#FORBIDDEN), [POLICY_DENIED](#POLICY_DENIED)
* "Rate limit exceeded": [RATE_LIMIT_EXCEEDED](#RATE_LIMIT_EXCEEDED)
* a connection error of the database: [STORE_UNAVAILABLE](#STORE_UNAVAILABLE), [AUTH_UNAVAILABLE](#AUTH_UNAVAILABLE)

| Code | Number | Status | Flag | Retry | Text |
|---|---|---|---|---|---|
`;

/** The document as it should be. */
export function errorsDocument(): string {
  const rows = Object.entries(CATALOGUE).map(
    ([code, { number, status, flag, retryable, title }]) =>
      `| <a id="${code}"></a>\`${code}\` | ${number} | ${status} | ${flag} | ${retryable ? 'yes' : 'no'} | ${title} |`,
  );
  return `${HEAD}${rows.join('\n')}\n`;
}

if (import.meta.main) writeFileSync(join(import.meta.dirname, '../docs/errors.md'), errorsDocument());

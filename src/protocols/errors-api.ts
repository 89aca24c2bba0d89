/** `GET /api/v1/errors/{code}`: what an error means, where the answer that held it points with `Link: …; rel="help"`. Source: acceptance V-36. */
import { CATALOGUE, type ErrorCode, GatewayError, isErrorCode, OTHER_NAMES } from '../core/errors.ts';
import type { Endpoint } from './endpoint.ts';

/** Before the code, in links. Both listeners of callers serve it. */
export const ERRORS_PATH = '/api/v1/errors/';

/** For callers of any kind: it says nothing that the documentation does not. */
export function errorEndpoints(): readonly Endpoint[] {
  return [
    {
      method: 'GET',
      path: `${ERRORS_PATH}{code}`,
      access: 'anyone',
      body: null,
      answer({ params }) {
        const code = params.code ?? '';
        if (isOtherName(code)) return { status: 200, body: { name: code, codes: OTHER_NAMES[code] } };
        if (!isErrorCode(code)) throw new GatewayError('NOT_FOUND');
        const { number, status, title, retryable } = CATALOGUE[code];
        return {
          status: 200,
          body: { code, number, status, title, retryable, documentation: `docs/errors.md#${code}` },
        };
      },
    },
  ];
}

function isOtherName(name: string): name is keyof typeof OTHER_NAMES {
  return Object.hasOwn(OTHER_NAMES, name);
}

/** Value of `Link` for an answer that holds this error (RFC 8288). */
export function helpLink(code: ErrorCode): string {
  return `<${ERRORS_PATH}${code}>; rel="help"`;
}

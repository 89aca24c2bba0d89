/** Plain HTTP calls on a gateway, with the answer read to its end. */

export interface Answer {
  readonly status: number;
  readonly headers: Headers;
  readonly text: string;
  /** The body as JSON; undefined when it is none. */
  readonly body: unknown;
  readonly requestId: string;
}

/** `key`: an API key, or the token of somebody who logged in. */
export async function call(url: string, init: RequestInit & { key?: string; json?: unknown } = {}): Promise<Answer> {
  const { key, json, ...rest } = init;
  const headers = new Headers(rest.headers);
  if (key?.startsWith('eyJ')) headers.set('authorization', `Bearer ${key}`);
  else if (key !== undefined) headers.set('x-api-key', key);
  if (json !== undefined) headers.set('content-type', 'application/json');
  const body = json === undefined ? {} : { body: JSON.stringify(json), method: 'POST' };
  const response = await fetch(url, { ...body, ...rest, headers });
  const text = await response.text();
  const requestId = response.headers.get('x-request-id') ?? '';
  return { status: response.status, headers: response.headers, text, body: parsed(text), requestId };
}

function parsed(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

/** One tool call over plain JSON. */
export function invoke(gateway: string, key: string, query: string): Promise<Answer> {
  const json = { server_name: 'orders', tool_name: 'execute_query', parameters: { query } };
  return call(`${gateway}/tools/invoke`, { key, json });
}

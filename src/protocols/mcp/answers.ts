/** JSON-RPC messages the gateway writes itself. */
import type { JsonValue } from '../../core/json.ts';
import type { RpcId } from './envelope.ts';

/** Text of an error answer. `id: null` only when the request's id could not be read. */
export function errorText(
  id: JsonValue,
  code: number,
  message: string,
  data?: Readonly<Record<string, unknown>>,
): string {
  return JSON.stringify({
    jsonrpc: '2.0',
    id,
    error: data === undefined ? { code, message } : { code, message, data },
  });
}

/** Text of a successful answer. */
export function resultText(id: RpcId, result: Readonly<Record<string, unknown>>): string {
  return JSON.stringify({ jsonrpc: '2.0', id, result });
}

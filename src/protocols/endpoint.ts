/** What the gateway answers itself on the data listener, one endpoint each, under the same pipeline as everything else. */
import type { z } from 'zod';
import type { Call } from '../core/call.ts';
import type { ErrorCode } from '../core/errors.ts';
import type { Admitted, Permitted } from '../core/exchange.ts';
import type { PermissionRule } from '../core/route.ts';

/** A request to an endpoint, read and checked. */
export interface EndpointRequest<Body> {
  readonly exchange: Admitted;
  /** Segments that `{name}` of the path stood for, decoded. */
  readonly params: Readonly<Record<string, string>>;
  readonly query: URLSearchParams;
  readonly body: Body;
}

/** `body` is sent as JSON, `text` as it is; without either nothing is sent. */
export interface EndpointReply {
  readonly status: number;
  readonly body?: unknown;
  /** Its type stands in `headers`. */
  readonly text?: string;
  readonly headers?: Readonly<Record<string, string>>;
  /** Lines of `Set-Cookie`, where one header cannot hold them. */
  readonly cookies?: readonly string[];
}

/** How a body is read. An empty one counts as `{}`: the schema says what is missing. */
export interface EndpointBody<Body> {
  readonly schema: z.ZodType<Body>;
  /**
   * `form` takes application/x-www-form-urlencoded instead of JSON, each field at most once; `either` takes both. `bytes`
   * takes anything as it is: the schema sees a Buffer.
   */
  readonly encoding?: 'json' | 'form' | 'either' | 'bytes';
  /** Bytes; more is 413. The route's own limit holds besides. Default 64 KiB. */
  readonly limit?: number;
  /** The error for a body that does not fit the schema. Default UNPROCESSABLE (422). */
  readonly misfit?: 'INVALID_REQUEST' | 'UNPROCESSABLE';
}

export interface Endpoint<Body = unknown> {
  readonly method: 'GET' | 'POST' | 'PUT' | 'PATCH' | 'DELETE';
  /** From the root of the data listener; `{name}` stands for one segment, e.g. `/approvals/{id}/approve`. */
  readonly path: string;
  /**
   * `anyone`: also without a credential (login, public keys). `authenticated`: any principal. A rule: the policy decides
   * on `http:<method>` with these permissions, as on any plain HTTP route.
   */
  readonly access: 'anyone' | 'authenticated' | PermissionRule;
  /** The operator turned it off: what whoever has a credential is told, whatever it sends. Absent: it answers. */
  readonly off?: ErrorCode;
  /** Null: no body is read. */
  readonly body: EndpointBody<Body> | null;
  /** What the policy is asked instead of `http:<method>`, e.g. `approvals:decide` on one approval. */
  call?(request: EndpointRequest<Body>): Call | Promise<Call>;
  /** Runs once permitted. Throws a GatewayError for an expected end that is not good. */
  answer(request: EndpointRequest<Body>, permitted: Permitted): EndpointReply | Promise<EndpointReply>;
}

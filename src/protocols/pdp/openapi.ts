/** The OpenAPI 3.1 document of the decision API and the AuthZEN endpoints, made from the schemas that check the requests. */
import { z } from 'zod';
import {
  evaluation,
  evaluationResult,
  evaluationsRequest,
  evaluationsResponse,
  metadataDocument,
} from './authzen-schemas.ts';
import * as gateway from './schemas.ts';

/** Everything the document names, by its name there. */
const SCHEMAS: Readonly<Record<string, z.ZodType>> = {
  AuthorizeRequest: gateway.authorizeRequest,
  DecisionDocument: gateway.decisionDocument,
  AuthorizeA2aRequest: gateway.authorizeA2aRequest,
  A2aDecisionDocument: gateway.a2aDecisionDocument,
  AuditRequest: gateway.auditRequest,
  AuditReceipt: gateway.auditReceipt,
  ServerList: gateway.serverList,
  ToolList: gateway.toolList,
  Evaluation: evaluation,
  EvaluationResult: evaluationResult,
  EvaluationsRequest: evaluationsRequest,
  EvaluationsResponse: evaluationsResponse,
  AuthZenConfiguration: metadataDocument,
  Version: gateway.versionDocument,
  Problem: gateway.problemDocument,
};

const USER_QUERY = [
  query('user_id', 'somebody other than the caller; needs a permission'),
  query('roles', 'roles of that user, separated by commas; without it, those of the user’s API keys'),
];

/** The same object each time it is asked for the same version. */
export function openApiDocument(version: string): object {
  return {
    openapi: '3.1.0',
    info: {
      title: 'Portcullis decision API',
      version,
      description: 'Ask what the policy says about a call that is enforced elsewhere.',
      license: { name: 'Apache-2.0', identifier: 'Apache-2.0' },
    },
    security: [{ apiKey: [] }, { bearer: [] }],
    paths: paths(),
    components: {
      schemas: componentSchemas(),
      securitySchemes: {
        apiKey: { type: 'apiKey', in: 'header', name: 'X-API-Key' },
        bearer: { type: 'http', scheme: 'bearer' },
      },
    },
  };
}

function paths(): Record<string, object> {
  return {
    '/api/v1/gateway/authorize': {
      post: operation('authorize', 'Decide on a call', { body: 'AuthorizeRequest', answer: 'DecisionDocument' }),
    },
    '/api/v1/gateway/authorize-a2a': {
      post: operation('authorizeA2a', 'Decide on a call between agents or the handing on of rights', {
        body: 'AuthorizeA2aRequest',
        answer: 'A2aDecisionDocument',
      }),
    },
    '/api/v1/gateway/servers': {
      get: operation('listServers', 'Servers somebody may see', {
        answer: 'ServerList',
        parameters: [...USER_QUERY, query('include_tools', 'true: with their tools')],
      }),
    },
    '/api/v1/gateway/tools': {
      get: operation('listTools', 'Tools somebody may see', {
        answer: 'ToolList',
        parameters: [
          ...USER_QUERY,
          query('server_name', 'of this server only'),
          query('tool_name', 'this tool only; 404 where there is none of that name'),
        ],
      }),
    },
    '/api/v1/gateway/audit': {
      post: operation('reportEvent', 'Report what was done elsewhere', {
        body: 'AuditRequest',
        answer: 'AuditReceipt',
        status: '201',
      }),
    },
    '/api/v1/version': { get: operation('version', 'Which version answers', { answer: 'Version' }) },
    '/access/v1/evaluation': {
      post: operation('evaluate', 'AuthZEN access evaluation', { body: 'Evaluation', answer: 'EvaluationResult' }),
    },
    '/access/v1/evaluations': {
      post: operation('evaluateAll', 'AuthZEN access evaluations, at most 100', {
        body: 'EvaluationsRequest',
        answer: 'EvaluationsResponse',
      }),
    },
    '/.well-known/authzen-configuration': {
      get: operation('authZenConfiguration', 'AuthZEN metadata', { answer: 'AuthZenConfiguration', isOpen: true }),
    },
  };
}

interface OperationParts {
  readonly body?: string;
  readonly answer: string;
  readonly status?: string;
  readonly parameters?: readonly object[];
  readonly isOpen?: boolean;
}

function operation(operationId: string, summary: string, parts: OperationParts): object {
  const { body, answer, status = '200', parameters, isOpen = false } = parts;
  const problem = { description: 'Refused', content: { 'application/problem+json': { schema: ref('Problem') } } };
  const codes = ['400', '401', '403', '404', ...(body === undefined ? [] : ['413', '415']), '429', '500', '503'];
  return {
    operationId,
    summary,
    ...(isOpen ? { security: [] } : {}),
    ...(parameters === undefined ? {} : { parameters }),
    ...(body === undefined ? {} : { requestBody: { required: true, content: json(body) } }),
    responses: {
      [status]: { description: 'The answer', content: json(answer) },
      ...(isOpen ? {} : Object.fromEntries(codes.map((code) => [code, problem]))),
    },
  };
}

const ref = (name: string) => ({ $ref: `#/components/schemas/${name}` });
const json = (name: string) => ({ 'application/json': { schema: ref(name) } });

function query(name: string, description: string): object {
  return { name, in: 'query', required: false, description, schema: { type: 'string' } };
}

/** The named schemas, and those they share, as components that refer to each other. */
function componentSchemas(): Record<string, object> {
  const components: Record<string, object> = {};
  for (const [name, schema] of Object.entries(SCHEMAS)) {
    const made = z.toJSONSchema(schema, { io: 'input', target: 'draft-2020-12' });
    const {
      $defs = {},
      $schema: _dialect,
      id: _id,
      ...own
    } = made as Record<string, unknown> & {
      $defs?: Record<string, Record<string, unknown>>;
    };
    for (const [shared, { id: _same, ...definition }] of Object.entries($defs)) {
      components[componentName(name, shared)] = relocated(definition, name) as object;
    }
    // A schema with a name of its own is among its own definitions.
    components[name] ??= relocated(own, name) as object;
  }
  return Object.fromEntries(Object.entries(components).sort(([a], [b]) => (a < b ? -1 : 1)));
}

/** Names the generator makes up are its own for each schema. */
const componentName = (of: string, shared: string): string => (shared.startsWith('__') ? `${of}${shared}` : shared);

/** References that meant the schema's own definitions mean components. */
function relocated(value: unknown, of: string): unknown {
  if (Array.isArray(value)) return value.map((item) => relocated(item, of));
  if (typeof value !== 'object' || value === null) return value;
  const entries = Object.entries(value).map(([key, item]): [string, unknown] => {
    if (key !== '$ref' || typeof item !== 'string') return [key, relocated(item, of)];
    if (item === '#') return [key, `#/components/schemas/${of}`];
    return [key, `#/components/schemas/${componentName(of, item.replace('#/$defs/', ''))}`];
  });
  return Object.fromEntries(entries);
}

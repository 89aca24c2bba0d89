/** `GET /api/v1/version` and the published description of the API. Source: acceptance SW-08, design 2.8. */
import type { Endpoint } from './endpoint.ts';
import { openApiDocument } from './pdp/openapi.ts';

export interface VersionFacts {
  /** Of the package. */
  readonly version: string;
  /** What this gateway can be asked for, by name. */
  readonly features: Readonly<Record<string, boolean>>;
}

/** Which product and which version of its API answers here, and what can be asked of it. */
export function versionEndpoints({ version, features }: VersionFacts): readonly Endpoint[] {
  let described: object | null = null;
  return [
    {
      method: 'GET',
      path: '/api/v1/version',
      access: 'authenticated',
      body: null,
      answer: () => ({ status: 200, body: { name: 'portcullis', version, api_version: '1', features } }),
    },
    {
      method: 'GET',
      path: '/api/v1/openapi.json',
      access: 'anyone',
      body: null,
      answer() {
        described ??= openApiDocument(version);
        return { status: 200, body: described };
      },
    },
  ];
}

/** `GET /api/v1/version`. Source: acceptance SW-08, design 2.8. */
import type { Endpoint } from './endpoint.ts';

export interface VersionFacts {
  /** Of the package. */
  readonly version: string;
}

/** Which product and which version of its API answers here. */
export function versionEndpoints(facts: VersionFacts): readonly Endpoint[] {
  return [
    {
      method: 'GET',
      path: '/api/v1/version',
      access: 'authenticated',
      body: null,
      answer: () => ({ status: 200, body: { name: 'portcullis', version: facts.version, api_version: '1' } }),
    },
  ];
}

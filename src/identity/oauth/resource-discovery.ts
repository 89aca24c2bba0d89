/** What a protected resource says of itself to a client that knows nothing but its address. Source: RFC 9728 3. */
import { fetchDocument, isFetchable } from '../key-fetch.ts';
import { readJsonObject } from '../strict-json.ts';
import { LoginFault } from './native-client.ts';
import { metadataUrl } from './resource.ts';

export interface FoundResource {
  /** As tokens must name it. */
  readonly resource: string;
  /** Never empty. */
  readonly issuers: readonly string[];
  readonly scopes: readonly string[];
}

const isTexts = (value: unknown): value is string[] =>
  Array.isArray(value) && value.every((one) => typeof one === 'string');

/** Throws LoginFault when there is no such document, or it is one of another resource. */
export async function discoverResource(url: string): Promise<FoundResource> {
  if (!isFetchable(url)) throw new LoginFault('the gateway must be an https address, or http on this machine');
  const bytes = await fetchDocument(metadataUrl(url, '')).catch((error: unknown) => {
    if (!(error instanceof Error) || !error.message.startsWith('answered')) {
      throw new LoginFault(`no gateway answers at ${url}`, true);
    }
    throw new LoginFault(`${url} does not say where to log in (it ${error.message}): name --issuer`);
  });
  const document = readJsonObject(bytes);
  const { resource, authorization_servers: issuers, scopes_supported: scopes = [] } = document ?? {};
  if (typeof resource !== 'string' || !isTexts(issuers) || !isTexts(scopes) || issuers.length === 0) {
    throw new LoginFault(`what ${url} says of itself cannot be read`);
  }
  // RFC 9728 3.3: or tokens for one server could be asked for in the name of another.
  if (resource !== url) throw new LoginFault(`${url} calls itself by another name: use the address of its public_url`);
  if (!issuers.every(isFetchable)) throw new LoginFault(`${url} names an issuer that may not be asked`);
  return { resource, issuers, scopes };
}

/** Old names of settings of accounts. Source: acceptance V-33, V-40. */
import { isJsonObject } from '../core/json.ts';
import { type Alias, AliasError, type Draft, dataAddress, hostPart, port } from './alias-draft.ts';

const hasAccounts = (draft: Draft): boolean => draft.get(['accounts', 'enabled']) === true;

/** For the gateway's own tokens where it keeps accounts, else for those of the one jwt provider. */
export const setToken =
  (account: (value: string, draft: Draft) => void, other: Alias['apply']): Alias['apply'] =>
  (value, draft) =>
    hasAccounts(draft) ? account(value, draft) : other(value, draft);

/** Who gives a secret wants HS256, unless the file or JWT_ALGORITHM says otherwise. */
export function setTokenSecret(value: string, draft: Draft): void {
  if (draft.get(['accounts', 'tokens', 'algorithm']) === undefined)
    draft.set(['accounts', 'tokens', 'algorithm'], 'HS256');
  draft.set(['accounts', 'tokens', 'secret'], value);
}

/** A life of tokens in another unit; without accounts there is nothing it could be the life of. */
export const setLife =
  (option: string, seconds: number): Alias['apply'] =>
  (value, draft) => {
    if (!hasAccounts(draft)) throw new AliasError('there are no accounts: set accounts.enabled in the file');
    const life = Number(value) * seconds;
    if (!/^\d{1,5}(\.\d{1,3})?$/.test(value) || !Number.isInteger(life)) throw new AliasError('expected a number');
    draft.set(['accounts', 'tokens', option], life);
  };

/** Of a server that a URL names without one: the old system told them apart. */
export const setPassword =
  (path: readonly string[], schemes: RegExp): Alias['apply'] =>
  (value, draft) => {
    const given = draft.get(path);
    const url = typeof given === 'string' && schemes.test(given) ? URL.parse(given) : null;
    if (url === null) throw new AliasError(`${path.join('.')} names no server that this could be the password of`);
    if (url.password !== '' && decodeURIComponent(url.password) !== value) {
      throw new AliasError(`${path.join('.')} has another password in its URL`);
    }
    url.password = encodeURIComponent(value);
    draft.set(path, url.href);
  };

/** One more listener, on the host of the data listener unless the file names one. */
export function setAuthPort(value: string, draft: Draft): void {
  const given = draft.get(['listen', 'auth']);
  const address = isJsonObject(given) ? given.address : given;
  const host = hostPart(typeof address === 'string' ? address : dataAddress(draft).address);
  draft.set(isJsonObject(given) ? ['listen', 'auth', 'address'] : ['listen', 'auth'], `${host}:${port(value)}`);
}

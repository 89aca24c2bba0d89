/**
 * A login on another device: this one shows a code and asks, at the pace it is told, whether somebody has entered it.
 * Source: RFC 8628.
 */
import type { Configuration } from 'openid-client';
import { genericGrantRequest, initiateDeviceAuthorization, ResponseBodyError } from 'openid-client';
import type { Clock } from '../../core/clock.ts';
import { isFetchable } from '../key-fetch.ts';
import { DEVICE_GRANT, faultOf, type GrantedTokens, LoginFault, type LoginWish, tokensOf } from './native-client.ts';

/** What the person needs to see. */
export interface DeviceLogin {
  readonly userCode: string;
  readonly verificationUri: string;
  /** The same with the code in it, where the server offers that. */
  readonly completeUri: string | null;
  readonly expiresInSeconds: number;
  /**
   * Asks until there is an answer. Throws LoginFault; rejects with what `wait` rejects with.
   * @param wait resolves after so many milliseconds
   */
  finish(wait: (ms: number) => Promise<unknown>): Promise<GrantedTokens>;
}

/** RFC 8628 3.2 and 3.5: seconds between two questions when nothing is said, and by how much `slow_down` widens them. */
const INTERVAL_SECONDS = 5;
const SLOWER_SECONDS = 5;
/** Seconds between two questions at most: a server that is away is asked less and less. */
const LONGEST_SECONDS = 60;

/** Throws LoginFault. */
export async function beginDeviceLogin(
  configuration: Configuration,
  { scope, resource }: LoginWish,
  clock: Clock,
): Promise<DeviceLogin> {
  if (configuration.serverMetadata().device_authorization_endpoint === undefined) {
    throw new LoginFault('the issuer knows no login on another device');
  }
  const forResource: Record<string, string> = resource === null ? {} : { resource };
  const begun = await initiateDeviceAuthorization(configuration, { scope, ...forResource }).catch((error: unknown) => {
    throw faultOf(error);
  });
  const { verification_uri, verification_uri_complete, user_code, device_code, expires_in, interval } = begun;
  for (const address of [verification_uri, verification_uri_complete ?? verification_uri]) {
    if (!isFetchable(address)) throw new LoginFault('the issuer names an address for the code that may not be opened');
  }
  const until = clock.now() + expires_in * 1000;
  return {
    userCode: user_code,
    verificationUri: verification_uri,
    completeUri: verification_uri_complete ?? null,
    expiresInSeconds: expires_in,
    async finish(wait) {
      let seconds = interval ?? INTERVAL_SECONDS;
      for (;;) {
        await wait(seconds * 1000);
        if (clock.now() >= until) throw new LoginFault('the code has expired: begin again');
        const answer = await ask(configuration, { device_code, ...forResource }, clock);
        if (typeof answer === 'object') return answer;
        if (answer === 'slower') seconds += SLOWER_SECONDS;
        if (answer === 'away') seconds = Math.min(LONGEST_SECONDS, Math.max(seconds, 1) * 2);
      }
    },
  };
}

/** Throws LoginFault for an answer that ends the login. */
async function ask(
  configuration: Configuration,
  parameters: Record<string, string>,
  clock: Clock,
): Promise<GrantedTokens | 'pending' | 'slower' | 'away'> {
  try {
    const tokens = await genericGrantRequest(configuration, DEVICE_GRANT, parameters);
    return tokensOf(tokens, configuration.clientMetadata().client_id, clock.now());
  } catch (error) {
    if (error instanceof ResponseBodyError) {
      if (error.error === 'authorization_pending') return 'pending';
      if (error.error === 'slow_down') return 'slower';
      if (error.error === 'expired_token') throw new LoginFault('the code has expired: begin again');
    }
    const fault = faultOf(error);
    if (fault.isOutage) return 'away';
    throw fault;
  }
}

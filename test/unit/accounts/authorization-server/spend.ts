/** A process of its own that redeems every code it is told of, as soon as it is told to: `node spend.ts DATABASE CODE…`. */
import { Entries } from '../../../../src/accounts/authorization-server/adapter.ts';
import { systemClock } from '../../../../src/core/clock.ts';
import { Secret } from '../../../../src/core/secret.ts';
import { Seal } from '../../../../src/identity/oauth/seal.ts';
import { openDatabase } from '../../../../src/stores/database.ts';
import { createOAuthEntryStore } from '../../../../src/stores/oauth-entries.ts';

const [where = '', ...codes] = process.argv.slice(2);
await using database = await openDatabase(`sqlite:${where}`, { baseDir: '/' });
const entries = new Entries({
  ...{ store: createOAuthEntryStore(database), seal: new Seal(new Secret('p'.repeat(43)), 'oauth'), graceMs: 0 },
  ...{
    clock: systemClock,
    clients: { max: 1, unusedMs: 1 },
    onGrantEnd: async () => {},
    full: () => new Error('full'),
  },
  origin: () => ({ request_id: null, source_ip: '', user_agent: null, now: systemClock.now() }),
});
const { consume } = entries.adapter('AuthorizationCode');
console.log('ready');
for await (const _line of process.stdin) break;
const outcomes = await Promise.allSettled(codes.map((code) => consume(code)));
console.log(JSON.stringify(codes.filter((_code, at) => outcomes[at]?.status === 'fulfilled')));

import { join } from 'node:path';
import { afterAll } from 'vitest';
import { accountIdentitiesContract } from '../../contract/account-identities.ts';
import { temporaryDirectory } from '../../helpers/processes.ts';

const directory = temporaryDirectory();
afterAll(() => directory[Symbol.dispose]());
let count = 0;

accountIdentitiesContract('SQLite', async () => `sqlite:${join(directory.path, `${count++}.db`)}`);

import { LOOKS } from '../look-alikes.ts';
import type { Migration } from './migration.ts';

/** Whether somebody is called almost like a new account is asked at each registration. */
export const lookAlikes: Migration = {
  version: 11,
  name: 'look-alikes',
  async up({ schema }) {
    await schema.createIndex('accounts_looks').on('accounts').expression(LOOKS).execute();
  },
};

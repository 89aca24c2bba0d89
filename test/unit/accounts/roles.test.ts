/** The permissions of roles, as documented: every pair of the matrix. */
import { describe, expect, test } from 'vitest';
import { coversAll, rolesOf } from '../../../src/accounts/roles.ts';
import { verifies } from '../../helpers/verifies.ts';

const PERMISSIONS = [
  'tasks.create',
  'tasks.read',
  'tasks.update',
  'tasks.delete',
  'memory.read',
  'memory.write',
  'agents.query',
  'stats.read',
];
const VIEWER = new Set(['tasks.read', 'memory.read']);
const roles = rolesOf({ roles: { operator: { permissions: ['tasks.*'], own_only: false } } });
const may = (role: string, permission: string) => coversAll(roles.get(role)?.permissions ?? [], [permission]);

describe('roles', () => {
  test.each(PERMISSIONS)('%s: the administrator and the user have it, the viewer only to read', (permission) => {
    verifies('V-20', 'V-21', 'VF-12');
    expect(may('admin', permission)).toBe(true);
    expect(may('user', permission)).toBe(true);
    expect(may('viewer', permission)).toBe(VIEWER.has(permission));
  });

  test('only the administrator has everything; a role nobody made has nothing', () => {
    for (const permission of ['users.create', 'anything', '*']) {
      expect([may('admin', permission), may('user', permission), may('viewer', permission)]).toEqual([
        true,
        false,
        false,
      ]);
    }
    expect(may('ghost', 'tasks.read')).toBe(false);
  });

  test.each([
    ['tasks.create', true],
    ['tasks.read.one', true],
    ['tasks', false],
    ['tasks.', false],
    ['tasksfoo', false],
    ['tasksfoo.read', false],
    ['memory.read', false],
  ])('tasks.* and %s: %s', (permission, expected) => {
    verifies('VF-10');
    expect(may('operator', permission)).toBe(expected);
  });
});

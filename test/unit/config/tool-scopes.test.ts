import { describe, expect, test } from 'vitest';
import { loadConfigText } from '../../../src/config/load.ts';
import { IDENTITY_SCHEMA } from '../../../src/modules.ts';

/** The texts of what is wrong with one tool of a server. */
function problemsOf(name: string, tool: object): readonly string[] {
  const servers = { orders: { url: 'http://127.0.0.1:7001/mcp', tools: { [name]: tool } } };
  const text = JSON.stringify({ version: 1, servers }, null, 2);
  const { problems } = loadConfigText(text, '/shown.yaml', { env: {}, providers: IDENTITY_SCHEMA });
  return problems.map((problem) => problem.text);
}

const ALONE = 'a name with * takes scopes, and nothing else';

describe('scopes of tools', () => {
  test.each([
    ['delete_*', { scopes: ['db:write'] }],
    ['*', { scopes: ['db:write', 'db:admin'] }],
    ['delete_row', { scopes: ['db:write'], requires_hitl: true, floor: 'high' }],
    ['delete_row', {}],
  ])('%s: %j is good', (name, tool) => expect(problemsOf(name, tool)).toEqual([]));

  test.each([
    ['delete_*', {}, ALONE],
    ['delete_*', { scopes: [] }, ALONE],
    ['delete_*', { scopes: ['a'], requires_hitl: true }, ALONE],
    ['delete_*', { scopes: ['a'], floor: 'low' }, ALONE],
    ['delete_*', { scopes: ['a'], sensitive_params: ['x'] }, ALONE],
    ['delete_*', { requires_hitl: true }, ALONE],
    ['delete_row', { scopes: ['two words'] }, 'one scope, without spaces and quotes'],
    ['delete_row', { scopes: ['"quoted"'] }, 'one scope, without spaces and quotes'],
    ['delete_row', { scopes: ['back\\slash'] }, 'one scope, without spaces and quotes'],
    ['delete_row', { scopes: [''] }, 'one scope, without spaces and quotes'],
    ['delete_row', { scopes: ['offline_access'] }, 'offline_access is between clients and their issuer'],
  ])('%s: %j is refused', (name, tool, why) => expect(problemsOf(name, tool).join('\n')).toContain(why));
});

/** What of accounts has to go together, and what production refuses. */
import { describe, expect, test } from 'vitest';
import { loadConfigText } from '../../../src/config/load.ts';
import { IDENTITY_SCHEMA } from '../../../src/modules.ts';
import { verifies } from '../../helpers/verifies.ts';

const messages = (text: string) =>
  loadConfigText(`version: 1\n${text}`, 'gateway.yaml', {
    env: {},
    providers: IDENTITY_SCHEMA,
    publicTexts: [],
  }).problems.map(({ path, message }) => `${path}: ${message}`);
const LOCAL = 'identity: { accounts: { kind: local } }';
const SECRET = 'Zr7vQm2kXt9wLp4sHd8nBc3fJg6yTe1u';

const AS = (more: string) =>
  `public_url: "http://127.0.0.1:1"\naccounts: { enabled: true, authorization_server: { enabled: true, ${more} } }\n${LOCAL}`;

describe('accounts', () => {
  test('are good with the provider that reads their tokens', () => {
    verifies('V-01');
    expect(messages(`accounts: { enabled: true }\n${LOCAL}`)).toEqual([]);
    expect(messages(`accounts: { enabled: false }`)).toEqual([]);
  });

  test.each([
    ['accounts: { enabled: true }', 'nobody reads the tokens of accounts'],
    [LOCAL, 'there are no accounts'],
    [`accounts: { enabled: true, tokens: { algorithm: HS256 } }\n${LOCAL}`, 'HS256 needs a secret'],
    [`accounts: { enabled: true, tokens: { algorithm: HS256, secret: short } }\n${LOCAL}`, 'at least 32 bytes'],
    [`accounts: { enabled: true, tokens: { secret: ${SECRET} } }\n${LOCAL}`, 'a secret is for HS256'],
    [`accounts: { enabled: true, default_role: admin }\n${LOCAL}`, 'nobody becomes an administrator'],
    [`accounts: { enabled: true, default_role: ghost }\n${LOCAL}`, 'there is no such role'],
    [`accounts: { enabled: true, roles: { admin: { permissions: [] } } }\n${LOCAL}`, 'admin stands for everything'],
    [`accounts: { enabled: true, bootstrap_token: short }\n${LOCAL}`, 'at least'],
    [`accounts: { enabled: true, authorization_server: { enabled: true } }\n${LOCAL}`, 'set public_url'],
    [`public_url: "http://127.0.0.1:1"\naccounts: { authorization_server: { enabled: true } }`, 'to log in with'],
    [
      `accounts: { enabled: true, authorization_server: { enabled: true }, tokens: { algorithm: HS256, secret: ${SECRET} } }`,
      'who can check HS256 can sign',
    ],
    [AS('providers: [corp]'), '"corp" is no identity provider of kind oidc'],
    [AS('providers: [accounts]'), '"accounts" is no identity provider of kind oidc'],
    [AS('provision: { roles: [ghost] }'), 'there is no role "ghost"'],
    [AS('provision: { default_role: admin }'), 'everybody who logs in would be an administrator'],
    ['accounts: { authorization_server: { issuer: "https://gateway.example.com/?a=b" } }', 'without query'],
    [
      'mode: production\naccounts: { enabled: true, authorization_server: { enabled: true, issuer: "http://login.example.com" } }',
      'production needs an https address',
    ],
    [`listen: { data: "127.0.0.1:8080", auth: "127.0.0.1:8080" }`, 'an address of its own'],
  ])('%s is refused', (text, message) => {
    verifies('VF-01');
    expect(messages(text).join('\n')).toContain(message);
  });

  test('production refuses open registration and plain HTTP', () => {
    const production = `mode: production\n${LOCAL}\n`;
    expect(messages(`${production}accounts: { enabled: true }`)).toEqual([]);
    expect(messages(`${production}accounts: { enabled: true, self_registration: true }`).join()).toContain(
      'production refuses open registration',
    );
    expect(messages(`${production}accounts: { enabled: true }\nlisten: { auth: "0.0.0.0:8005" }`).join()).toContain(
      'production refuses plain HTTP',
    );
  });
});

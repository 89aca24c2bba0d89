/** What of identity tokens has to go together, told with the place in the file. */
import { describe, expect, test } from 'vitest';
import { loadConfigText } from '../../../src/config/load.ts';
import { IDENTITY_SCHEMA } from '../../../src/modules.ts';
import { verifies } from '../../helpers/verifies.ts';

const CREDENTIAL = 'wq8Zt4nXv2LkJr7sPd5m';

function load(text: string, top = 'public_url: "https://gate.example.com"\n') {
  const whole = `version: 1\n${top}${text}`;
  return loadConfigText(whole, 'gateway.yaml', { env: {}, providers: IDENTITY_SCHEMA, publicTexts: [] });
}
const problems = (text: string, top?: string) => load(text, top).problems.map((problem) => problem.text);

const server = (more: string) => `servers:\n  orders:\n    url: "https://orders.internal/mcp"\n${more}`;

describe('an identity token', () => {
  test('needs nothing but to be wished for', () => {
    const { config } = load(server('    identity_token: {}\n'));
    expect(config?.servers.orders?.identity_token).toEqual({
      ...{ header: 'x-portcullis-identity', lifetime_seconds: 60, algorithm: 'EdDSA', claims: ['roles', 'tenant'] },
    });
  });

  test.each([
    ['a credential as a bearer token', `    credential: ${CREDENTIAL}\n`, 'Authorization'],
    ['a credential in a header', `    credential: { header: X-Caller, value: ${CREDENTIAL} }\n`, 'x-caller'],
  ])('and %s do not go into one header, and the line is told', (_what, credential, header) => {
    verifies('VF-21');
    const text = server(`${credential}    identity_token:\n      header: ${header}\n`);
    expect(problems(text)).toEqual([
      expect.stringMatching(/^gateway\.yaml:8:.*credential of this upstream is sent in/),
    ]);
    expect(problems(text.replace(`header: ${header}`, 'header: X-Another'))).toEqual([]);
  });

  test('and a credential of a model or a route do not either', () => {
    const token = 'identity_token: { header: Authorization }';
    const model = `models: { small: { url: "https://m.internal/v1", credential: ${CREDENTIAL}, ${token} } }\n`;
    expect(problems(model)).toEqual([
      expect.stringMatching(/^gateway\.yaml:3:.*models\.small\.identity_token\.header/),
    ]);
    const parts = `url: "https://a.internal", anonymous: true, credential: ${CREDENTIAL}, ${token}`;
    const route = `routes:\n  - { match: /a, protocol: http, ${parts} }\n`;
    expect(problems(route)).toEqual([expect.stringMatching(/^gateway\.yaml:4:.*routes\[0\]\.identity_token\.header/)]);
  });

  test('needs somebody who has issued it', () => {
    expect(problems(server('    identity_token: {}\n'), '')).toEqual([
      expect.stringMatching(/^gateway\.yaml:5:.*needs public_url/),
    ]);
  });

  test.each([
    'Host',
    'Cookie',
    'Content-Length',
    'Connection',
    'X-Auth-User',
    'X-Request-Id',
    'X-Tenant-Id',
    'X-User-Id',
    'X-Forwarded-For',
    'X-Real-IP',
    'X-Delegation-Token',
    '"X-Bad Header"',
  ])('is not sent in %s', (header) => {
    expect(problems(server(`    identity_token: { header: ${header} }\n`))).toHaveLength(1);
  });

  test.each([
    ['lifetime_seconds: 3600', 'lifetime_seconds'],
    ['algorithm: HS256', 'algorithm'],
    ['algorithm: none', 'algorithm'],
    ['claims: [password]', 'claims'],
    ['audience: ""', 'audience'],
  ])('is refused with %s', (wrong, where) => {
    expect(problems(server(`    identity_token: { ${wrong} }\n`))).toEqual([expect.stringContaining(where)]);
  });

  test('for two upstreams under one name is warned of', () => {
    const text = `models:
  a: { url: "https://a.internal/v1", identity_token: { audience: models } }
  b: { url: "https://b.internal/v1", identity_token: { audience: models } }
`;
    expect(load(text).warnings.map((warning) => warning.text)).toEqual([
      expect.stringContaining('models.a.identity_token has the same'),
    ]);
  });

  test('in the clear is warned of in production', () => {
    const text = 'mode: production\nmodels:\n  a: { url: "http://a.internal/v1", identity_token: {} }\n';
    expect(load(text).warnings.map((warning) => warning.text)).toEqual([expect.stringContaining('in the clear')]);
  });

  test('of this gateway is no type that a provider may take, that of another one is', () => {
    verifies('VF-21');
    const provider = (issuer: string) =>
      `identity:\n  peers:\n    kind: jwt\n    issuer: "${issuer}"\n    audience: orders\n    jwks: "https://gate.example.com/jwks"\n    typ: [portcullis-identity+jwt]\n`;
    expect(problems(provider('https://gate.example.com'))).toEqual([
      expect.stringMatching(/^gateway\.yaml:9:.*none may come back/),
    ]);
    expect(problems(provider('https://other.example.com'))).toEqual([]);
  });
});

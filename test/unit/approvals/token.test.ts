import { createHmac } from 'node:crypto';
import { describe, expect, test } from 'vitest';
import { ApprovalTokens, MAX_TOKEN_LENGTH } from '../../../src/approvals/token.ts';
import { Secret } from '../../../src/core/secret.ts';
import { approvalRecord } from './records.ts';

const PEPPER = new Secret('pepper-of-a-unit-test-8fQ2mZ');
const tokens = new ApprovalTokens(PEPPER);
const issued = tokens.issue(approvalRecord()) ?? '';
const [header = '', claims = '', signature = ''] = issued.split('.');
const encode = (value: unknown) => Buffer.from(JSON.stringify(value)).toString('base64url');
const decode = (text: string) => JSON.parse(Buffer.from(text, 'base64url').toString()) as Record<string, unknown>;

describe('an approval token', () => {
  test('names the approval, its requester and its end, and is the same each time', () => {
    expect(tokens.read(issued)).toEqual({
      jti: 'token-1',
      approval_id: 'apr_1',
      sub: 'user-admin',
      tenant: 'default',
      exp: 2_000_000_900,
    });
    expect(tokens.issue(approvalRecord())).toBe(issued);
    expect(decode(header)).toMatchObject({ alg: 'HS256', typ: 'portcullis-approval' });
    expect(decode(claims)).toMatchObject({ approver: 'user-approver', server: 'orders', tool: 'execute_query' });
  });

  test('is good in every process over the same secret, and in no other', () => {
    expect(new ApprovalTokens(PEPPER).read(issued)).not.toBeNull();
    expect(new ApprovalTokens(new Secret('another-pepper-of-a-test-31aB')).read(issued)).toBeNull();
  });

  test('is issued for an approved request only', () => {
    for (const state of ['pending', 'rejected', 'expired', 'used'] as const) {
      expect(tokens.issue(approvalRecord({ state }))).toBeNull();
    }
    expect(tokens.issue(approvalRecord({ token_id: null }))).toBeNull();
  });

  test('is refused when anything of it was changed', () => {
    const forged = encode({ ...decode(claims), sub: 'user-mallory' });
    const none = encode({ ...decode(header), alg: 'none' });
    const signedWith = (key: string, head = header) =>
      `${head}.${claims}.${createHmac('sha256', key).update(`${head}.${claims}`).digest('base64url')}`;
    const bad = [
      '',
      '.',
      '..',
      'x',
      `${header}.${claims}`,
      `${header}.${claims}.`,
      `${header}.${claims}.${signature}.`,
      `${header}.${claims}.${signature}=`,
      ` ${issued}`,
      `${issued} `,
      `${header}.${forged}.${signature}`,
      `${none}.${claims}.`,
      `${none}.${claims}.${signature}`,
      signedWith(PEPPER.reveal()),
      signedWith(''),
      signedWith(PEPPER.reveal(), none),
      `${header}.${claims}.${signature.slice(0, -1)}`,
      `${header}.${claims}.${signature.slice(0, -1)}${signature.endsWith('A') ? 'B' : 'A'}`,
      `Bearer ${issued}`,
      'a'.repeat(MAX_TOKEN_LENGTH + 1),
    ];
    for (const text of bad) expect(tokens.read(text), text.slice(0, 40)).toBeNull();
  });
});

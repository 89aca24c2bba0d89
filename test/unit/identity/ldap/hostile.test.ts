/** Directories that lie, stall or break off. Nobody gets in by that, and nobody is told that a password was wrong. */
import { describe, expect, test } from 'vitest';
import { verifies } from '../../../helpers/verifies.ts';
import { BIND, EXTENDED, entry, reference, result, SEARCH, startHostile } from './hostile-server.ts';
import { staff } from './staff.ts';

const DN = 'uid=alice,ou=people,dc=example,dc=org';
const FOUND = { uid: ['alice'], cn: ['Alice'] };
const quick = { timeout_ms: 250, connect_timeout_ms: 200, cache_seconds: 0 };
const isForPeople = (bytes: Buffer) => bytes.includes('uid') && !bytes.includes('member');

/** A server that behaves, but for what a test changes. `bind` and `search` get the request's number and bytes. */
function server(changes: {
  bind?: (id: number, bytes: Buffer) => Buffer | null | 'hang up';
  search?: (id: number, bytes: Buffer) => Buffer | null | 'hang up';
  extended?: (id: number) => Buffer | null | 'hang up';
}) {
  return startHostile((id, tag, bytes) => {
    if (tag === BIND) return (changes.bind ?? ((n) => result(n, BIND, 0)))(id, bytes);
    if (tag === EXTENDED) return (changes.extended ?? ((n) => result(n, EXTENDED, 0)))(id);
    if (tag !== SEARCH) return null;
    if (isForPeople(bytes)) {
      return (changes.search ?? ((n) => Buffer.concat([entry(n, DN, FOUND), result(n, SEARCH, 0)])))(id, bytes);
    }
    return result(id, SEARCH, 0);
  });
}

describe('a directory that', () => {
  test('behaves lets people in', async () => {
    await using directory = await server({});
    await using people = await staff(directory.url, quick);
    expect(await people.login('alice', 'x')).toMatchObject({ kind: 'authenticated', principal: { id: 'alice' } });
  });

  test('says success and names another entry does not change who it is', async () => {
    await using directory = await server({ bind: (id) => result(id, BIND, 0, 'cn=root,dc=example,dc=org') });
    await using people = await staff(directory.url, quick);
    expect(await people.login('alice', 'x')).toMatchObject({ principal: { id: 'alice' } });
  });

  test.each([
    [8, 'stronger authentication'],
    [13, 'confidentiality'],
    [1, 'operations error'],
    [2, 'protocol error'],
    [3, 'time limit'],
    [7, 'method not supported'],
    [14, 'SASL bind in progress'],
    [51, 'busy'],
    [52, 'unavailable'],
    [80, 'other'],
    [123, 'a code nobody knows'],
  ])('answers a login with code %i (%s) has not refused anybody', async (code) => {
    const bind = (id: number, bytes: Buffer) => result(id, BIND, bytes.includes(DN) ? code : 0);
    await using directory = await server({ bind });
    await using people = await staff(directory.url, quick);
    await expect(people.login('alice', 'x')).rejects.toThrow(`does not answer a login (result ${code})`);
  });

  test.each([
    [49, '', 'wrong password'],
    [49, '80090308: LdapErr: DSID-0C090439, comment: AcceptSecurityContext error, data 775, v4563', 'data 775'],
    [53, '', 'not willing'],
    [19, '', 'by a rule'],
    [48, '', 'no password'],
    [32, '', 'no such entry'],
    [10, '', 'not followed'],
  ])('answers a login with code %i "%s" has refused it', async (code, words, detail) => {
    const bind = (id: number, bytes: Buffer) =>
      bytes.includes(DN) ? result(id, BIND, code, '', words) : result(id, BIND, 0);
    await using directory = await server({ bind });
    await using people = await staff(directory.url, quick);
    const refused = await people.login('alice', 'x');
    expect(refused).toMatchObject({ reason: 'invalid', detail: expect.stringContaining(detail) });
  });

  test('refers a search to another server is not followed there', async () => {
    await using elsewhere = await server({});
    const search = (id: number) => Buffer.concat([reference(id, `${elsewhere.url}/${DN}`), result(id, SEARCH, 0)]);
    await using directory = await server({ search });
    await using people = await staff(directory.url, quick);
    expect(await people.login('alice', 'x')).toMatchObject({ reason: 'invalid', detail: 'no such entry' });
    expect(elsewhere.received).toEqual([]);
  });

  test('answers a search with a referral instead of a result is not followed either', async () => {
    await using directory = await server({ search: (id) => result(id, SEARCH, 10) });
    await using people = await staff(directory.url, quick);
    await expect(people.login('alice', 'x')).rejects.toThrow('(result 10)');
  });

  test('cuts the list of entries off has not found the only one', async () => {
    verifies('SF-54');
    const search = (id: number) => Buffer.concat([entry(id, DN, FOUND), result(id, SEARCH, 4)]);
    await using directory = await server({ search });
    await using people = await staff(directory.url, quick);
    await expect(people.login('alice', 'x')).rejects.toThrow('(result 4)');
  });

  test('finds an entry without a name logs nobody in', async () => {
    verifies('SF-56');
    const search = (id: number) => Buffer.concat([entry(id, '', FOUND), result(id, SEARCH, 0)]);
    await using directory = await server({ search });
    await using people = await staff(directory.url, quick);
    expect(await people.login('alice', 'x')).toMatchObject({ reason: 'invalid' });
  });

  test.each([
    ['no value of the id', {}],
    ['two values, neither of them typed', { uid: ['alicia', 'alice2'] }],
    ['an empty value', { uid: [''] }],
    ['a value with a line break', { uid: ['ali\nce'] }],
  ])('finds an entry with %s makes nobody of it', async (_what, attributes) => {
    const search = (id: number) => Buffer.concat([entry(id, DN, attributes), result(id, SEARCH, 0)]);
    await using directory = await server({ search });
    await using people = await staff(directory.url, quick);
    expect(await people.login('alice', 'x')).toMatchObject({
      reason: 'invalid',
      detail: expect.stringContaining('uid'),
    });
  });

  test('has an attribute that is called dn cannot change whose password is tried', async () => {
    const search = (id: number) =>
      Buffer.concat([entry(id, DN, { ...FOUND, dn: ['uid=mallory,dc=example,dc=org'] }), result(id, SEARCH, 0)]);
    await using directory = await server({ search });
    await using people = await staff(directory.url, quick);
    await people.login('alice', 'x').catch(() => null);
    const binds = directory.received.filter((bytes) => bytes.includes('mallory') && bytes.includes(0x80));
    expect(binds.filter((bytes) => bytes[5] === BIND || bytes[6] === BIND)).toEqual([]);
  });

  test.each([
    ['bytes that mean nothing', Buffer.from('HTTP/1.1 200 OK\r\n\r\n')],
    ['a message that does not end', Buffer.from([0x30, 0x84, 0x7f, 0xff, 0xff, 0xff, 0x02])],
    ['a message of negative length', Buffer.from([0x30, 0x84, 0xff, 0xff, 0xff, 0xff])],
    ['nothing', null],
    ['the end of the connection', 'hang up' as const],
    ['the answer to another question', result(77, BIND, 0)],
  ])('answers a login with %s has not refused anybody, nor let in', async (_what, answer) => {
    await using directory = await server({ bind: (id, bytes) => (bytes.includes(DN) ? answer : result(id, BIND, 0)) });
    await using people = await staff(directory.url, quick);
    await expect(people.login('alice', 'x')).rejects.toThrow('the directory');
  });

  test('answers a login with the end of a search has not let anybody in', async () => {
    const bind = (id: number, bytes: Buffer) => (bytes.includes(DN) ? result(id, SEARCH, 49) : result(id, BIND, 0));
    await using directory = await server({ bind });
    await using people = await staff(directory.url, quick);
    const outcome = await people.login('alice', 'x').catch(() => ({ kind: 'failed' }));
    expect(outcome.kind).not.toBe('authenticated');
  });

  test('refuses StartTLS is not told a password', async () => {
    verifies('SF-52');
    await using directory = await server({ extended: (id) => result(id, EXTENDED, 52) });
    await using people = await staff(directory.url, { ...quick, start_tls: true });
    await expect(people.login('alice', 'my own password')).rejects.toThrow('cannot be reached');
    expect(Buffer.concat(directory.received).includes('password')).toBe(false);
    expect(directory.received).toHaveLength(1);
  });

  test('agrees to StartTLS and then says nothing is not waited for', async () => {
    verifies('SF-52');
    await using directory = await server({});
    await using people = await staff(directory.url, { ...quick, start_tls: true });
    await expect(people.login('alice', 'my own password')).rejects.toThrow('cannot be reached');
    expect(Buffer.concat(directory.received).includes('password')).toBe(false);
  });

  test('puts words in the clear behind its yes to StartTLS is not believed', async () => {
    verifies('SF-52');
    const injected = (id: number) => Buffer.concat([result(id, EXTENDED, 0), result(id + 1, BIND, 0)]);
    await using directory = await server({ extended: injected });
    await using people = await staff(directory.url, { ...quick, start_tls: true });
    await expect(people.login('alice', 'x')).rejects.toThrow('the directory');
  });

  test('hangs up between two logins is asked again on a new connection', async () => {
    await using directory = await server({});
    await using people = await staff(directory.url, quick);
    expect(await people.login('alice', 'x')).toMatchObject({ kind: 'authenticated' });
    for (const socket of directory.sockets) socket.destroy();
    expect(await people.login('alice', 'x')).toMatchObject({ kind: 'authenticated' });
  });

  test('of Active Directory is asked for members of members by its rule', async () => {
    verifies('SF-55');
    await using directory = await server({});
    await using people = await staff(directory.url, { ...quick, nested_groups: 'matching-rule' });
    await people.login('alice', 'x');
    expect(Buffer.concat(directory.received).includes('1.2.840.113556.1.4.1941')).toBe(true);
  });

  test('gives its ids as bytes is understood', async () => {
    const guid = 'ABCDEFGHIJKLMNOP';
    const search = (id: number) =>
      Buffer.concat([entry(id, DN, { ...FOUND, objectGUID: [guid] }), result(id, SEARCH, 0)]);
    await using directory = await server({ search });
    await using people = await staff(directory.url, { ...quick, attributes: { id: 'objectGUID' } });
    expect(await people.login('alice', 'x')).toMatchObject({
      principal: { id: '44434241-4645-4847-494a-4b4c4d4e4f50', username: 'alice' },
    });
  });
});

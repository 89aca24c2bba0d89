/** Who counts as one party on the network. */

/**
 * An IPv4 address, or the first 64 bits of an IPv6 one: who has one address there has all of them (RFC 6177).
 * @param address in canonical text
 */
export function networkOf(address: string): string {
  if (!address.includes(':')) return address;
  const [left = '', right] = address.split('::');
  const groups = left === '' ? [] : left.split(':');
  const rest = right === undefined || right === '' ? [] : right.split(':');
  // What `::` stands for is written out.
  if (right !== undefined) while (groups.length + rest.length < 8) groups.push('0');
  return `${[...groups, ...rest].slice(0, 4).join(':')}::/64`;
}

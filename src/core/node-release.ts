/**
 * Releases of Node without the security fixes of October 2026, among them an out-of-bounds write in the Brotli decoder
 * (CVE-2026-111497). The gateway never hands bytes of others to that decoder, but other fixes of that day cannot be kept
 * away. Source: security 0.2.
 */

/** First fixed release of each line that got one; lines between them ended before. */
const FIXED: readonly (readonly [number, number, number])[] = [
  [22, 23, 4],
  [24, 22, 1],
  [26, 12, 1],
];

/**
 * The release to go to from `version` (`v24.21.0`), or null when it has the fixes. A line without a fixed release is sent
 * to the next one that has it; a version that cannot be read counts as the oldest.
 */
export function fixedNodeRelease(version: string): string | null {
  const match = /^v?(\d{1,5})\.(\d{1,5})\.(\d{1,5})/.exec(version);
  const [major, minor, patch] = match === null ? [0, 0, 0] : match.slice(1).map(Number);
  const fixed = FIXED.find(([line]) => line >= (major ?? 0));
  if (fixed === undefined) return null;
  const behind = (major ?? 0) < fixed[0] || (minor ?? 0) < fixed[1] || (minor === fixed[1] && (patch ?? 0) < fixed[2]);
  return behind ? fixed.join('.') : null;
}

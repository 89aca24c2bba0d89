/** How long somebody has been here. Source: design 2.3. */

/** Whole months from one day to another, in UTC; null for days that are none or lie the other way round. */
export function wholeMonths(from: Date, to: Date): number | null {
  const months = (to.getUTCFullYear() - from.getUTCFullYear()) * 12 + (to.getUTCMonth() - from.getUTCMonth());
  const whole = to.getUTCDate() < from.getUTCDate() ? months - 1 : months;
  return whole >= 0 ? whole : null;
}

/**
 * Secrets of this gateway by their look. They are refused before anybody is asked: to ask another server about one is to
 * tell it. Looser than the grammars themselves, for a key with a typing error is nearly a key. Source: security 2.4.
 */

/** `pc_` keys, `pcr_` refresh tokens, `pcs_` sessions, and keys in the form of key services that move here. */
const OWN_PREFIX = /^(?:pc[a-z]?|hok_(?:dev|test|live))_/;
/** Keys with a prefix of the operator's: `<prefix>_<dev|test|live>_<id>_…`. */
const KEY_FORM = /^[a-z][a-z0-9_]{0,63}_(?:dev|test|live)_[0-9A-Za-z]{16}_/;

/** True for what looks like a key, refresh token or session that a gateway like this one made. */
export function isOwnSecret(text: string): boolean {
  return OWN_PREFIX.test(text) || KEY_FORM.test(text);
}

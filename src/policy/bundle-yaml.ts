/** Data files in YAML, as OPA's bundles may have them. */
import { parseDocument, type Scalar, visit } from 'yaml';
import { InexactNumberError } from './exact-json.ts';

/** The same value as JSON text, in which numbers keep their digits. Throws Error; InexactNumberError for what is no number. */
export function yamlToJson(text: string): string {
  const document = parseDocument(text, { intAsBigInt: true, uniqueKeys: true });
  const [error] = document.errors;
  if (error !== undefined) throw error;
  visit(document, {
    Scalar(at, node) {
      if (at !== 'key' && typeof node.value === 'number') node.value = asWritten(node);
    },
  });
  const value: unknown = document.toJS({ maxAliasCount: 100 });
  return JSON.stringify(value, (_, item: unknown) => (typeof item === 'bigint' ? JSON.rawJSON(item.toString()) : item));
}

const NUMBER = /^([-+]?)(\d*)(?:\.(\d*))?([eE][-+]?\d+)?$/;

/** What is rounded here, or becomes null as JSON has neither `.inf` nor `.nan`, would be a limit that nobody wrote. */
function asWritten({ source = '' }: Scalar): unknown {
  const [, sign, whole = '', fraction = '', exponent = ''] = NUMBER.exec(source) ?? [];
  if (sign === undefined || whole + fraction === '') {
    throw new InexactNumberError(`has a number beyond all that can be held (${source.slice(0, 40)})`);
  }
  const digits = whole.replace(/^0+(?=\d)/, '') || '0';
  return JSON.rawJSON(`${sign === '-' ? '-' : ''}${digits}${fraction === '' ? '' : `.${fraction}`}${exponent}`);
}

/** Every builtin this host supplies; what OPA compiles into the module itself is not among them. */
import { DOCUMENT_TEXTS } from './builtins/document-texts.ts';
import { DOCUMENTS } from './builtins/documents.ts';
import { ENCODING } from './builtins/encoding.ts';
import { GLOBS } from './builtins/globs.ts';
import { JWT } from './builtins/jwt.ts';
import { JWT_SIGN } from './builtins/jwt-sign.ts';
import { NET } from './builtins/net.ts';
import { REGEX } from './builtins/regex.ts';
import { STRINGS } from './builtins/strings.ts';
import { TIME } from './builtins/time.ts';
import { UNITS } from './builtins/units.ts';
import type { BuiltinTable } from './imports.ts';

/** By name. A policy that needs another one is not activated. */
export const BUILTINS: BuiltinTable = new Map([
  ...STRINGS,
  ...UNITS,
  ...TIME,
  ...ENCODING,
  ...DOCUMENTS,
  ...NET,
  ...REGEX,
  ...JWT,
  ...JWT_SIGN,
  ...DOCUMENT_TEXTS,
  ...GLOBS,
]);

/** Certificate authorities in a file that the configuration names: whom the gateway trusts at the other end of a connection. */
import { readFileSync } from 'node:fs';
import { fileFaultText } from './file-faults.ts';

/** All labels under which TLS takes a certificate. */
const CERTIFICATE = /-----BEGIN (?:TRUSTED |X509 )?CERTIFICATE-----/;

/**
 * The PEM text. TLS passes over what it cannot read: with a file that holds something else nobody would be trusted, and
 * nobody told. Throws a sentence with the file's name.
 */
export function readAuthorityFile(file: string): string {
  const text = readNamedFile(file).toString('utf8');
  if (!CERTIFICATE.test(text)) throw new Error(`${file}: holds no certificate`);
  return text;
}

/** The content of a file that the configuration names. Throws a sentence with the file's name. */
export function readNamedFile(file: string): Buffer {
  try {
    return readFileSync(file);
  } catch (error) {
    throw new Error(`${file}: ${fileFaultText(error)}`);
  }
}

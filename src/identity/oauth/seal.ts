/** Texts that leave this process and come back: nobody else can read, make or change them, nor use one for another purpose. */
import { createCipheriv, createDecipheriv, createHmac, hkdfSync, randomBytes } from 'node:crypto';
import type { Secret } from '../../core/secret.ts';

const IV = 12;
const TAG = 16;

export class Seal {
  readonly #key: Buffer;
  readonly #nameKey: Buffer;

  /** @param purpose keeps what was sealed for one thing from being opened for another */
  constructor(pepper: Secret, purpose: string) {
    const derive = (what: string) =>
      Buffer.from(hkdfSync('sha256', pepper.reveal(), '', `portcullis ${purpose} ${what}`, 32));
    this.#key = derive('seal');
    this.#nameKey = derive('name');
  }

  /** @param context must be the same when it is opened */
  close(text: string, context: string): string {
    const iv = randomBytes(IV);
    const cipher = createCipheriv('aes-256-gcm', this.#key, iv).setAAD(Buffer.from(context));
    return Buffer.concat([iv, cipher.update(text, 'utf8'), cipher.final(), cipher.getAuthTag()]).toString('base64url');
  }

  /** Null for anything that was not closed here for this context. */
  open(sealed: string, context: string): string | null {
    const bytes = Buffer.from(sealed, 'base64url');
    if (bytes.length < IV + TAG) return null;
    const decipher = createDecipheriv('aes-256-gcm', this.#key, bytes.subarray(0, IV), { authTagLength: TAG });
    decipher.setAAD(Buffer.from(context)).setAuthTag(bytes.subarray(-TAG));
    try {
      return Buffer.concat([decipher.update(bytes.subarray(IV, -TAG)), decipher.final()]).toString('utf8');
    } catch {
      return null;
    }
  }

  /** A name that stands for a secret and does not tell it. */
  nameOf(secret: string): string {
    return createHmac('sha256', this.#nameKey).update(secret).digest('base64url');
  }
}

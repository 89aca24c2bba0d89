/** Certificates of a listener, read again when their files change. */
import { constants, X509Certificate } from 'node:crypto';
import { statSync } from 'node:fs';
import type { SecureContextOptions, TLSSocket } from 'node:tls';
import { createSecureContext } from 'node:tls';
import { readAuthorityFile, readNamedFile } from '../config/authority-file.ts';
import { noteAuthorities } from '../core/client-authorities.ts';
import type { Logger } from '../core/module.ts';
import { reasonOf } from '../core/reason.ts';

export interface TlsFiles {
  /** PEM file with the certificate chain. */
  readonly cert: string;
  /** PEM file with the private key. */
  readonly key: string;
  /** PEM bundle of the authorities whose client certificates are accepted. */
  readonly client_ca?: string | undefined;
}

/** What a secure server takes a new context from. */
export interface SecureServer {
  setSecureContext(options: SecureContextOptions): void;
}

/** By server: against which authorities it checks clients now. */
const inForce = new WeakMap<object, ReadonlySet<string>>();
const BLOCK = /-----BEGIN ([A-Z0-9 ]+)-----[^-]+-----END \1-----/g;

/** TLS reads certificates under other labels, too: their label stands for them, which is nobody's fingerprint. */
function fingerprintsOf({ ca }: SecureContextOptions): ReadonlySet<string> {
  const blocks = ca === undefined ? [] : [...String(ca).matchAll(BLOCK)];
  return new Set(
    blocks.map(([text, label = '']) => (label === 'CERTIFICATE' ? new X509Certificate(text).fingerprint256 : label)),
  );
}

/** Notes at each new connection whom its client certificate was checked against. `options`: what the server began with. */
export function noteClientAuthorities(
  server: { prependListener(event: 'secureConnection', listener: (socket: TLSSocket) => void): unknown },
  options: SecureContextOptions,
): void {
  inForce.set(server, fingerprintsOf(options));
  server.prependListener('secureConnection', (socket) => noteAuthorities(socket, inForce.get(server) ?? new Set()));
}

const POLL_MS = 2000;

/**
 * The listener's key material as it is on disk now.
 * @throws Error, in a sentence, when a file cannot be read or key and certificate do not belong together
 */
export function readTls(files: TlsFiles): SecureContextOptions {
  const options: SecureContextOptions = {
    cert: readAuthorityFile(files.cert),
    key: readNamedFile(files.key),
    minVersion: 'TLSv1.2',
    // A client could have its certificate asked for again in the middle, or keep us busy with handshakes (RFC 9325 3.5).
    secureOptions: constants.SSL_OP_NO_RENEGOTIATION,
    ...(files.client_ca === undefined ? {} : { ca: readAuthorityFile(files.client_ca) }),
  };
  try {
    createSecureContext(options);
  } catch (error) {
    throw new Error(`${files.cert} and ${files.key} cannot be used together: ${reasonOf(error)}`);
  }
  return options;
}

/** Swaps the certificate for new connections; when the new files are not usable the old ones stay. */
export function reloadTls(server: SecureServer, files: TlsFiles, logger: Logger): boolean {
  try {
    const options = readTls(files);
    const fingerprints = fingerprintsOf(options);
    server.setSecureContext(options);
    inForce.set(server, fingerprints);
    logger.info({ cert: files.cert }, 'the certificate was reloaded');
    return true;
  } catch (error) {
    logger.error({ cert: files.cert, err: error }, 'the new certificate is not usable; the old one stays');
    return false;
  }
}

/** What changes when a file is written or replaced; a file that is away for a moment is a change too. */
function stampOf(path: string): string {
  const info = statSync(path, { throwIfNoEntry: false, bigint: true });
  return info === undefined ? 'gone' : `${info.ino}:${info.size}:${info.mtimeNs}`;
}

/**
 * Polls, because mounted secrets are swapped by renaming links, which directory watches miss. The first look is taken
 * before this returns, so that no change after it is missed. Returns the way to stop.
 */
export function watchTls(
  server: SecureServer,
  files: TlsFiles,
  logger: Logger,
  onReload: (ok: boolean) => void,
): () => void {
  const paths = [files.cert, files.key, ...(files.client_ca === undefined ? [] : [files.client_ca])];
  const look = () => paths.map(stampOf).join();
  let last = look();
  const timer = setInterval(() => {
    const now = look();
    if (now === last) return;
    last = now;
    onReload(reloadTls(server, files, logger));
  }, POLL_MS);
  timer.unref();
  return () => clearInterval(timer);
}

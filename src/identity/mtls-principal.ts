/** From a certificate that is trusted to a principal. Source: acceptance S-73, S-74, SF-58. */
import { makePrincipal, type Principal } from '../core/principal.ts';
import {
  type Certificate,
  COMMON_NAME,
  EMAIL_ADDRESS,
  ORGANIZATION,
  ORGANIZATIONAL_UNIT,
  wordsOf,
} from './certificate.ts';
import { freezePrincipal } from './credential-cache.ts';
import { DerError } from './der.ts';
import type { ID_SOURCES, MtlsOptions } from './mtls-options.ts';

/** Why a certificate names nobody, in words for the operator. */
export interface Unnamed {
  readonly reason: 'invalid' | 'forbidden';
  readonly detail: string;
}

const MAX_ID = 512;
const invalid = (detail: string): Unnamed => ({ reason: 'invalid', detail });

/** The frozen principal, or why there is none. */
export function principalFromCertificate(
  certificate: Certificate,
  options: MtlsOptions,
  provider: string,
): Principal | Unnamed {
  const organizations = attribute(certificate, ORGANIZATION);
  const allowed = options.allowed_organizations;
  if (allowed.length > 0 && !(organizations.length > 0 && organizations.every((name) => allowed.includes(name)))) {
    return { reason: 'forbidden', detail: `Organization not allowed: ${organizations.join(', ').slice(0, 200)}` };
  }
  const id = idOf(certificate, options);
  if (id === null) return invalid(`the certificate has not one usable name of ${options.id.join(', ')}`);
  const tenant = options.tenant === 'none' ? undefined : only(part(certificate, options.tenant));
  if (options.tenant !== 'none' && tenant === undefined) return invalid('the certificate has not one tenant');
  const roles = rolesOf(certificate, options);
  if (roles === null) return invalid('the extension with the roles cannot be read');
  const [cn] = attribute(certificate, COMMON_NAME);
  return freezePrincipal(
    makePrincipal(
      {
        id,
        tenant_id: tenant ?? options.default_tenant,
        type: options.type,
        email: attribute(certificate, EMAIL_ADDRESS)[0] ?? certificate.names.email[0] ?? null,
        username: cn ?? null,
        roles,
        teams: options.team === 'none' ? [] : [...part(certificate, options.team)],
        auth: {
          key_id: certificate.thumbprint,
          expires_at: Math.floor(certificate.x509.validToDate.getTime() / 1000),
        },
        metadata: { certificate_serial: certificate.x509.serialNumber },
      },
      provider,
      'client-cert',
    ),
  );
}

const attribute = ({ subject }: Certificate, oid: string): readonly string[] => subject.get(oid) ?? [];
const part = (certificate: Certificate, name: 'o' | 'ou'): readonly string[] =>
  attribute(certificate, name === 'o' ? ORGANIZATION : ORGANIZATIONAL_UNIT);
const only = (values: readonly string[]): string | undefined => (values.length === 1 ? values[0] : undefined);

/** The first kind of name that is there decides; several of it would let the reader choose who it is. */
function idOf(certificate: Certificate, options: MtlsOptions): string | null {
  for (const source of options.id) {
    const values = namesOf(certificate, source);
    if (values.length === 0) continue;
    const one = only(values);
    // A wildcard stands for many.
    return one === undefined || one.trim() === '' || one.length > MAX_ID || one.includes('*') ? null : one;
  }
  return null;
}

function namesOf(certificate: Certificate, source: (typeof ID_SOURCES)[number]): readonly string[] {
  return source === 'cn' ? attribute(certificate, COMMON_NAME) : certificate.names[source];
}

/** Null when the extension is there and cannot be read: a guess could grant too much. */
function rolesOf(certificate: Certificate, options: MtlsOptions): string[] | null {
  const { roles_extension: oid, role_map, unknown_roles } = options;
  const extension = oid === undefined ? undefined : certificate.extensions.get(oid);
  if (extension !== undefined) {
    const said = readWords(extension);
    if (said === null) return null;
    const mapped = said.map((word) => (Object.hasOwn(role_map, word) ? role_map[word] : undefined));
    return unique(mapped.map((role, at) => role ?? (unknown_roles === 'keep' ? said[at] : undefined)));
  }
  const granted = (map: Readonly<Record<string, readonly string[]>>, holders: readonly string[]) =>
    holders.flatMap((holder) => (Object.hasOwn(map, holder) ? (map[holder] ?? []) : []));
  const { email, dns, uri, upn } = certificate.names;
  return unique([
    ...granted(options.unit_roles, attribute(certificate, ORGANIZATIONAL_UNIT)),
    ...granted(options.name_roles, [...uri, ...email, ...upn, ...dns]),
  ]);
}

function readWords(extension: Parameters<typeof wordsOf>[0]): string[] | null {
  try {
    return wordsOf(extension);
  } catch (error) {
    if (error instanceof DerError) return null;
    throw error;
  }
}

const unique = (roles: readonly (string | undefined)[]): string[] => [
  ...new Set(roles.filter((role) => role !== undefined)),
];

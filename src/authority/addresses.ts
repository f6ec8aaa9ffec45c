/**
 * Where verifiers find the certificate of an authority, its revocation list and its responder: what stands
 * in certificates, and what http/pki.ts serves. Named by the key, which outlives each of its certificates.
 */
import {
  authorityInfoAccess,
  crlDistributionPoints,
  readSubjectKeyIdentifier,
  type Extension,
} from '../x509/extensions.ts'
import { oids } from '../x509/oids.ts'
import type { Issuer } from './authority.ts'

export interface Addresses {
  readonly certificate: string
  readonly revocationList: string
  readonly responder: string
}

/** The key identifier of an authority, as its certificate says it. */
export const keyIdentifierOf = ({ certificate }: Pick<Issuer, 'certificate'>): Uint8Array =>
  readSubjectKeyIdentifier(certificate.extensions.get(oids.subjectKeyIdentifier)!.value) // openIssuer: it has one

/** How an authority is called in an address: its key identifier in lower-case hex. */
export const publicName = (issuer: Pick<Issuer, 'certificate'>): string =>
  Buffer.from(keyIdentifierOf(issuer)).toString('hex')

/** @param publicUrl - where this service is reached by verifiers, without a slash at its end. */
export function addressesOf(publicUrl: string, issuer: Pick<Issuer, 'certificate'>): Addresses {
  const below = `${publicUrl}/pki/${publicName(issuer)}`
  return {
    certificate: `${below}/certificate`,
    revocationList: `${below}/crl`,
    responder: `${publicUrl}/ocsp`,
  }
}

/**
 * What a certificate says of them (RFC 5280 §4.2.1.13, §4.2.2.1); nothing where no public address is known.
 *
 * @param responds - whether there is a responder for `issuer`; a root has none.
 */
export function addressExtensions(
  publicUrl: string | null,
  issuer: Pick<Issuer, 'certificate'>,
  responds = true,
): Extension[] {
  if (publicUrl === null) return []
  const { certificate, revocationList, responder } = addressesOf(publicUrl, issuer)
  return [
    crlDistributionPoints([revocationList]),
    authorityInfoAccess([...(responds ? [['ocsp', responder] as const] : []), ['caIssuers', certificate]]),
  ]
}

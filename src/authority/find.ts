/** Finding certificates by the names that people and Windows give them, and what the record tells of a lineage. */
import { CaError } from '../errors.ts'
import type { CertificateRecord, CertificateState } from '../store/model.ts'
import type { Store } from '../store/open.ts'
import { splitCertificates } from '../x509/certificate.ts'
import type { CertificationAuthority } from './authority.ts'

const uuid = /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/i

/**
 * The certificate that `reference` names: our id, the serial number, or the SHA-1 thumbprint, as
 * copied from certlm.msc, PowerShell or openssl. Spaces, colons, letter case, a leading `0x` and the
 * invisible U+200E that the Windows dialog puts first do not matter.
 *
 * @throws CaError `notFound`.
 */
export async function findCertificate(
  { store, loaded }: Pick<CertificationAuthority, 'store' | 'loaded'>,
  reference: string,
): Promise<CertificateRecord> {
  const plain = reference.replace(/[\s:\u200e\u200f\ufeff]/g, '')
  let found: CertificateRecord | null = null
  if (uuid.test(plain)) {
    found = await store.findCertificate({ id: plain.toLowerCase() })
  } else if (/^(0x)?[0-9a-f]{1,64}$/i.test(plain)) {
    const digits = plain.replace(/^0x/i, '').toUpperCase()
    if (digits.length === 40) found = await store.findCertificate({ thumbprint: digits })
    found ??= await store.findCertificate({ serialNumber: wholeOctets(digits) })
  }
  if (found === null) throw await notFound(store, plain)
  return withLoadedChain({ loaded }, found)
}

/** The certificate that an adoption began with is not one of ours; who names it is led to those that are. */
async function notFound(store: Store, reference: string): Promise<CaError> {
  const lineage = /^(0x)?[0-9a-f]{40}$/i.test(reference)
    ? await store.findAdoptedLineage(reference.slice(-40).toUpperCase())
    : null
  if (lineage === null)
    return new CaError('notFound', 'No certificate here has this id, serial number or thumbprint.')
  return new CaError(
    'notFound',
    'This certificate was made elsewhere and adopted here. Name the current one of its lineage, over the same key.',
    { facts: { lineage, ...pointerTo(await store.currentCertificate(lineage)) } },
  )
}

export const noLineage = (): CaError => new CaError('notFound', 'No lineage here has this id.')

/** Where a refusal points to: the certificate to look at instead. */
export const pointerTo = (certificate: CertificateRecord | null): Readonly<Record<string, unknown>> =>
  certificate === null
    ? {}
    : {
        certificate: {
          id: certificate.id,
          href: `/v1/certificates/${certificate.id}`,
          thumbprint: certificate.thumbprint,
        },
      }

/**
 * A certificate of a loaded authority with what stands above that authority today: the record holds
 * what stood there when it was registered, and an operator may have completed it since.
 */
export const withLoadedChain = (
  { loaded }: Pick<CertificationAuthority, 'loaded'>,
  certificate: CertificateRecord,
): CertificateRecord => {
  const known = loaded.find(({ record }) => record.id === certificate.authority.id)
  return known === undefined ? certificate : { ...certificate, authority: known.record }
}

/** The certificates above a certificate, nearest first. */
export function issuersOf({ authority }: CertificateRecord): Uint8Array[] {
  return [authority.certificate, ...splitCertificates(authority.issuers)]
}

function wholeOctets(digits: string): string {
  const significant = digits.replace(/^0+/, '')
  return significant.length % 2 === 0 ? significant : `0${significant}`
}

/** The first that holds of: revoked, superseded, expired, active. */
export function stateOf(certificate: CertificateRecord, now: Date): CertificateState {
  if (certificate.revocation !== null) return 'revoked'
  if (certificate.renewedById !== null) return 'superseded'
  return certificate.notAfter < now ? 'expired' : 'active'
}

/**
 * When to renew, in the spirit of RFC 9773: a window in the last third of the validity, early enough
 * that a failed attempt can be repeated for weeks.
 */
export function renewalWindow({ notBefore, notAfter }: CertificateRecord): { start: Date; end: Date } {
  const lifetime = notAfter.getTime() - notBefore.getTime()
  return {
    start: new Date(notAfter.getTime() - Math.floor(lifetime / 3)),
    end: new Date(notAfter.getTime() - Math.floor(lifetime / 6)),
  }
}

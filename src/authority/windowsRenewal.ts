/**
 * Renewals as Windows writes them: the request names the certificate it renews, in an attribute and
 * among the certificates of its envelope ([MS-WCCE] 3.2.1.4.2.1.4.2). What it names must be, octet by
 * octet, what stands on record. That the envelope is signed with the old key is for the rule table:
 * a renewal keeps its key, so the key of the request is the old one.
 */
import { CaError } from '../errors.ts'
import { fixes } from '../hgs/rules.ts'
import { sources } from '../hgs/sources.ts'
import type { CertificateRecord } from '../store/model.ts'
import type { CertificationRequest } from '../x509/certificationRequest.ts'
import { readCertificate } from '../x509/certificate.ts'
import { readOr } from '../x509/der.ts'
import { hexDigest, pinOf } from '../x509/key.ts'
import { oids } from '../x509/oids.ts'
import { certificateOf } from '../x509/signedData.ts'
import type { CertificationAuthority } from './authority.ts'
import { pointerTo } from './find.ts'

/** A certificate on record: one of this authority, or the one that a lineage was adopted with, generation 0. */
export interface Named {
  readonly lineage: string
  readonly generation: number
  /** Null for an adopted one. */
  readonly record: CertificateRecord | null
}

/** What is on record of the certificate that the request names as the one to renew, by all its octets. */
async function renewedBy(
  { store }: CertificationAuthority,
  { renewalCertificate }: CertificationRequest,
): Promise<Named | null> {
  if (renewalCertificate === null) return null
  const thumbprint = hexDigest('sha1', renewalCertificate)
  const record = await store.findCertificate({ thumbprint })
  if (record !== null) {
    const { lineage, generation } = record
    return same(record.certificate, renewalCertificate) ? { lineage: lineage.id, generation, record } : null
  }
  const lineage = await store.findAdoptedLineage(thumbprint)
  const story = lineage === null ? null : await store.findLineage(lineage)
  return story?.adoption && same(story.adoption.certificate, renewalCertificate)
    ? { lineage: story.id, generation: 0, record: null }
    : null
}

const same = (a: Uint8Array, b: Uint8Array): boolean => Buffer.compare(a, b) === 0

/**
 * Refuses a renewal where first certificates are issued, and says where it belongs.
 *
 * @throws CaError `requestIsRenewal`, `renewalKeyChanged`.
 */
export async function refuseRenewal(
  ca: CertificationAuthority,
  request: CertificationRequest,
): Promise<void> {
  if (request.renewalCertificate === null) return
  const renewed = await renewedBy(ca, request)
  const current = renewed && ((await ca.store.currentCertificate(renewed.lineage)) ?? renewed.record)
  if (changesKey(request)) {
    const expected = keyOf(request.renewalCertificate)
    const found = pinOf(request.publicKey)
    throw new CaError(
      'renewalKeyChanged',
      'This is a request to renew a certificate, but with another key. Shielded VMs would not start with it.',
      {
        errors: [
          {
            rule: 'renewalKey',
            property: 'Renewal',
            required: `the same key, with pin ${expected}`,
            found: `another key, with pin ${found}`,
            source: sources.managing,
            fix: fixes.sameKey,
          },
        ],
        facts: { publicKeyPin: { expected, found }, hresult: '0x80094816', ...pointerTo(current) },
      },
    )
  }
  if (current === null) {
    throw new CaError(
      'requestIsRenewal',
      'This is a request to renew a certificate, and that certificate is not one of this authority. To go on with its key here, send both to POST /v1/adoptions; for a first certificate of another key, send a plain PKCS#10.',
    )
  }
  const renewals = `/v1/certificates/${current.id}/renewals`
  throw new CaError('requestIsRenewal', `This is a request to renew a certificate. Send it to ${renewals}.`, {
    facts: { ...pointerTo(current), renewals },
  })
}

/** Whether the request asks to renew a certificate of another key; null when it asks for no renewal. */
export function changesKey({ renewalCertificate, publicKey }: CertificationRequest): boolean | null {
  if (renewalCertificate === null) return null
  const expected = keyOf(renewalCertificate)
  return expected !== null && expected !== pinOf(publicKey)
}

/** The pin of the key of a certificate from anywhere; null when it cannot be read. */
const keyOf = (certificate: Uint8Array): string | null =>
  readOr(() => pinOf(readCertificate(certificate).publicKey), null)

/**
 * Holds what the request says of the certificate it renews against the record. A request that says
 * nothing, as a plain PKCS#10 does, is matched by its key alone.
 *
 * @returns the certificate that it names; null when it names none.
 * @throws CaError `renewalCertificateMismatch`.
 */
export async function namedPredecessor(
  ca: CertificationAuthority,
  predecessor: CertificateRecord,
  request: CertificationRequest,
): Promise<Named | null> {
  const { renewalCertificate, signedData, envelope } = request
  const mismatch = (found: string, named: Named | null = null): CaError =>
    new CaError(
      'renewalCertificateMismatch',
      `The renewal does not name the certificate to renew: ${found}.`,
      {
        errors: [
          {
            rule: 'renewalCertificate',
            property: 'Renewal',
            required: `a certificate of lineage ${predecessor.lineage.id}, octet by octet, as attribute ${oids.microsoftRenewalCertificate} and as signer of the envelope`,
            found,
            source: sources.certificates,
            fix: {
              certreq: `RenewalCert = ${predecessor.thumbprint}\nUseExistingKeySet = TRUE`,
              openssl: 'openssl req -new -key existing.key -out renewal.csr',
              powershell:
                'Invoke-RestMethod -Method Post $certificate/renewals # without a request: the key on record is renewed',
            },
          },
        ],
        facts: {
          hresult: '0x8009400E',
          ...pointerTo(predecessor),
          ...(named === null ? {} : { renewalCertificate: pointerTo(named.record)['certificate'] }),
        },
      },
    )

  if (renewalCertificate === null) {
    if (envelope === 'PKCS#7') throw mismatch('the request in the PKCS#7 names none')
    return null
  }
  const named = await renewedBy(ca, request)
  if (named === null) throw mismatch('it names one that is not on record here')
  if (named.lineage !== predecessor.lineage.id) throw mismatch('it names one of another lineage', named)
  for (const signer of signedData?.signers ?? []) {
    if (!('issuer' in signer.name)) continue // CMC: by key identifier, so by the key of the request itself
    const certificate = certificateOf(signer, signedData!)
    if (certificate === undefined) throw mismatch('the certificate of its signer is not in the envelope')
    if (!same(certificate.der, renewalCertificate)) throw mismatch('its signer has another certificate')
  }
  if (envelope === 'PKCS#7' && !signedData!.certificates.some(({ der }) => same(der, renewalCertificate)))
    throw mismatch('the certificate that it names is not in the envelope')
  return named
}

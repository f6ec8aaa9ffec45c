/**
 * Renewal: the same key, a new validity, always within a lineage. Another key is never a renewal
 * (RFC 4949, "certificate renewal" and "certificate rekey"), since shielded VMs would not start with it.
 *
 * With a request, its key must be the one on record. Without any key material the key on record is
 * certified again: the authority knows it, and the right to renew is what authorises.
 */
import { CaError } from '../errors.ts'
import { profiles } from '../hgs/profiles.ts'
import { gradeProvider, type ProviderEvidence } from '../hgs/provider.ts'
import type { CertificateRecord, Idempotency } from '../store/model.ts'
import { readCertificate, subjectAltNamesOf, type Certificate } from '../x509/certificate.ts'
import type { CertificationRequest } from '../x509/certificationRequest.ts'
import type { GeneralName } from '../x509/extensions.ts'
import { hexDigest, publicKeyPin } from '../x509/key.ts'
import { describeName, modernised } from '../x509/name.ts'
import { describeOid } from '../x509/oids.ts'
import type { CertificationAuthority } from './authority.ts'
import { carryOut, finishBegun, type Plan, type Requester } from './cycle.ts'
import { findCertificate } from './find.ts'
import { ignoredOf, type Findings } from './findings.ts'
import { pointerTo } from './issue.ts'
import { once, type Issued } from './once.ts'
import { rememberingRefusals } from './refusal.ts'
import { judged, readRequestFile } from './request.ts'
import { validityFrom } from './validity.ts'

export interface RenewalOrder {
  /** Id, serial number or thumbprint of the certificate to renew. */
  readonly reference: string
  /** A certification request over the same key, as it came; null to renew from the record. */
  readonly file: Uint8Array | string | null
  readonly provider: string | null
  readonly validityDays: number | null
  readonly reason: string | null
  readonly by: Requester
  readonly idempotency: Idempotency | null
}

/**
 * @throws CaError `notFound`, `renewalKeyChanged`, `certificateRevoked`, `certificateSuperseded`,
 *   and all that `issue` throws.
 */
export async function renew(ca: CertificationAuthority, order: RenewalOrder): Promise<Issued> {
  const { id } = await findCertificate(ca, order.reference)
  return rememberingRefusals(ca, order, id, () => once(ca, order.idempotency, () => renewOnce(ca, order, id)))
}

/** Judges a renewal of `predecessor`, and decides all of it. */
export async function renewalPlan(
  ca: CertificationAuthority,
  order: RenewalOrder,
  predecessor: CertificateRecord,
): Promise<Plan> {
  const old = readCertificate(predecessor.certificate)
  const request = order.file === null ? null : readRequestFile(order.file)
  if (request !== null) refuseAnotherKey(predecessor, request)
  await refuseUnlessCurrent(ca, predecessor)

  const profile = profiles[predecessor.purpose]
  const validity = validityFrom(ca.now(), order.validityDays, profile, ca.issuer.certificate)
  const publicKey = old.publicKey.rsa!
  const names = subjectAltNamesOf(old)
  const findings = JSON.parse(predecessor.findings) as Findings
  const provider = providerOf(request, order.provider, findings)
  // The whole profile again, as of now: what was good enough then may not be today.
  const warnings = await judged(
    {
      publicKey: old.publicKey,
      subject: old.subject,
      subjectAltNames: names,
      provider,
      request:
        request === null
          ? null
          : { signatureAlgorithm: request.signatureAlgorithm, envelope: request.envelope, possession: null },
      certificate: null,
    },
    profile,
    request,
    ca.issuer,
  )

  return {
    id: ca.store.newId(ca.now()),
    profile,
    lineage: predecessor.lineage,
    newLineage: false,
    generation: predecessor.generation + 1,
    predecessorId: predecessor.id,
    publicKey,
    subject: old.subject.der,
    dnsNames: names.map(({ text }) => text!),
    validity,
    certificationRequest: request?.der ?? null,
    findings: {
      keyBits: publicKey.bits,
      keyOrigin: findings.keyOrigin,
      provider,
      warnings,
      ignored: request === null ? [] : [...differences(request, old, names), ...ignoredOf(request)],
      notes: [...expiryNote(predecessor, ca.now()), ...validity.notes],
    },
    reason: order.reason,
    by: order.by,
    idempotency: order.idempotency,
  }
}

async function renewOnce(
  ca: CertificationAuthority,
  order: RenewalOrder,
  id: string,
): Promise<Issued | 'idempotencyKeyTaken'> {
  const predecessor = await findCertificate(ca, id)
  const outcome = await carryOut(ca, await renewalPlan(ca, order, predecessor))
  switch (outcome) {
    case 'idempotencyKeyTaken':
      return outcome
    case 'generationTaken':
      await finishBegun(ca, predecessor.lineage.id)
      await refuseUnlessCurrent(ca, await findCertificate(ca, predecessor.id))
      throw new Error('a generation is taken, but by no renewal')
    case 'keyTaken':
    case 'rekeyTaken':
    case 'kitTaken':
      throw new Error('a renewal made a lineage')
    default:
      return { certificate: outcome, pfx: null, replayed: false }
  }
}

/** The numbers are compared, by their canonical encoding; NULL parameters or none make no other key. */
function refuseAnotherKey(predecessor: CertificateRecord, request: CertificationRequest): void {
  const { algorithm, rsa, der } = request.publicKey
  const expected = predecessor.lineage.publicKeyPin
  const found = rsa === null ? hexDigest('sha256', der) : publicKeyPin(rsa)
  if (found === expected) return
  const kind = rsa === null ? ` (${describeOid(algorithm)})` : ''
  const consequence =
    predecessor.purpose === 'https'
      ? 'For a new key, issue a new certificate.'
      : 'Shielded VMs would not start with it.'
  throw new CaError(
    'renewalKeyChanged',
    `The request has another key than the certificate to renew${kind}. ${consequence}`,
    {
      errors: [
        {
          rule: 'renewalKey',
          property: 'Renewal',
          required: `the same key, with pin ${expected}`,
          found: `another key${kind}, with pin ${found}`,
          fix: 'certreq: UseExistingKeySet = TRUE with the KeyContainer of the old key. Or send no request at all: the key on record is renewed.',
        },
      ],
      facts: {
        publicKeyPin: { expected, found },
        hresult: '0x80094816',
        ...pointerTo(predecessor),
      },
    },
  )
}

async function refuseUnlessCurrent(
  ca: CertificationAuthority,
  certificate: CertificateRecord,
): Promise<void> {
  const current =
    certificate.renewedById === null ? certificate : await ca.store.currentCertificate(certificate.lineage.id)
  if (certificate.revocation !== null) {
    throw new CaError(
      'certificateRevoked',
      `This certificate was revoked (${certificate.revocation.reason}) and is not renewed.`,
      {
        facts: { revocation: certificate.revocation, ...pointerTo(current) },
      },
    )
  }
  if (certificate.renewedById !== null) {
    throw new CaError(
      'certificateSuperseded',
      `This certificate has been renewed. The current one is generation ${current?.generation}.`,
      {
        facts: pointerTo(current),
      },
    )
  }
}

/** What the request says now; where it says nothing, what was known of the key before. */
function providerOf(
  request: CertificationRequest | null,
  declared: string | null,
  earlier: Findings,
): ProviderEvidence {
  const evidence = gradeProvider(request?.provider ?? null, declared)
  return evidence.grade === 'unknown' ? earlier.provider : evidence
}

/** A renewal keeps subject and names too: VM owners know the key by them. What the request says else is not taken. */
function differences(
  request: CertificationRequest,
  old: Certificate,
  names: readonly GeneralName[],
): string[] {
  const asked = describeName(modernised(request.subject))
  const fold = (all: readonly GeneralName[]) =>
    all
      .map(({ type, text }) => `${type}:${text?.toLowerCase()}`)
      .sort()
      .join()
  return [
    ...(asked === describeName(old.subject) || request.subject.rdns.length === 0
      ? []
      : [`subject ${asked}: a renewal keeps ${describeName(old.subject)}`]),
    ...(request.subjectAltNames.length === 0 || fold(request.subjectAltNames) === fold(names)
      ? []
      : [
          'subjectAltName: a renewal keeps the names of the certificate. For other names, issue a new certificate',
        ]),
  ]
}

function expiryNote({ notAfter }: CertificateRecord, now: Date): string[] {
  if (notAfter >= now) return []
  const days = Math.floor((now.getTime() - notAfter.getTime()) / 86_400_000)
  return [
    `The certificate had expired on ${notAfter.toISOString()}, ${days} days before this renewal. HGS does not look at that; tenants do.`,
  ]
}

/**
 * Revoking a certificate (RFC 5280 §5.3.1), and putting one on hold and taking it off again.
 *
 * HGS looks at no revocation (hgs/consequences.ts), so it stops nobody who has the key; it is for those who
 * verify. A key that was compromised is another matter: every certificate over it is revoked, and it is
 * neither certified, renewed nor handed out again.
 */
import { CaError } from '../errors.ts'
import { bySystem } from '../events.ts'
import type { CertificateRecord, NewAuditEvent, ToRevoke } from '../store/model.ts'
import type { CrlReason } from '../x509/crl.ts'
import type { CertificationAuthority } from './authority.ts'
import type { Requester } from './cycle.ts'
import { findCertificate, pointerTo } from './find.ts'
import { untold, warningOf } from './revocationLists.ts'

export interface RevocationRequest {
  /** Id, serial number or thumbprint. */
  readonly reference: string
  readonly reason: CrlReason
  /** For people; it stands in the audit trail. */
  readonly comment: string | null
  readonly by: Requester
}

export interface Revoked {
  readonly certificate: CertificateRecord
  /** The ids of all that were revoked by this: none when it was so already. */
  readonly revoked: readonly string[]
  /** Why verifiers will not hear of it: sentences. */
  readonly warnings: readonly string[]
}

/** How often a race with a peer over the same certificates is run before it is given up. */
const attempts = 8

/**
 * Saying it again changes nothing.
 *
 * @throws CaError `notFound`, `alreadyRevoked` for another reason, `storeUnavailable`.
 */
export async function revoke(ca: CertificationAuthority, request: RevocationRequest): Promise<Revoked> {
  const { id } = await findCertificate(ca, request.reference)
  const revoked: string[] = []
  let warnings: readonly string[] = []
  for (let attempt = 0; attempt < attempts; attempt++) {
    const certificate = await findCertificate(ca, id)
    const missing = await notYet(ca, certificate, request.reason)
    const authorities = [certificate, ...missing].map(({ authority }) => authority)
    warnings = [...new Set([...warnings, ...untold(authorities, ca.loaded, ca.now()).map(warningOf)])]
    if (missing.length === 0) {
      if (revoked.length > 0) for (const warning of warnings) ca.log.warn({ revoked }, warning)
      return { certificate, revoked, warnings }
    }
    const outcome =
      request.reason === 'certificateHold'
        ? await hold(ca, certificate, request)
        : await revokeAll(ca, missing, request)
    if (outcome === 'recorded') revoked.push(...missing.map((one) => one.id))
  }
  throw new CaError('busy', 'Others are revoking the same certificates.', { facts: { retryAfterSeconds: 1 } })
}

/**
 * Takes a certificate off hold. Saying it again changes nothing.
 *
 * @throws CaError `notFound`, `alreadyRevoked` when it is no hold, `storeUnavailable`.
 */
export async function release(
  ca: CertificationAuthority,
  { reference, comment, by }: Omit<RevocationRequest, 'reason'>,
): Promise<CertificateRecord> {
  const certificate = await findCertificate(ca, reference)
  const { revocation } = certificate
  if (revocation === null) return certificate
  if (revocation.reason !== 'certificateHold')
    throw alreadyRevoked(certificate, 'A revocation is for good; only a hold is taken back.')
  const last = await ca.store.lastHold(certificate.id)
  const releasedAt = ca.now()
  await ca.store.recordRelease(
    { holdId: last!.id, requestedBy: by.name, releasedAt },
    eventOf(releasedAt, 'certificate.released', certificate, by, { comment }),
  )
  ca.revocations.changed()
  return findCertificate(ca, certificate.id)
}

/**
 * Revokes what is left over a compromised key: what was renewed meanwhile, or stood beside a certificate
 * that was revoked as one of many.
 *
 * @returns how many.
 */
export async function revokeLatecomers(ca: Records): Promise<number> {
  let count = 0
  for (;;) {
    const late = await ca.store.unrevokedOfCompromised()
    if (late.length === 0) return count
    const outcome = await revokeAll(ca, late, {
      reason: 'keyCompromise',
      comment: 'another certificate over its key was revoked so',
      by: { ...bySystem, name: bySystem.actor },
    })
    if (outcome === 'alreadyRevoked') return count // a peer is at it
    count += late.length
  }
}

/** What is needed to write a revocation down, and to tell everybody who tells of them. */
type Records = Pick<CertificationAuthority, 'store' | 'now' | 'revocations' | 'metrics'>
/** Who revokes, as far as the audit trail tells it. */
type By = Pick<NewAuditEvent, 'address' | 'requestId'> & { readonly name: string }

/** What is still to be revoked: the certificate, and with a compromised key all others over it. */
async function notYet(
  ca: CertificationAuthority,
  certificate: CertificateRecord,
  reason: CrlReason,
): Promise<readonly CertificateRecord[]> {
  const { revocation } = certificate
  const isFinal = revocation !== null && revocation.reason !== 'certificateHold'
  // With a compromised key it is about all certificates over it, whatever became of this one.
  const others = reason === 'keyCompromise' ? await ca.store.unrevokedOf(certificate.lineageId) : []
  if (others.length > 0) return others
  if (isFinal && revocation.reason !== reason && !(await isDone(ca, certificate, reason)))
    throw alreadyRevoked(certificate, `This certificate was revoked already (${revocation.reason}).`)
  if (reason === 'certificateHold') return revocation === null ? [certificate] : []
  return isFinal ? [] : [certificate]
}

/** Whether the key is known to be compromised by another certificate over it. */
const isDone = async (
  ca: CertificationAuthority,
  { lineageId }: CertificateRecord,
  reason: CrlReason,
): Promise<boolean> => reason === 'keyCompromise' && ca.store.isCompromised(lineageId)

async function hold(
  ca: CertificationAuthority,
  certificate: CertificateRecord,
  { comment, by }: RevocationRequest,
): Promise<'recorded' | 'taken'> {
  const last = await ca.store.lastHold(certificate.id)
  if (last !== null && !last.isReleased) return 'taken' // a peer was faster
  const heldAt = ca.now()
  const outcome = await ca.store.recordHold(
    {
      id: ca.store.newId(heldAt),
      certificateId: certificate.id,
      ordinal: (last?.ordinal ?? 0) + 1,
      requestedBy: by.name,
      heldAt,
    },
    eventOf(heldAt, 'certificate.held', certificate, by, { comment }),
  )
  if (outcome === 'recorded') ca.revocations.changed()
  return outcome
}

async function revokeAll(
  ca: Records,
  certificates: readonly ToRevoke[],
  { reason, comment, by }: Pick<RevocationRequest, 'reason' | 'comment'> & { readonly by: By },
): Promise<'recorded' | 'alreadyRevoked'> {
  const revokedAt = ca.now()
  const outcome = await ca.store.recordRevocations(
    certificates.map(({ id }) => ({
      certificateId: id,
      reason,
      requestedBy: by.name,
      revokedAt,
      orderId: null,
    })),
    certificates.map((certificate) =>
      eventOf(revokedAt, 'certificate.revoked', certificate, by, { reason, comment }),
    ),
  )
  if (outcome === 'recorded') {
    ca.metrics.count('hgsca_certificates_revoked_total', { reason }, certificates.length)
    ca.revocations.changed()
  }
  return outcome
}

const alreadyRevoked = (certificate: CertificateRecord, detail: string): CaError =>
  new CaError('alreadyRevoked', detail, {
    facts: { revocation: certificate.revocation, ...pointerTo(certificate) },
  })

/** What the audit trail tells of it. */
export const eventOf = (
  at: Date,
  type: 'certificate.revoked' | 'certificate.held' | 'certificate.released',
  { id, serialNumber, lineageId }: ToRevoke,
  by: By,
  details: Readonly<Record<string, unknown>>,
): NewAuditEvent => ({
  at,
  type,
  outcome: 'success',
  actor: by.name,
  address: by.address,
  requestId: by.requestId,
  objectId: id,
  details: { serialNumber, lineage: lineageId, ...details },
})

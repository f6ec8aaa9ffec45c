/**
 * Handing out a key in escrow again: the same key with its current certificate, in a new PFX, for a
 * rebuilt HGS or a second cluster. It is on record before it is answered, repetitions too.
 */
import { CaError } from '../errors.ts'
import type { Escrow } from '../keys/escrow.ts'
import type { CertificateRecord, DeliveryRecord, EscrowedKeyRecord, Idempotency } from '../store/model.ts'
import { approvalForDelivery, waits, type Awaiting } from './approval.ts'
import type { CertificationAuthority } from './authority.ts'
import { keyInPfx, openedKey, type PfxTerms } from './custody.ts'
import type { Requester } from './cycle.ts'
import { pointerTo, withLoadedChain } from './find.ts'
import { currentOf, findLineage } from './lineage.ts'
import { reused } from './once.ts'
import { rememberingRefusals } from './refusal.ts'

/** Milliseconds: who did not get the answer asks again at once. One approval is good for one handing out. */
const repeatable = 3_600_000

export interface DeliveryOrder {
  readonly lineageId: string
  readonly reason: string
  readonly pfx: PfxTerms
  readonly by: Requester
  readonly idempotency: Idempotency | null
}

export interface Delivered {
  readonly delivery: DeliveryRecord
  readonly certificate: CertificateRecord
  readonly pfx: Uint8Array
  /** Whether this repeats an earlier request: then it is the same delivery, in another PFX. */
  readonly replayed: boolean
}

/**
 * @returns what waits, when there is no approval yet: a delivery always needs one.
 * @throws CaError `notFound`, `keyNotEscrowed`, `escrowNotConfigured`, `certificateRevoked`,
 *   `keyAlreadyDelivered`, `requestRejected`, `tooManyRequestsWait`, `idempotencyKeyReused`, `issuanceInterrupted`, `storeUnavailable`.
 */
export async function deliver(
  ca: CertificationAuthority,
  order: DeliveryOrder,
): Promise<Delivered | Awaiting> {
  const lineage = await findLineage(ca, order.lineageId)
  const act = async (): Promise<Delivered | Awaiting> => {
    const earlier = await repeated(ca, order.idempotency)
    if (earlier !== null) return again(ca, order, earlier)

    const certificate = withLoadedChain(ca, await currentOf(ca, lineage.id))
    await inEscrow(ca, certificate) // nobody approves what cannot be handed out
    const approval = await approvalForDelivery(ca, order, certificate)
    if (waits(approval)) return approval
    if (approval === 'idempotencyKeyTaken') return act() // a peer was faster
    const { pfx, escrowKeyId } = await wrapped(ca, order, certificate)
    const now = ca.now()
    const delivery: DeliveryRecord = {
      id: ca.store.newDeliveryId(now, order.idempotency),
      lineageId: lineage.id,
      certificateId: certificate.id,
      reason: order.reason,
      requestedBy: order.by.name,
      deliveredAt: now,
    }
    const event = eventOf(ca, order, delivery, { escrowKeyId, request: approval.requestId })
    const taken = { idempotency: order.idempotency, approval: approval.requestId }
    const outcome = await ca.store.recordDelivery(delivery, taken, event)
    return outcome === 'recorded' ? { delivery, certificate, pfx, replayed: false } : act() // a peer was faster
  }
  return rememberingRefusals(ca, order, lineage.id, act, 'key.refused')
}

async function repeated(
  ca: CertificationAuthority,
  claim: Idempotency | null,
): Promise<DeliveryRecord | null> {
  const earlier = claim && (await ca.store.findDelivery(claim))
  if (earlier === null) return null
  if (earlier.fingerprint !== claim!.fingerprint || earlier.delivery === null) throw reused()
  return earlier.delivery
}

async function again(
  ca: CertificationAuthority,
  order: DeliveryOrder,
  delivery: DeliveryRecord,
): Promise<Delivered> {
  const certificate = withLoadedChain(ca, (await ca.store.findCertificate({ id: delivery.certificateId }))!)
  if (ca.now().getTime() - delivery.deliveredAt.getTime() >= repeatable)
    throw new CaError(
      'keyAlreadyDelivered',
      `This key was handed out on ${delivery.deliveredAt.toISOString()}; a repetition is answered for an hour. Order it under a new Idempotency-Key, which needs another approval.`,
      { facts: pointerTo(certificate) },
    )
  const { pfx, escrowKeyId } = await wrapped(ca, order, certificate)
  await ca.store.recordEvent(eventOf(ca, order, delivery, { escrowKeyId, repeated: true }))
  return { delivery, certificate, pfx, replayed: true }
}

/** The key of `certificate` as it is sealed, unless it must not be handed out. */
async function inEscrow(
  ca: CertificationAuthority,
  certificate: CertificateRecord,
): Promise<{ readonly escrow: Escrow; readonly known: EscrowedKeyRecord }> {
  const { lineage, revocation } = certificate
  if (revocation !== null || (await ca.store.isCompromised(lineage.id))) {
    const why = `A certificate over this key was revoked (${revocation?.reason ?? 'keyCompromise'}), so the key is not handed out.`
    throw new CaError('certificateRevoked', why, { facts: pointerTo(certificate) })
  }
  const sealed = await ca.store.escrowedKeys(lineage.id)
  const [oldest] = sealed
  if (oldest === undefined)
    throw new CaError('keyNotEscrowed', 'This key is not in escrow.', { facts: pointerTo(certificate) })
  const { escrow } = ca
  const known = escrow && sealed.findLast(({ escrowKeyId }) => escrow.has(escrowKeyId))
  if (escrow === null || known == null) {
    const keyId = oldest.escrowKeyId
    throw new CaError('escrowNotConfigured', `The escrow key ${keyId} sealed it, which is not configured.`)
  }
  return { escrow, known }
}

/** The key of `certificate` out of escrow and into a PFX, unless that must not be. */
async function wrapped(
  ca: CertificationAuthority,
  { pfx }: DeliveryOrder,
  certificate: CertificateRecord,
): Promise<{ readonly pfx: Uint8Array; readonly escrowKeyId: string }> {
  const { escrow, known } = await inEscrow(ca, certificate)
  let privateKey: Uint8Array
  try {
    privateKey = openedKey(escrow, known)
  } catch (cause) {
    throw new Error(`the key of the lineage ${certificate.lineage.id} cannot be had from escrow`, { cause })
  }
  try {
    return { pfx: await keyInPfx(privateKey, certificate, pfx), escrowKeyId: known.escrowKeyId }
  } finally {
    privateKey.fill(0)
  }
}

const eventOf = (
  ca: CertificationAuthority,
  { by, reason }: DeliveryOrder,
  { id, lineageId, certificateId }: DeliveryRecord,
  more: Readonly<Record<string, unknown>>,
) => ({
  at: ca.now(),
  type: 'key.delivered' as const,
  outcome: 'success' as const,
  actor: by.name,
  address: by.address,
  requestId: by.requestId,
  objectId: lineageId,
  details: { delivery: id, certificate: certificateId, reason, ...more },
})

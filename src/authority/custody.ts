/**
 * Custody: what became of the private key of a lineage.
 *
 * By default the service forgets a key that it made. In escrow it is kept, sealed under a key that is
 * not in the record (keys/escrow.ts), and written down together with the intent to certify it: so that
 * an issuance that is interrupted keeps its key.
 */
import { createPrivateKey } from 'node:crypto'
import { CaError } from '../errors.ts'
import type { Escrow } from '../keys/escrow.ts'
import type {
  BesideLineage,
  CertificateRecord,
  CustodyRecord,
  EscrowedKeyRecord,
  LineageRecord,
} from '../store/model.ts'
import { publicKeyPin as pinOf, rsaPublicKeyOf } from '../x509/key.ts'
import { writePfx, type PfxTarget } from '../x509/pfx.ts'
import type { CertificationAuthority } from './authority.ts'
import { issuersOf, noLineage } from './find.ts'
import type { Findings } from './findings.ts'

/** What is to become of a key that the service makes. */
export type Custody = 'forgotten' | 'escrow'

/** How a key leaves the service. */
export interface PfxTerms {
  readonly password: string
  readonly target: PfxTarget
}

type WithEscrow = Pick<CertificationAuthority, 'escrow'>

/** @throws CaError `escrowNotConfigured`. */
export function refuseWithoutEscrow({ escrow }: WithEscrow): Escrow {
  if (escrow !== null) return escrow
  throw new CaError('escrowNotConfigured', 'This service has no escrow key, so it keeps no private key.')
}

/**
 * A key that was made for a lineage, sealed: for `Plan.beside`.
 *
 * @param privateKey - PKCS#8 in clear; it is left as it is, and the caller wipes it.
 * @throws CaError `escrowNotConfigured`.
 */
export function sealedKey(
  ca: WithEscrow,
  { id, publicKeyPin }: Pick<LineageRecord, 'id' | 'publicKeyPin'>,
  privateKey: Uint8Array,
): NonNullable<BesideLineage['escrow']> {
  const escrow = refuseWithoutEscrow(ca)
  return { escrowKeyId: escrow.keyId, sealed: escrow.seal(privateKey, { lineageId: id, publicKeyPin }) }
}

/**
 * A sealed key in clear, PKCS#8, once it has been compared with the pin. Whoever takes it wipes it with fill(0).
 *
 * @throws Error when it does not open, or is another key: what is in the record was changed.
 */
export function openedKey(escrow: Escrow, { lineage, escrowKeyId, sealed }: EscrowedKeyRecord): Uint8Array {
  const { id: lineageId, publicKeyPin } = lineage
  const privateKey = escrow.open(sealed, escrowKeyId, { lineageId, publicKeyPin })
  try {
    const key = createPrivateKey({ key: privateKey as Buffer, format: 'der', type: 'pkcs8' })
    if (pinOf(rsaPublicKeyOf(key)) === publicKeyPin) return privateKey
    throw new Error('it opens, but holds another key than the one on record')
  } catch (error) {
    privateKey.fill(0)
    throw error
  }
}

/** A key with its certificate and those above it, as Windows takes them. `privateKey` is left as it is. */
export const keyInPfx = (
  privateKey: Uint8Array,
  certificate: CertificateRecord,
  { password, target }: PfxTerms,
): Promise<Uint8Array> =>
  writePfx({
    privateKey,
    certificate: certificate.certificate,
    chain: issuersOf(certificate),
    password,
    friendlyName: `HGS ${certificate.purpose} ${certificate.thumbprint}`, // ASCII: some readers garble the rest
    target,
  })

/** A key that was handed out: in the answer to its issuance, or later from escrow. */
export interface Handover {
  readonly occasion: 'issuance' | 'delivery'
  /** Of the delivery; of the certificate when it was the issuance. */
  readonly id: string
  readonly certificateId: string
  readonly reason: string | null
  readonly requestedBy: string
  readonly deliveredAt: Date
}

export interface CustodyLedger {
  readonly lineage: LineageRecord
  /** Who made the key. */
  readonly keyOrigin: Findings['keyOrigin']
  readonly adoption: CustodyRecord['adoption']
  /** Null when the service does not have the key. */
  readonly escrow: {
    readonly escrowKeyId: string
    readonly escrowedAt: Date
    /** Whether its escrow key is configured. */
    readonly opens: boolean
  } | null
  /** Oldest first. */
  readonly handovers: readonly Handover[]
  /** Where to go on; null when nothing follows. */
  readonly next: string | null
}

/**
 * What is on record of the key of a lineage: who made it, whether it is kept, who was given it.
 *
 * @param page.limit - how many handovers from escrow at most, 1 or more.
 * @param page.after - `next` of the page before. The issuance stands on the first page.
 * @throws CaError `notFound`.
 */
export async function custodyOf(
  { store, escrow }: Pick<CertificationAuthority, 'store' | 'escrow'>,
  lineageId: string,
  { limit, after }: { readonly limit: number; readonly after?: string | undefined },
): Promise<CustodyLedger> {
  const custody = await store.findCustody(lineageId.toLowerCase())
  if (custody === null) throw noLineage()
  const { lineage, adoption, escrows, first } = custody
  const found = await store.deliveriesOf(lineage.id, { limit: limit + 1, after })
  const shown = found.slice(0, limit)
  const { keyOrigin } = JSON.parse(first.findings) as Findings
  const sealed = escrows.findLast(({ escrowKeyId }) => escrow?.has(escrowKeyId)) ?? escrows.at(-1)
  return {
    lineage,
    keyOrigin,
    adoption,
    escrow: sealed === undefined ? null : { ...sealed, opens: escrow?.has(sealed.escrowKeyId) ?? false },
    handovers: [
      ...(after === undefined && keyOrigin === 'service' ? issuanceOf(first) : []),
      ...shown.map((delivery) => ({ occasion: 'delivery' as const, ...delivery })),
    ],
    next: found.length > limit ? shown.at(-1)!.id : null,
  }
}

function issuanceOf({ certificateId, issuedAt, reason, requestedBy }: CustodyRecord['first']): Handover[] {
  if (issuedAt === null) return []
  const deliveredAt = issuedAt
  return [{ occasion: 'issuance', id: certificateId, certificateId, reason, requestedBy, deliveredAt }]
}

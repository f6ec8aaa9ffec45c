/**
 * Custody: what became of the private key of a lineage.
 *
 * By default the service forgets a key that it made. In escrow it is kept, sealed under a key that is
 * not in the record (keys/escrow.ts), and written down together with the intent to certify it: so that
 * an issuance that is interrupted keeps its key.
 */
import { CaError } from '../errors.ts'
import type { Escrow } from '../keys/escrow.ts'
import type { BesideLineage, LineageRecord } from '../store/model.ts'
import type { CertificationAuthority } from './authority.ts'

/** What is to become of a key that the service makes. */
export type Custody = 'forgotten' | 'escrow'

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

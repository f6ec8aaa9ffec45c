/**
 * What is done with all keys in escrow at once, on the host: the drill for the day they are needed, and
 * the change to another escrow key. Nothing leaves the service here.
 */
import type { EventType } from '../events.ts'
import type { Escrow } from '../keys/escrow.ts'
import type { EscrowedKeyRecord, NewAuditEvent } from '../store/model.ts'
import type { Store } from '../store/open.ts'
import { openedKey } from './custody.ts'

export interface Keeper {
  readonly store: Store
  readonly escrow: Escrow
  readonly now: () => Date
  /** Who does it, for the audit trail. */
  readonly actor: string
}

/** A key that cannot be had from escrow. */
export interface Failure {
  readonly lineageId: string
  readonly why: string
}

export interface Tally {
  /** Lineages whose key is in escrow. */
  readonly keys: number
  readonly failures: number
}

const atOnce = 100 // lineages read in one go, 2 kB each

/** Opens every key in escrow and compares it with its pin. */
export const verifyEscrow = (keeper: Keeper, tell: (failure: Failure) => void): Promise<Tally & Done> =>
  forEach(keeper, 'escrow.verified', tell, (sealed) => {
    // One that is left from an earlier escrow key does no harm when there is another that opens.
    const known = sealed.filter(({ escrowKeyId }) => keeper.escrow.has(escrowKeyId))
    if (known.length === 0)
      throw new Error(`the escrow key ${sealed.at(-1)!.escrowKeyId} sealed it, which is not configured`)
    for (const one of known) openedKey(keeper.escrow, one).fill(0)
    return false
  })

/** Seals every key that an earlier escrow key has sealed once more, under the one of today. */
export const resealEscrow = (keeper: Keeper, tell: (failure: Failure) => void): Promise<Tally & Done> =>
  forEach(keeper, 'escrow.resealed', tell, async (sealed) => {
    const { store, escrow, now } = keeper
    if (sealed.some(({ escrowKeyId }) => escrow.keyId === escrowKeyId)) return false
    const known = sealed.findLast(({ escrowKeyId }) => escrow.has(escrowKeyId))
    if (known === undefined)
      throw new Error(`the escrow key ${sealed.at(-1)!.escrowKeyId} sealed it, which is not configured`)
    const { lineage } = known
    const privateKey = openedKey(escrow, known)
    try {
      const belongs = { lineageId: lineage.id, publicKeyPin: lineage.publicKeyPin }
      const again = { lineage, escrowKeyId: escrow.keyId, sealed: escrow.seal(privateKey, belongs) }
      const details = { escrowKeyId: escrow.keyId, before: known.escrowKeyId }
      const event = eventOf(keeper, 'key.escrowed', lineage.id, 'success', details)
      return await store.addEscrowedKey({ ...again, escrowedAt: now() }, event)
    } finally {
      privateKey.fill(0)
    }
  })

interface Done {
  /** Keys that were written anew. */
  readonly written: number
}

/**
 * Does `act` for the sealings of each lineage, tells which fail, and writes down how it went.
 *
 * @param act - says whether it wrote something; what it throws is a failure of that key alone.
 */
async function forEach(
  keeper: Keeper,
  type: EventType,
  tell: (failure: Failure) => void,
  act: (sealed: readonly EscrowedKeyRecord[]) => boolean | Promise<boolean>,
): Promise<Tally & Done> {
  let [keys, failures, written] = [0, 0, 0]
  for (let after: string | undefined; ;) {
    const some = await keeper.store.everyEscrowedKey({ limit: atOnce, after })
    if (some.length === 0) break
    for (const sealed of some) {
      keys++
      try {
        if (await act(sealed)) written++
      } catch (error) {
        if ((error as { code?: unknown }).code === 'storeUnavailable') throw error
        failures++
        tell({ lineageId: sealed[0]!.lineage.id, why: (error as Error).message })
      }
    }
    after = some.at(-1)![0]!.lineage.id
  }
  const tally = { keys, failures, written }
  const outcome = failures === 0 ? 'success' : 'failure'
  const details = { ...tally, escrowKeyId: keeper.escrow.keyId }
  await keeper.store.recordEvent(eventOf(keeper, type, null, outcome, details))
  return tally
}

const eventOf = (
  { actor, now }: Keeper,
  type: EventType,
  objectId: string | null,
  outcome: NewAuditEvent['outcome'],
  details: NewAuditEvent['details'],
): NewAuditEvent => ({ at: now(), type, outcome, actor, address: null, requestId: null, objectId, details })

/**
 * Revoking many certificates by one order: those of an authority, of a key, of a purpose, of a period. The
 * order is on record with what it selects before the first of them is revoked, so whatever ends the
 * process, the next start goes on, and in the end exactly those are revoked that were meant.
 */
import { CaError } from '../errors.ts'
import type { Log } from '../store/log.ts'
import type { NewAuditEvent, RevocationOrderRecord, RevocationSelection, ToRevoke } from '../store/model.ts'
import type { Store } from '../store/open.ts'
import { nextTurn } from '../turns.ts'
import type { CrlReason } from '../x509/crl.ts'
import type { CertificationAuthority } from './authority.ts'
import type { Requester } from './cycle.ts'
import { untold, warningOf } from './revocationLists.ts'
import { eventOf } from './revoke.ts'

/** How many are revoked in one transaction. */
const atOnce = 100
/**
 * For how long after it was carried out an order is looked at again, in milliseconds: what was being issued
 * meanwhile is on record by then, or else after a start, which finishes what a crash has interrupted.
 */
const watched = 15 * 60_000
const watchedAtStart = 30 * 86_400_000

export interface ManyRevocations {
  readonly selection: RevocationSelection
  /** Not certificateHold: what is revoked so is revoked for good. */
  readonly reason: Exclude<CrlReason, 'certificateHold'>
  readonly comment: string | null
  readonly by: Requester
}

/** How many certificates an order would revoke now, the first of them, and why verifiers will not hear of it. */
export const rehearseMany = async (
  ca: CertificationAuthority,
  selection: RevocationSelection,
): Promise<{
  readonly total: number
  readonly first: readonly ToRevoke[]
  readonly warnings: readonly string[]
}> => {
  const { store, now } = ca
  const before = store.newId(now())
  return {
    total: await store.countToRevoke(selection, before),
    first: await store.toRevoke(selection, { before, limit: 20 }),
    warnings: await untoldOf(ca, selection, before),
  }
}

const untoldOf = async (
  { store, loaded, now }: CertificationAuthority,
  selection: RevocationSelection,
  before: string,
): Promise<string[]> =>
  untold(await store.authoritiesToRevoke(selection, before), loaded, now()).map(warningOf)

/** Writes the order down; it is carried out from then on. */
export async function orderMany(
  ca: CertificationAuthority,
  { selection, reason, comment, by }: ManyRevocations,
): Promise<RevocationOrderRecord> {
  const { store, now, revocations, log } = ca
  const createdAt = now()
  const id = store.newId(createdAt)
  const total = await store.countToRevoke(selection, id)
  const warnings = await untoldOf(ca, selection, id)
  const { name: requestedBy, requestId, address } = by
  const order = { id, selection, reason, total, requestedBy, requestId, createdAt }
  await store.recordRevocationOrder(order, {
    at: createdAt,
    type: 'revocations.ordered',
    outcome: 'success',
    actor: requestedBy,
    address,
    requestId,
    objectId: id,
    details: { selection, reason, total, comment },
  })
  for (const warning of warnings) log.warn({ order: id }, warning)
  revocations.carryOut()
  return { ...order, revoked: 0, completedAt: null }
}

/** @throws CaError `notFound`. */
export async function readOrder(
  { store }: CertificationAuthority,
  id: string,
): Promise<RevocationOrderRecord> {
  const order = await store.findRevocationOrder(id.toLowerCase())
  if (order === null) throw new CaError('notFound', 'There is no revocation order with this id.')
  return order
}

/**
 * Carries out what was ordered and is not done, by whichever instance it was ordered.
 *
 * @returns `wake`: there is something to do; `stop`: resolves when nothing is being done any more.
 */
export function revocationOrders({
  store,
  now,
  log,
  onRevoked,
}: {
  readonly store: Store
  readonly now: () => Date
  readonly log: Log
  readonly onRevoked: (reason: string, count: number) => void
}) {
  let stopped = false
  let wanted = false
  let underWay: Promise<void> | undefined
  let reach = watchedAtStart

  async function carryOut(order: RevocationOrderRecord): Promise<void> {
    for (let after: string | undefined; !stopped;) {
      const page = await store.toRevoke(order.selection, { before: order.id, limit: atOnce, after })
      if (page.length > 0) {
        let revoked = page.length
        if ((await revoke(order, page)) === 'alreadyRevoked') {
          revoked = 0 // one of them is, by somebody else meanwhile
          for (const one of page) if ((await revoke(order, [one])) === 'recorded') revoked++
        }
        onRevoked(order.reason, revoked)
      }
      if (page.length < atOnce) {
        if (order.completedAt !== null) return
        const { revoked } = (await store.findRevocationOrder(order.id))!
        await store.completeRevocationOrder(order.id, now(), completed(now(), order, revoked))
        log.info({ order: order.id, revoked }, 'a revocation order is carried out')
        return
      }
      after = page.at(-1)!.id
      await nextTurn()
    }
  }

  function revoke(order: RevocationOrderRecord, page: readonly ToRevoke[]) {
    const revokedAt = now()
    const { id: orderId, reason, requestedBy, requestId } = order
    const by = { name: requestedBy, address: null, requestId }
    return store.recordRevocations(
      page.map(({ id }) => ({ certificateId: id, reason, requestedBy, revokedAt, orderId })),
      page.map((one) =>
        eventOf(revokedAt, 'certificate.revoked', one, by, { reason, comment: null, order: orderId }),
      ),
    )
  }

  async function round(): Promise<void> {
    while (wanted && !stopped) {
      wanted = false
      try {
        const since = new Date(now().getTime() - reach)
        reach = watched
        for (const order of await store.openRevocationOrders(since))
          await carryOut(order).catch((error: unknown) =>
            log.error(
              { err: error, order: order.id },
              'a revocation order could not be carried out; it is tried again',
            ),
          )
      } catch (error) {
        log.error({ err: error }, 'revocation orders could not be looked for')
      }
    }
  }

  return {
    wake: (): void => {
      wanted = true
      underWay ??= round().finally(() => (underWay = undefined))
    },
    async stop(): Promise<void> {
      stopped = true
      await underWay
    },
  }
}

const completed = (at: Date, order: RevocationOrderRecord, revoked: number): NewAuditEvent => ({
  at,
  type: 'revocations.completed',
  outcome: 'success',
  actor: order.requestedBy,
  address: null,
  requestId: order.requestId,
  objectId: order.id,
  details: { revoked },
})

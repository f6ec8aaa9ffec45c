/** The record of private keys: which are in escrow, and to whom they were handed out. */

import { randomUUID } from 'node:crypto'
import type { Prisma } from './generated/sqlite/client.ts'
import { auditRow } from './audit.ts'
import type { Client, Database } from './database.ts'
import { violatedConstraint } from './faults.ts'
import type {
  CustodyRecord,
  DeliveryRecord,
  EscrowedKeyRecord,
  Idempotency,
  LineageRecord,
  NewAuditEvent,
  Purpose,
} from './model.ts'
import { insert } from './rows.ts'
import { namedUuidv7 } from './uuid.ts'

export function custodyFunctions(database: Database) {
  async function escrowedKeysOf(lineageIds: readonly string[]): Promise<EscrowedKeyRecord[]> {
    const rows = await database.read((client) =>
      client.escrowedKey.findMany({
        where: { lineageId: { in: [...lineageIds] } },
        orderBy: [{ lineageId: 'asc' }, { escrowedAt: 'asc' }],
        include: { lineage: true },
      }),
    )
    return rows.map((row) => ({ ...row, lineage: asLineage(row.lineage) }))
  }

  return {
    /** Null when there is no such lineage. */
    findCustody: (lineageId: string): Promise<CustodyRecord | null> =>
      database.read(async (client) => {
        const row = await client.lineage.findUnique({
          where: { id: lineageId },
          include: {
            adoption: { select: { thumbprint: true, reason: true, requestedBy: true, adoptedAt: true } },
            escrowedKeys: {
              select: { escrowKeyId: true, escrowedAt: true },
              orderBy: { escrowedAt: 'asc' },
            },
            intents: {
              where: { generation: 1 },
              select: {
                id: true,
                findings: true,
                reason: true,
                requestedBy: true,
                certificate: { select: { issuedAt: true } },
              },
            },
          },
        })
        if (row === null) return null
        const { adoption, escrowedKeys, intents, ...lineage } = row
        const { id, certificate, ...first } = intents[0]! // a lineage is written down with it
        return {
          lineage: asLineage(lineage),
          adoption,
          escrows: escrowedKeys,
          first: { ...first, certificateId: id, issuedAt: certificate?.issuedAt ?? null },
        }
      }),

    /** The key of a lineage as often as it is sealed, once for each escrow key. */
    escrowedKeys: (lineageId: string): Promise<EscrowedKeyRecord[]> => escrowedKeysOf([lineageId]),

    /**
     * All keys in escrow: for each lineage its key as often as it is sealed, oldest first.
     *
     * @param page.limit - how many lineages at most.
     * @param page.after - the id of the last lineage that was given before.
     */
    async everyEscrowedKey(page: {
      readonly limit: number
      readonly after?: string | undefined
    }): Promise<EscrowedKeyRecord[][]> {
      const rows = await database.read(
        (client) => client.$queryRaw<{ id: string }[]>`
          SELECT DISTINCT e."lineageId" AS "id" FROM "EscrowedKey" e
          WHERE e."lineageId" > ${page.after ?? ''} ORDER BY e."lineageId" LIMIT ${page.limit}`,
      )
      const sealed = await escrowedKeysOf(rows.map(({ id }) => id))
      return rows.map(({ id }) => sealed.filter(({ lineage }) => lineage.id === id))
    },

    /** How many sealings there are of keys that none of these escrow keys opens, by who sealed them. */
    sealedByOthers: (
      escrowKeyIds: readonly string[],
    ): Promise<{ readonly escrowKeyId: string; readonly keys: number }[]> =>
      database.read(async (client) => {
        const opens = { escrowKeyId: { in: [...escrowKeyIds] } }
        const groups = await client.escrowedKey.groupBy({
          by: ['escrowKeyId'],
          where: { lineage: { escrowedKeys: { none: opens } } },
          _count: true,
        })
        return groups.map(({ escrowKeyId, _count: keys }) => ({ escrowKeyId, keys }))
      }),

    /** A key sealed once more, under another escrow key. False, and no event, when a peer was faster. */
    async addEscrowedKey(
      { lineage, escrowKeyId, sealed, escrowedAt }: EscrowedKeyRecord,
      event: NewAuditEvent,
    ): Promise<boolean> {
      const octets = sealed as Uint8Array<ArrayBuffer>
      const row = { lineageId: lineage.id, escrowKeyId, sealed: octets, escrowedAt }
      try {
        await database.add([insert('EscrowedKey', row), auditRow(event)])
        return true
      } catch (error) {
        if (violatedConstraint(error) === null) throw error
        return false
      }
    },

    /** Whether any certificate of a lineage was revoked because its key is in wrong hands. */
    isCompromised: (lineageId: string): Promise<boolean> =>
      database.read(
        async (client) =>
          (await client.revocation.findFirst({
            where: { reason: 'keyCompromise', certificate: { lineageId } },
          })) !== null,
      ),

    /** The id of a delivery; a repeated request leads to the same one, see `findDelivery`. */
    newDeliveryId: (at: Date, idempotency: Idempotency | null): string =>
      namedUuidv7(at, idempotency === null ? randomUUID() : nameOf(idempotency)),

    /**
     * A delivery, durable when this resolves: before it is answered.
     *
     * @param approval - the id of the request whose approval is used up by this.
     */
    async recordDelivery(
      delivery: DeliveryRecord,
      { idempotency, approval }: { readonly idempotency: Idempotency | null; readonly approval: string },
      event: NewAuditEvent,
    ): Promise<'recorded' | 'idempotencyKeyTaken' | 'approvalUsed'> {
      const { id, lineageId, certificateId, reason, requestedBy, deliveredAt } = delivery
      const rows = [insert('Delivery', { id, lineageId, certificateId, reason, requestedBy, deliveredAt })]
      rows.push(insert('ApprovalUse', { requestId: approval, deliveryId: id, usedAt: deliveredAt }))
      if (idempotency !== null) {
        const { principal, key, fingerprint } = idempotency
        const claim = { principal, key, fingerprint, intentId: certificateId, createdAt: deliveredAt }
        rows.push(insert('IdempotencyKey', claim))
      }
      try {
        await database.add([...rows, auditRow(event)])
        return 'recorded'
      } catch (error) {
        const constraint = violatedConstraint(error)
        if (constraint === null) throw error
        // Both may be taken: then the request is a repetition, and has its answer.
        if (
          idempotency !== null &&
          (await database.read((client) => findClaim(client, idempotency))) !== null
        )
          return 'idempotencyKeyTaken'
        if (constraint.startsWith('ApprovalUse_')) return 'approvalUsed'
        throw error
      }
    },

    /** What became of a request with this Idempotency-Key; `delivery` is null when it was for something else. */
    findDelivery: (
      idempotency: Pick<Idempotency, 'principal' | 'key'>,
    ): Promise<{ readonly fingerprint: string; readonly delivery: DeliveryRecord | null } | null> =>
      database.read(async (client) => {
        const claim = await findClaim(client, idempotency)
        if (claim === null) return null
        const id = namedUuidv7(claim.createdAt, nameOf(idempotency))
        const delivery = await client.delivery.findUnique({ where: { id } })
        return { fingerprint: claim.fingerprint, delivery }
      }),

    /**
     * The deliveries of a lineage, oldest first.
     *
     * @param page.after - the id of the last that was given before.
     */
    deliveriesOf: (
      lineageId: string,
      page: { readonly limit: number; readonly after?: string | undefined },
    ): Promise<DeliveryRecord[]> =>
      database.read((client) =>
        client.delivery.findMany({
          where: { lineageId, id: { gt: page.after ?? '' } },
          orderBy: { id: 'asc' },
          take: page.limit,
        }),
      ),
  }
}

const findClaim = (client: Client, { principal, key }: Pick<Idempotency, 'principal' | 'key'>) =>
  client.idempotencyKey.findUnique({ where: { principal_key: { principal, key } } })

const nameOf = ({ principal, key }: Pick<Idempotency, 'principal' | 'key'>): string =>
  JSON.stringify([principal, key])

const asLineage = ({ id, purpose, publicKeyPin, createdAt }: LineageRow): LineageRecord => ({
  id,
  purpose: purpose as Purpose,
  publicKeyPin,
  createdAt,
})
type LineageRow = Prisma.LineageGetPayload<object>

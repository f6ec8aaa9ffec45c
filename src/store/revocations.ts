/**
 * Revocations, holds, and the lists that tell of them. Rows are only added: a revocation is for good, and a
 * hold ends by its release. Who may revoke, and what a list says, is for authority/.
 */

import { nextTurn } from '../turns.ts'
import { auditRow } from './audit.ts'
import { asRecord, beside, heldSince } from './certificates.ts'
import type { Database } from './database.ts'
import { addedOr, violatedConstraint } from './faults.ts'
import { Prisma } from './generated/sqlite/client.ts'
import type {
  AuthorityRecord,
  CertificateRecord,
  CertificateStatus,
  HoldRecord,
  NewAuditEvent,
  NewRevocation,
  NewRevocationOrder,
  ResponderRecord,
  RevocationListRecord,
  RevocationOrderRecord,
  RevocationSelection,
  RevokedRecord,
  ToRevoke,
} from './model.ts'
import { insert } from './rows.ts'
import { firstUuidv7 } from './uuid.ts'

/** Octets that are written in one transaction: some milliseconds. */
const partSize = 262_144
/** Milliseconds after which the parts of a list that is not there are of no use any more. */
const longestPublication = 3_600_000

export function revocationFunctions(database: Database) {
  return {
    /** Revocations with their events, all or none; `alreadyRevoked` when one of the certificates is. */
    recordRevocations: (
      revocations: readonly NewRevocation[],
      events: readonly NewAuditEvent[],
    ): Promise<'recorded' | 'alreadyRevoked'> =>
      addedOr(
        database,
        'alreadyRevoked',
        ['Revocation_certificateId', 'Revocation_pkey'],
        [
          ...revocations.map(({ certificateId, reason, requestedBy, revokedAt, orderId }) =>
            insert('Revocation', { certificateId, reason, requestedBy, revokedAt, orderId }),
          ),
          ...events.map(auditRow),
        ],
      ),

    /** How many certificates a selection holds that are not revoked. @param before - an order: only what was begun before it. */
    countToRevoke: (selection: RevocationSelection, before: string): Promise<number> =>
      database.read(async (client) => {
        const [row] = await client.$queryRaw<{ total: number | bigint }[]>`
          SELECT count(*) AS "total" FROM ${selected(selection, before)}`
        return Number(row!.total)
      }),

    /** The authorities that have issued them. */
    authoritiesToRevoke: (selection: RevocationSelection, before: string): Promise<AuthorityRecord[]> =>
      database.read(async (client) => {
        const rows = await client.$queryRaw<{ id: string }[]>`
          SELECT a."id" AS "id" FROM "Authority" a WHERE EXISTS (SELECT 1 FROM ${selected(selection, before)}
            AND EXISTS (SELECT 1 FROM "IssuanceIntent" j WHERE j."id" = c."id" AND j."authorityId" = a."id"))`
        return client.authority.findMany({ where: { id: { in: rows.map(({ id }) => id) } } })
      }),

    /** They themselves, by id. */
    toRevoke: (
      selection: RevocationSelection,
      page: { readonly before: string; readonly limit: number; readonly after?: string | undefined },
    ): Promise<ToRevoke[]> =>
      database.read(
        (client) => client.$queryRaw<ToRevoke[]>`
          SELECT c."id", c."serialNumber", c."lineageId" FROM ${selected(selection, page.before)}
          AND c."id" > ${page.after ?? ''} ORDER BY c."id" LIMIT ${page.limit}`,
      ),

    recordRevocationOrder: (order: NewRevocationOrder, event: NewAuditEvent): Promise<void> => {
      const { id, reason, total, requestedBy, requestId, createdAt } = order
      const selection = JSON.stringify(order.selection)
      const row = { id, selection, reason, total, requestedBy, requestId, createdAt }
      return database.add([insert('RevocationOrder', row), auditRow(event)])
    },

    findRevocationOrder: (id: string): Promise<RevocationOrderRecord | null> =>
      database.read(async (client) => {
        const row = await client.revocationOrder.findUnique({ where: { id }, include: besideOrder })
        return row && asOrder(row)
      }),

    /**
     * Those that may have something left to revoke, the first first: what was begun before an order may
     * have become a certificate after it was carried out.
     *
     * @param completedSince - with those that were carried out then or later.
     */
    openRevocationOrders: (completedSince: Date): Promise<RevocationOrderRecord[]> =>
      database.read(async (client) => {
        const rows = await client.revocationOrder.findMany({
          where: { OR: [{ completion: null }, { completion: { completedAt: { gte: completedSince } } }] },
          orderBy: { id: 'asc' },
          include: besideOrder,
        })
        return rows.map(asOrder)
      }),

    /** An order that has nothing left; nothing when a peer has said so already. */
    completeRevocationOrder: async (
      orderId: string,
      completedAt: Date,
      event: NewAuditEvent,
    ): Promise<void> => {
      const row = insert('RevocationOrderCompletion', { orderId, completedAt })
      const constraints = ['RevocationOrderCompletion_orderId', 'RevocationOrderCompletion_pkey']
      await addedOr(database, 'taken', constraints, [row, auditRow(event)])
    },

    /** A hold with its event; `taken` when a peer wrote down this very hold. */
    recordHold: (hold: HoldRecord, event: NewAuditEvent): Promise<'recorded' | 'taken'> => {
      const { id, certificateId, ordinal, requestedBy, heldAt } = hold
      const row = insert('Hold', { id, certificateId, ordinal, requestedBy, heldAt })
      return addedOr(database, 'taken', ['Hold_certificateId_ordinal'], [row, auditRow(event)])
    },

    /** The end of a hold with its event; `taken` when it has ended already. */
    recordRelease: (
      { holdId, requestedBy, releasedAt }: { holdId: string; requestedBy: string; releasedAt: Date },
      event: NewAuditEvent,
    ): Promise<'recorded' | 'taken'> => {
      const row = insert('HoldRelease', { holdId, requestedBy, releasedAt })
      return addedOr(database, 'taken', ['HoldRelease_holdId', 'HoldRelease_pkey'], [row, auditRow(event)])
    },

    /** The last hold of a certificate, whether or not it has ended; null when there was none. */
    lastHold: (certificateId: string): Promise<(HoldRecord & { readonly isReleased: boolean }) | null> =>
      database.read(async (client) => {
        const row = await client.hold.findFirst({
          where: { certificateId },
          orderBy: { ordinal: 'desc' },
          include: { release: true },
        })
        if (row === null) return null
        const { release, ...hold } = row
        return { ...hold, isReleased: release !== null }
      }),

    /** The certificates of a lineage that are not revoked for good, the first generation first. */
    unrevokedOf: (lineageId: string): Promise<CertificateRecord[]> =>
      database.read(async (client) => {
        const rows = await client.certificate.findMany({
          where: { lineageId, revocation: null },
          orderBy: { generation: 'asc' },
          include: beside,
        })
        return rows.map(asRecord)
      }),

    /** Certificates that are not revoked although another one over their key was, because it is compromised. */
    unrevokedOfCompromised: (): Promise<CertificateRecord[]> =>
      database.read(async (client) => {
        const found = await client.$queryRaw<{ id: string }[]>`
          SELECT DISTINCT d."id" FROM "Revocation" r JOIN "Certificate" c ON c."id" = r."certificateId"
          JOIN "Certificate" d ON d."lineageId" = c."lineageId"
          WHERE r."reason" = 'keyCompromise'
            AND NOT EXISTS (SELECT 1 FROM "Revocation" o WHERE o."certificateId" = d."id")
          LIMIT 100`
        const rows = await client.certificate.findMany({
          where: { id: { in: found.map(({ id }) => id) } },
          include: beside,
        })
        return rows.map(asRecord)
      }),

    /**
     * How often anything of this was written down: the version of what a list says. It only grows, in
     * the order in which changes become visible, by whichever instance.
     */
    revocationChanges: (): Promise<number> =>
      database.read(async (client) => {
        const [row] = await client.$queryRaw<{ changes: number | bigint }[]>`
          SELECT (SELECT count(*) FROM "Revocation") + (SELECT count(*) FROM "Hold")
            + (SELECT count(*) FROM "HoldRelease") AS "changes"`
        return Number(row!.changes)
      }),

    /**
     * What is revoked of these authorities, by the id of the certificate.
     *
     * @param page.expiredBefore - without those whose validity ended before it.
     * @param page.after - the id of the last that was given before.
     */
    revokedBy: (
      authorityIds: readonly string[],
      page: { readonly limit: number; readonly after?: string | undefined; readonly expiredBefore: Date },
    ): Promise<RevokedRecord[]> =>
      database.read(
        (client) => client.$queryRaw<RevokedRecord[]>`
          SELECT c."id", c."serialNumber", r."reason", r."revokedAt" FROM "Revocation" r
          JOIN "Certificate" c ON c."id" = r."certificateId" JOIN "IssuanceIntent" i ON i."id" = c."id"
          WHERE r."certificateId" > ${page.after ?? ''} AND i."authorityId" IN (${Prisma.join(authorityIds)})
            AND c."notAfter" >= ${page.expiredBefore}
          ORDER BY r."certificateId" LIMIT ${page.limit}`,
      ),

    /** The same of those that are on hold, and not revoked. */
    heldBy: (
      authorityIds: readonly string[],
      page: { readonly limit: number; readonly after?: string | undefined; readonly expiredBefore: Date },
    ): Promise<RevokedRecord[]> =>
      database.read(
        (client) => client.$queryRaw<RevokedRecord[]>`
          SELECT c."id", c."serialNumber", 'certificateHold' AS "reason", h."heldAt" AS "revokedAt" FROM "Hold" h
          JOIN "Certificate" c ON c."id" = h."certificateId" JOIN "IssuanceIntent" i ON i."id" = c."id"
          WHERE h."certificateId" > ${page.after ?? ''} AND i."authorityId" IN (${Prisma.join(authorityIds)})
            AND c."notAfter" >= ${page.expiredBefore}
            AND NOT EXISTS (SELECT 1 FROM "HoldRelease" l WHERE l."holdId" = h."id")
            AND NOT EXISTS (SELECT 1 FROM "Revocation" r WHERE r."certificateId" = h."certificateId")
          ORDER BY h."certificateId" LIMIT ${page.limit}`,
      ),

    /** What is to be said of a certificate; null when there is none with this serial number. */
    statusOf: (serialNumber: string): Promise<CertificateStatus | null> =>
      database.read(async (client) => {
        const row = await client.certificate.findUnique({
          where: { serialNumber },
          select: {
            intent: { select: { authorityId: true } },
            revocation: { select: { reason: true, revokedAt: true } },
            holds: { where: { release: null }, select: { heldAt: true } },
          },
        })
        if (row === null) return null
        const { intent, revocation, holds } = row
        return { authorityId: intent.authorityId, revocation: revocation ?? heldSince(holds) }
      }),

    /** The certificate of an OCSP responder that is about to be signed, with its event. */
    recordResponder: (responder: ResponderRecord, event: NewAuditEvent): Promise<void> => {
      const { id, authorityId, serialNumber, notBefore, notAfter, createdAt } = responder
      const tbsCertificate = responder.tbsCertificate as Uint8Array<ArrayBuffer>
      const row = { id, authorityId, serialNumber, tbsCertificate, notBefore, notAfter, createdAt }
      return database.add([insert('Responder', row), auditRow(event)])
    },

    /** The last list of an authority, without its octets; null when none was published. */
    lastRevocationList: (issuer: string): Promise<Omit<RevocationListRecord, 'list'> | null> =>
      database.read((client) =>
        client.revocationList.findFirst({ where: { issuer }, orderBy: { number: 'desc' } }),
      ),

    /** The octets of a list. */
    async octetsOfList(listId: string): Promise<Uint8Array> {
      const parts: Uint8Array[] = []
      for (;;) {
        const row = await database.read((client) =>
          client.revocationListPart.findUnique({ where: { listId_part: { listId, part: parts.length } } }),
        )
        if (row === null && parts.length === 0) throw new Error(`the list ${listId} is not there any more`)
        if (row === null) return Buffer.concat(parts)
        parts.push(row.octets)
        await nextTurn()
      }
    },

    /**
     * A list with its events; `taken` when a peer published this number. Those before the last are
     * forgotten, and so is what a publication that did not end has left.
     */
    async recordRevocationList(
      list: RevocationListRecord,
      events: readonly NewAuditEvent[],
    ): Promise<'recorded' | 'taken'> {
      const { id, issuer, number, changes, thisUpdate, nextUpdate } = list
      const old = firstUuidv7(new Date(events[0]!.at.getTime() - longestPublication))
      // No event tells of them, since nobody sees them before the list is there.
      for (let part = 0; part * partSize < list.list.length; part++) {
        const octets = list.list.slice(part * partSize, (part + 1) * partSize) as Uint8Array<ArrayBuffer>
        await database.write(async (transaction) => {
          await transaction.$executeRaw(insert('RevocationListPart', { listId: id, part, octets }))
        })
      }
      try {
        await database.write(async (transaction, tell) => {
          const row = { id, issuer, number, changes, thisUpdate, nextUpdate }
          await transaction.$executeRaw(insert('RevocationList', row))
          await transaction.revocationList.deleteMany({ where: { issuer, number: { lt: number - 1 } } })
          const kept = await transaction.revocationList.findMany({ select: { id: true } })
          await transaction.revocationListPart.deleteMany({
            where: { listId: { notIn: kept.map((one) => one.id), lt: old } },
          })
          for (const event of events) tell(auditRow(event))
        })
        return 'recorded'
      } catch (error) {
        if (violatedConstraint(error) !== 'RevocationList_issuer_number') throw error
        return 'taken'
      }
    },
  }
}

const besideOrder = {
  completion: true,
  _count: { select: { revocations: true } },
} as const satisfies Prisma.RevocationOrderInclude

function asOrder({
  completion,
  _count,
  ...order
}: Prisma.RevocationOrderGetPayload<{ include: typeof besideOrder }>): RevocationOrderRecord {
  return {
    ...order,
    selection: JSON.parse(order.selection) as RevocationSelection,
    revoked: _count.revocations,
    completedAt: completion?.completedAt ?? null,
  }
}

/** `"Certificate" c ... WHERE ...`: what of it is not revoked and was begun before an order. */
function selected(selection: RevocationSelection, before: string): Prisma.Sql {
  const { authority, lineage, publicKeyPin, purpose, issuedFrom, issuedUntil } = selection
  const conditions = [
    Prisma.sql`c."id" < ${before}`,
    Prisma.sql`NOT EXISTS (SELECT 1 FROM "Revocation" r WHERE r."certificateId" = c."id")`,
  ]
  if (authority !== undefined)
    conditions.push(
      Prisma.sql`EXISTS (SELECT 1 FROM "IssuanceIntent" i WHERE i."id" = c."id" AND i."authorityId" = ${authority})`,
    )
  if (lineage !== undefined) conditions.push(Prisma.sql`c."lineageId" = ${lineage}`)
  if (publicKeyPin !== undefined)
    conditions.push(
      Prisma.sql`c."lineageId" IN (SELECT l."id" FROM "Lineage" l WHERE l."publicKeyPin" = ${publicKeyPin})`,
    )
  if (purpose !== undefined) conditions.push(Prisma.sql`c."purpose" = ${purpose}`)
  if (issuedFrom !== undefined) conditions.push(Prisma.sql`c."issuedAt" >= ${new Date(issuedFrom)}`)
  if (issuedUntil !== undefined) conditions.push(Prisma.sql`c."issuedAt" <= ${new Date(issuedUntil)}`)
  return Prisma.sql`"Certificate" c WHERE ${Prisma.join(conditions, ' AND ')}`
}

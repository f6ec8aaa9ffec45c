/**
 * Reading the record from end to end, for whoever holds it against itself. Nothing is taken for granted
 * here: a row may point at nothing, and what ought to be unique may be there twice, since a hand in a
 * SQL shell can drop any constraint. Everything comes in pages by id, so that a record of any size is
 * read in the same memory.
 */

import { issuances } from './audit.ts'
import type { Database } from './database.ts'
import type { Prisma } from './generated/sqlite/client.ts'
import type { AuthorityRecord, LineageRecord, NewCertificate, Purpose } from './model.ts'

/** Where a page begins, and how many it holds at most. */
export interface Page {
  readonly limit: number
  /** The id of the last of the page before. */
  readonly after?: string | undefined
}

/** A certificate as it is stored, with what the other tables say of it; null where they say nothing. */
export interface StoredCertificate extends NewCertificate {
  readonly lineage: Pick<LineageRecord, 'purpose' | 'publicKeyPin'> | null
  readonly intent: {
    readonly authorityId: string
    readonly lineageId: string
    readonly generation: number
    readonly predecessorId: string | null
    readonly serialNumber: string
    readonly tbsCertificate: Uint8Array
  } | null
  readonly predecessorId: string | null
  readonly predecessor: { readonly lineageId: string; readonly generation: number } | null
  /** Other certificates with its serial number, and others of its generation in its lineage. */
  readonly sameSerialNumber: readonly string[]
  readonly sameGeneration: readonly string[]
  /** The details of the audit events that tell of its issuance: JSON. */
  readonly told: readonly string[]
  /** The reason for which it is revoked; null when it is not. And whether it is on hold. */
  readonly revocation: string | null
  readonly isHeld: boolean
  /** The same as the audit trail tells it; one reason for each event. */
  readonly toldRevocations: readonly string[]
  readonly toldHeld: boolean
}

export interface StoredLineage extends LineageRecord {
  readonly adoption: {
    readonly certificate: Uint8Array
    readonly thumbprint: string
    readonly serialNumber: string
  } | null
  /** Other lineages with its key. */
  readonly sameKey: readonly string[]
}

/** The types of the events that tell of a revocation, and of holds that begin and end. */
const revoked = 'certificate.revoked'
const ofHolds: readonly string[] = ['certificate.held', 'certificate.released']

const byId = { orderBy: { id: 'asc' } } as const

export function inspectionFunctions(database: Database) {
  const beyond = ({ limit, after }: Page) => ({ where: { id: { gt: after ?? '' } }, ...byId, take: limit })

  const stored = (which: Prisma.CertificateFindManyArgs): Promise<StoredCertificate[]> =>
    database.read(async (client) => {
      const rows = await client.certificate.findMany(which)
      const ids = rows.map(({ id }) => id)
      const lineageIds = [...new Set(rows.map(({ lineageId }) => lineageId))]
      const intents = await client.issuanceIntent.findMany({
        where: { id: { in: ids } },
        select: {
          id: true,
          authorityId: true,
          lineageId: true,
          generation: true,
          predecessorId: true,
          serialNumber: true,
          tbsCertificate: true,
        },
      })
      const lineages = await client.lineage.findMany({ where: { id: { in: lineageIds } } })
      const renewals = await client.renewal.findMany({ where: { certificateId: { in: ids } } })
      const predecessors = await client.certificate.findMany({
        where: { id: { in: renewals.map(({ predecessorId }) => predecessorId) } },
        select: { id: true, lineageId: true, generation: true },
      })
      const alike = await client.certificate.findMany({
        where: {
          OR: [
            { serialNumber: { in: rows.map(({ serialNumber }) => serialNumber) } },
            { lineageId: { in: lineageIds }, generation: { in: rows.map(({ generation }) => generation) } },
          ],
        },
        select: { id: true, lineageId: true, generation: true, serialNumber: true },
      })
      const revocations = await client.revocation.findMany({ where: { certificateId: { in: ids } } })
      const holds = await client.hold.findMany({ where: { certificateId: { in: ids }, release: null } })
      const events = await client.auditEvent.findMany({
        where: { objectId: { in: ids }, type: { in: [...issuances, revoked, ...ofHolds] } },
        orderBy: { sequence: 'asc' },
        select: { objectId: true, type: true, details: true },
      })
      return rows.map((row) => {
        const own = events.filter(({ objectId }) => objectId === row.id)
        const predecessorId =
          renewals.find(({ certificateId }) => certificateId === row.id)?.predecessorId ?? null
        const lineage = lineages.find(({ id }) => id === row.lineageId)
        const others = alike.filter(({ id }) => id !== row.id)
        return {
          ...row,
          purpose: row.purpose as Purpose,
          lineage: lineage === undefined ? null : { ...lineage, purpose: lineage.purpose as Purpose },
          intent: intents.find(({ id }) => id === row.id) ?? null,
          predecessorId,
          predecessor: predecessors.find(({ id }) => id === predecessorId) ?? null,
          sameSerialNumber: others
            .filter(({ serialNumber }) => serialNumber === row.serialNumber)
            .map(({ id }) => id),
          sameGeneration: others
            .filter(
              ({ lineageId, generation }) => lineageId === row.lineageId && generation === row.generation,
            )
            .map(({ id }) => id),
          told: own.filter(({ type }) => issuances.includes(type)).map(({ details }) => details),
          revocation: revocations.find(({ certificateId }) => certificateId === row.id)?.reason ?? null,
          isHeld: holds.some(({ certificateId }) => certificateId === row.id),
          toldRevocations: own
            .filter(({ type }) => type === revoked)
            .map(({ details }) => String((JSON.parse(details) as { reason?: unknown }).reason)),
          toldHeld: own.findLast(({ type }) => ofHolds.includes(type))?.type === 'certificate.held',
        }
      })
    })

  return {
    everyAuthority: (): Promise<AuthorityRecord[]> =>
      database.read((client) => client.authority.findMany(byId)),

    /** The next certificates, oldest first; none when there is none left. */
    everyCertificate: (page: Page): Promise<StoredCertificate[]> => stored(beyond(page)),

    /** One of them as it is now; null when it is not there any more. */
    certificateAgain: async (id: string): Promise<StoredCertificate | null> =>
      (await stored({ where: { id } }))[0] ?? null,

    /** The next lineages. */
    everyLineage: (page: Page): Promise<StoredLineage[]> =>
      database.read(async (client) => {
        const rows = await client.lineage.findMany(beyond(page))
        const adoptions = await client.adoption.findMany({
          where: { lineageId: { in: rows.map(({ id }) => id) } },
          select: { lineageId: true, certificate: true, thumbprint: true, serialNumber: true },
        })
        const alike = await client.lineage.findMany({
          where: { publicKeyPin: { in: rows.map(({ publicKeyPin }) => publicKeyPin) } },
          select: { id: true, publicKeyPin: true },
        })
        return rows.map((row) => ({
          ...row,
          purpose: row.purpose as Purpose,
          adoption: adoptions.find(({ lineageId }) => lineageId === row.id) ?? null,
          sameKey: alike
            .filter(({ id, publicKeyPin }) => id !== row.id && publicKeyPin === row.publicKeyPin)
            .map(({ id }) => id),
        }))
      }),

    /** When the newest that is on record was written; null when nothing is. */
    newestMoment: (): Promise<Date | null> =>
      database.read(async (client) => {
        const newest = { orderBy: { id: 'desc' } } as const // ids sort by time
        const intent = await client.issuanceIntent.findFirst({ ...newest, select: { createdAt: true } })
        const event = await client.auditEvent.findFirst({ ...newest, select: { at: true } })
        const moments = [intent?.createdAt, event?.at].flatMap((at) => at?.getTime() ?? [])
        return moments.length === 0 ? null : new Date(Math.max(...moments))
      }),

    /**
     * Looks at the next audit events for issuances whose certificate is not in the record.
     *
     * @returns `last` is the id to go on from; null when there is none left.
     */
    issuancesWithoutCertificate: (
      page: Page,
    ): Promise<{ readonly missing: readonly string[]; readonly last: string | null }> =>
      database.read(async (client) => {
        const events = await client.auditEvent.findMany({
          ...beyond(page),
          select: { id: true, type: true, objectId: true },
        })
        const told = events.flatMap(({ type, objectId }) =>
          issuances.includes(type) && objectId !== null ? [objectId] : [],
        )
        const kept = await client.certificate.findMany({ where: { id: { in: told } }, select: { id: true } })
        const ids = new Set(kept.map(({ id }) => id))
        return { missing: told.filter((id) => !ids.has(id)), last: events.at(-1)?.id ?? null }
      }),
  }
}

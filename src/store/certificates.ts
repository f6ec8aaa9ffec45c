/**
 * What can be asked about certificates: one by its names, a lineage, a list with filters. The words
 * of the filters are those of model.ts; what a client may ask is for http/.
 */

import { nextTurn } from '../turns.ts'
import { Prisma } from './generated/sqlite/client.ts'
import type { Database } from './database.ts'
import type {
  CertificateFilter,
  CertificateRecord,
  CertificateState,
  LineageRecord,
  Purpose,
} from './model.ts'
import { scan, type Effort } from './scan.ts'

/** Each of the three names one certificate. */
export type CertificateName =
  { readonly id: string } | { readonly thumbprint: string } | { readonly serialNumber: string }

/** What stands beside a certificate; the large columns of the intent are left where they are. */
export const beside = {
  lineage: true,
  intent: { select: { authority: true, findings: true, reason: true, requestedBy: true, requestId: true } },
  renewal: { select: { predecessorId: true, proof: true } },
  renewedBy: { select: { certificateId: true } },
  revocation: { select: { reason: true, revokedAt: true } },
  holds: { where: { release: null }, select: { heldAt: true } },
} as const satisfies Prisma.CertificateInclude

export function certificateFunctions(database: Database) {
  return {
    findCertificate: (name: CertificateName): Promise<CertificateRecord | null> =>
      readCertificate(database, name),

    /** The lineage that a key belongs to, by the pin of the key. */
    findLineageByPin: (
      publicKeyPin: string,
    ): Promise<(LineageRecord & { readonly currentCertificateId: string | null }) | null> =>
      database.read(async (client) => {
        const row = await client.lineage.findUnique({
          where: { publicKeyPin },
          include: { certificates: { select: { id: true }, orderBy: { generation: 'desc' }, take: 1 } },
        })
        if (row === null) return null
        const { certificates, ...lineage } = row
        return {
          ...lineage,
          purpose: lineage.purpose as Purpose,
          currentCertificateId: certificates[0]?.id ?? null,
        }
      }),

    /** The certificate of the highest generation. */
    currentCertificate: (lineageId: string): Promise<CertificateRecord | null> =>
      database.read(async (client) => {
        const row = await client.certificate.findFirst({
          where: { lineageId },
          orderBy: { generation: 'desc' },
          include: beside,
        })
        return row && asRecord(row)
      }),

    /**
     * A page of the certificates of a lineage, the first generation first.
     *
     * @param page.limit - how many at most, 1 or more.
     * @param page.after - `next` of the page before: a generation.
     * @param view - what is made of each; see `viewed`.
     * @returns `next` is null on the last page.
     */
    async lineageHistory<T>(
      lineageId: string,
      page: { readonly limit: number; readonly after?: number | undefined },
      view: (certificate: CertificateRecord) => T,
    ): Promise<{ items: T[]; next: number | null }> {
      const found = await database.read((client) =>
        client.certificate.findMany({
          where: { lineageId, generation: { gt: page.after ?? 0 } },
          orderBy: { generation: 'asc' },
          take: page.limit + 1,
          select: { id: true, generation: true },
        }),
      )
      const shown = found.slice(0, page.limit)
      const ids = shown.map(({ id }) => id)
      const next = found.length > page.limit ? shown.at(-1)!.generation : null
      return { items: await viewed(database, ids, view), next }
    },

    /**
     * A page of certificates, newest first. Pages hang on the id, which sorts by time, so that a page
     * costs the same at any depth and does not shift when new certificates come.
     *
     * @param page.now - the moment that `state` is reckoned for.
     * @param page.limit - how many at most, 1 or more.
     * @param page.after - `next` of the page before.
     * @param view - what is made of each; see `viewed`.
     * @param effort - when it is spent, the page may be short of `limit` or empty, and others follow.
     * @returns `next` is null on the last page.
     */
    async listCertificates<T>(
      filter: CertificateFilter,
      page: { readonly now: Date; readonly limit: number; readonly after?: string | undefined },
      view: (certificate: CertificateRecord) => T,
      effort: Effort = { atOnce: 2_000, inAll: 100_000 },
    ): Promise<{ items: T[]; next: string | null }> {
      const { limit, after } = page
      const conditions = conditionsOf(database, filter, page.now)
      const few = filter.thumbprint !== undefined || filter.lineageId !== undefined
      const wanted = { table: 'Certificate', order: 'DESC', conditions, few, after, limit } as const
      const { ids, next } = await scan(database, wanted, effort)
      return { items: await viewed(database, ids, view), next }
    },
  }
}

export async function readCertificate(
  database: Database,
  name: CertificateName,
): Promise<CertificateRecord | null> {
  const where: Prisma.CertificateWhereUniqueInput =
    'id' in name
      ? { id: name.id }
      : 'thumbprint' in name
        ? { thumbprint: name.thumbprint }
        : { serialNumber: name.serialNumber }
  return database.read(async (client) => {
    const row = await client.certificate.findUnique({ where, include: beside })
    return row && asRecord(row)
  })
}

/** How many certificates are read and viewed in one turn of the event loop: a few milliseconds. */
const viewedAtOnce = 25

/**
 * The certificates with these ids, in that order, each as `view` makes it. Reading them takes long
 * enough to hold the event loop, and so may `view`: it is called in the same small steps.
 */
async function viewed<T>(
  database: Database,
  ids: readonly string[],
  view: (certificate: CertificateRecord) => T,
): Promise<T[]> {
  const views: T[] = []
  while (views.length < ids.length) {
    const some = ids.slice(views.length, views.length + viewedAtOnce)
    await nextTurn()
    const rows = await database.read((client) =>
      client.certificate.findMany({ where: { id: { in: some } }, include: beside }),
    )
    const byId = new Map(rows.map((row) => [row.id, row]))
    views.push(...some.map((id) => view(asRecord(byId.get(id)!))))
  }
  return views
}

/**
 * The conditions of a list, in SQL: Prisma's own `contains` takes `%` and `_` for wildcards, and on
 * SQLite there is no way to escape them. Every value travels as a parameter.
 */
function conditionsOf(database: Database, filter: CertificateFilter, now: Date): Prisma.Sql[] {
  const conditions: Prisma.Sql[] = []
  if (filter.purpose !== undefined) conditions.push(Prisma.sql`c."purpose" = ${filter.purpose}`)
  if (filter.state !== undefined) conditions.push(states[filter.state](now))
  if (filter.subject !== undefined) {
    const words = filter.subject.toLowerCase()
    conditions.push(
      database.settings.kind === 'sqlite'
        ? Prisma.sql`instr(c."searchText", ${words}) > 0`
        : Prisma.sql`strpos(c."searchText", ${words}) > 0`,
    )
  }
  if (filter.thumbprint !== undefined) conditions.push(Prisma.sql`c."thumbprint" = ${filter.thumbprint}`)
  if (filter.lineageId !== undefined) conditions.push(Prisma.sql`c."lineageId" = ${filter.lineageId}`)
  if (filter.notAfterBefore !== undefined)
    conditions.push(Prisma.sql`c."notAfter" < ${filter.notAfterBefore}`)
  if (filter.notAfterAfter !== undefined) conditions.push(Prisma.sql`c."notAfter" > ${filter.notAfterAfter}`)
  return conditions
}

const isRevoked = Prisma.sql`(EXISTS (SELECT 1 FROM "Revocation" r WHERE r."certificateId" = c."id")
  OR EXISTS (SELECT 1 FROM "Hold" h LEFT JOIN "HoldRelease" l ON l."holdId" = h."id"
    WHERE h."certificateId" = c."id" AND l."holdId" IS NULL))`
const isSuperseded = Prisma.sql`EXISTS (SELECT 1 FROM "Renewal" n WHERE n."predecessorId" = c."id")`

/** `revoked` before `superseded` before `expired` before `active`. notAfter itself is still valid (RFC 5280 §4.1.2.5). */
const states: Readonly<Record<CertificateState, (now: Date) => Prisma.Sql>> = {
  revoked: () => isRevoked,
  superseded: () => Prisma.sql`NOT ${isRevoked} AND ${isSuperseded}`,
  expired: (now) => Prisma.sql`NOT ${isRevoked} AND NOT ${isSuperseded} AND c."notAfter" < ${now}`,
  active: (now) => Prisma.sql`NOT ${isRevoked} AND NOT ${isSuperseded} AND c."notAfter" >= ${now}`,
}

type CertificateRow = Prisma.CertificateGetPayload<{ include: typeof beside }>

export function asRecord(row: CertificateRow): CertificateRecord {
  const { intent, lineage, renewedBy, revocation, holds, ...certificate } = row
  return {
    ...certificate,
    ...intent,
    purpose: certificate.purpose as Purpose,
    lineage: { ...lineage, purpose: lineage.purpose as Purpose },
    renewedById: renewedBy?.certificateId ?? null,
    revocation: revocation ?? heldSince(holds),
  }
}

/** The revocation that an open hold is. */
export const heldSince = (
  holds: readonly { readonly heldAt: Date }[],
): { readonly reason: string; readonly revokedAt: Date } | null =>
  holds[0] === undefined ? null : { reason: 'certificateHold', revokedAt: holds[0].heldAt }

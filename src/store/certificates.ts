/**
 * What can be asked about certificates: one by its names, a lineage, a list with filters. The words
 * of the filters are those of model.ts; what a client may ask is for http/.
 */

import { Prisma } from './generated/sqlite/client.ts'
import type { Database } from './database.ts'
import type {
  CertificateFilter,
  CertificateRecord,
  CertificateState,
  LineageRecord,
  Purpose,
} from './model.ts'

/** Each of the three names one certificate. */
export type CertificateName =
  { readonly id: string } | { readonly thumbprint: string } | { readonly serialNumber: string }

/** What stands beside a certificate; the large columns of the intent are left where they are. */
const beside = {
  lineage: true,
  intent: { select: { authority: true, findings: true, reason: true, requestedBy: true, requestId: true } },
  renewal: { select: { predecessorId: true, proof: true } },
  renewedBy: { select: { certificateId: true } },
  revocation: { select: { reason: true, revokedAt: true } },
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

    /** All certificates of a lineage, the first generation first. */
    lineageHistory: (lineageId: string): Promise<CertificateRecord[]> =>
      database.read(async (client) => {
        const rows = await client.certificate.findMany({
          where: { lineageId },
          orderBy: { generation: 'asc' },
          include: beside,
        })
        return rows.map(asRecord)
      }),

    /**
     * A page of certificates, newest first. Pages hang on the id, which sorts by time, so that a page
     * costs the same at any depth and does not shift when new certificates come.
     *
     * @param page.now - the moment that `state` is reckoned for.
     * @param page.limit - how many at most, 1 or more.
     * @param page.after - `next` of the page before.
     * @returns `next` is null on the last page.
     */
    listCertificates: (
      filter: CertificateFilter,
      page: { readonly now: Date; readonly limit: number; readonly after?: string | undefined },
    ): Promise<{ items: CertificateRecord[]; next: string | null }> =>
      database.read(async (client) => {
        const conditions = Prisma.join(conditionsOf(database, filter, page), ' AND ')
        const found = await client.$queryRaw<{ id: string }[]>`
          SELECT c."id" AS "id" FROM "Certificate" c WHERE ${conditions} ORDER BY c."id" DESC LIMIT ${page.limit + 1}`
        const ids = found.slice(0, page.limit).map((row) => row.id)
        const rows = await client.certificate.findMany({
          where: { id: { in: ids } },
          orderBy: { id: 'desc' },
          include: beside,
        })
        return { items: rows.map(asRecord), next: found.length > page.limit ? (ids.at(-1) ?? null) : null }
      }),
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

/**
 * The conditions of a list, in SQL: Prisma's own `contains` takes `%` and `_` for wildcards, and on
 * SQLite there is no way to escape them. Every value travels as a parameter.
 */
function conditionsOf(
  database: Database,
  filter: CertificateFilter,
  page: { readonly now: Date; readonly after?: string | undefined },
): Prisma.Sql[] {
  const conditions = [Prisma.sql`1 = 1`]
  if (page.after !== undefined) conditions.push(Prisma.sql`c."id" < ${page.after}`)
  if (filter.purpose !== undefined) conditions.push(Prisma.sql`c."purpose" = ${filter.purpose}`)
  if (filter.state !== undefined) conditions.push(states[filter.state](page.now))
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

const isRevoked = Prisma.sql`EXISTS (SELECT 1 FROM "Revocation" r WHERE r."certificateId" = c."id")`
const isSuperseded = Prisma.sql`EXISTS (SELECT 1 FROM "Renewal" n WHERE n."predecessorId" = c."id")`

/** `revoked` before `superseded` before `expired` before `active`. notAfter itself is still valid (RFC 5280 §4.1.2.5). */
const states: Readonly<Record<CertificateState, (now: Date) => Prisma.Sql>> = {
  revoked: () => isRevoked,
  superseded: () => Prisma.sql`NOT ${isRevoked} AND ${isSuperseded}`,
  expired: (now) => Prisma.sql`NOT ${isRevoked} AND NOT ${isSuperseded} AND c."notAfter" < ${now}`,
  active: (now) => Prisma.sql`NOT ${isRevoked} AND NOT ${isSuperseded} AND c."notAfter" >= ${now}`,
}

type CertificateRow = Prisma.CertificateGetPayload<{ include: typeof beside }>

function asRecord(row: CertificateRow): CertificateRecord {
  const { intent, lineage, renewedBy, ...certificate } = row
  return {
    ...certificate,
    ...intent,
    purpose: certificate.purpose as Purpose,
    lineage: { ...lineage, purpose: lineage.purpose as Purpose },
    renewedById: renewedBy?.certificateId ?? null,
  }
}

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
  NewCertificate,
  Purpose,
} from './model.ts'
import { momentOf, octetsOf, type StoredMoment } from './plainSql.ts'
import { scan, type Effort } from './scan.ts'

type LineageRow = Omit<LineageRecord, 'createdAt'> & {
  readonly createdAt: StoredMoment
  readonly currentCertificateId: string | null
}

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
      database
        .select<LineageRow>(
          Prisma.sql`
            SELECT l."id", l."purpose", l."publicKeyPin", l."createdAt", (SELECT c."id" FROM "Certificate" c
              WHERE c."lineageId" = l."id" ORDER BY c."generation" DESC LIMIT 1) AS "currentCertificateId"
            FROM "Lineage" l WHERE l."publicKeyPin" = ${publicKeyPin}`,
        )
        .then(([row]) => (row === undefined ? null : { ...row, createdAt: momentOf(row.createdAt) })),

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
  const [column, value] = Object.entries(name)[0] as [keyof typeof certificateBy, string]
  const [row] = await database.select<PlainRow>(Prisma.sql`${certificateBy[column]} ${value}`)
  return row === undefined ? null : fromPlain(row)
}

const everythingBeside = Prisma.sql`
  SELECT c."id", c."lineageId", c."generation", c."purpose", c."serialNumber", c."thumbprint", c."subject",
    c."searchText", c."notBefore", c."notAfter", c."issuedAt", c."certificate",
    l."purpose" AS "lineagePurpose", l."publicKeyPin", l."createdAt",
    i."findings", i."reason", i."requestedBy", i."requestId", i."authorityId",
    a."subject" AS "authoritySubject", a."certificate" AS "authorityCertificate", a."issuers",
    a."notBefore" AS "authorityNotBefore", a."notAfter" AS "authorityNotAfter", a."registeredAt",
    r."predecessorId", r."proof", n."certificateId" AS "renewedById",
    v."reason" AS "revocationReason", v."revokedAt",
    (SELECT h."heldAt" FROM "Hold" h LEFT JOIN "HoldRelease" e ON e."holdId" = h."id"
      WHERE h."certificateId" = c."id" AND e."holdId" IS NULL LIMIT 1) AS "heldAt"
  FROM "Certificate" c JOIN "Lineage" l ON l."id" = c."lineageId"
  JOIN "IssuanceIntent" i ON i."id" = c."id" JOIN "Authority" a ON a."id" = i."authorityId"
  LEFT JOIN "Renewal" r ON r."certificateId" = c."id"
  LEFT JOIN "Renewal" n ON n."predecessorId" = c."id"
  LEFT JOIN "Revocation" v ON v."certificateId" = c."id"`
const certificateBy = {
  id: Prisma.sql`${everythingBeside} WHERE c."id" =`,
  thumbprint: Prisma.sql`${everythingBeside} WHERE c."thumbprint" =`,
  serialNumber: Prisma.sql`${everythingBeside} WHERE c."serialNumber" =`,
} as const

interface PlainRow extends Omit<
  NewCertificate,
  'purpose' | 'notBefore' | 'notAfter' | 'issuedAt' | 'certificate'
> {
  readonly purpose: string
  readonly notBefore: StoredMoment
  readonly notAfter: StoredMoment
  readonly issuedAt: StoredMoment
  readonly certificate: Uint8Array
  readonly lineagePurpose: string
  readonly publicKeyPin: string
  readonly createdAt: StoredMoment
  readonly findings: string
  readonly reason: string | null
  readonly requestedBy: string
  readonly requestId: string
  readonly authorityId: string
  readonly authoritySubject: string
  readonly authorityCertificate: Uint8Array
  readonly issuers: Uint8Array
  readonly authorityNotBefore: StoredMoment
  readonly authorityNotAfter: StoredMoment
  readonly registeredAt: StoredMoment
  readonly predecessorId: string | null
  readonly proof: string | null
  readonly renewedById: string | null
  readonly revocationReason: string | null
  readonly revokedAt: StoredMoment | null
  readonly heldAt: StoredMoment | null
}

function fromPlain(row: PlainRow): CertificateRecord {
  const { id, lineageId, generation, serialNumber, thumbprint, subject, searchText } = row
  const { findings, reason, requestedBy, requestId, renewedById } = row
  return {
    ...{ id, lineageId, generation, serialNumber, thumbprint, subject, searchText },
    purpose: row.purpose as Purpose,
    notBefore: momentOf(row.notBefore),
    notAfter: momentOf(row.notAfter),
    issuedAt: momentOf(row.issuedAt),
    certificate: octetsOf(row.certificate),
    lineage: {
      id: lineageId,
      purpose: row.lineagePurpose as Purpose,
      publicKeyPin: row.publicKeyPin,
      createdAt: momentOf(row.createdAt),
    },
    authority: {
      id: row.authorityId,
      subject: row.authoritySubject,
      certificate: octetsOf(row.authorityCertificate),
      issuers: octetsOf(row.issuers),
      notBefore: momentOf(row.authorityNotBefore),
      notAfter: momentOf(row.authorityNotAfter),
      registeredAt: momentOf(row.registeredAt),
    },
    ...{ findings, reason, requestedBy, requestId, renewedById },
    renewal: row.predecessorId === null ? null : { predecessorId: row.predecessorId, proof: row.proof! },
    revocation:
      row.revocationReason === null
        ? heldSince(row.heldAt === null ? [] : [{ heldAt: momentOf(row.heldAt) }])
        : { reason: row.revocationReason, revokedAt: momentOf(row.revokedAt!) },
  }
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

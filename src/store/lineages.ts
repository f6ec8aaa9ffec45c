/**
 * What can be asked about lineages: where a key came from, which key it replaced, who else has it; and
 * which authorities are known, since their keys are never those of a lineage.
 */

import type { Database } from './database.ts'
import { auditRow } from './audit.ts'
import { Prisma } from './generated/sqlite/client.ts'
import type { AuthorityRecord, LineageRecord, NewAdoption, NewAuditEvent, Purpose } from './model.ts'
import { momentOf, octetsOf, type StoredMoment } from './plainSql.ts'
import { insert } from './rows.ts'
import { uuidv7 } from './uuid.ts'

/** How many declarations of sharing are told; more than clusters can be. */
const sharingsTold = 100

type Moments = 'notBefore' | 'notAfter' | 'registeredAt'
type PlainAuthority = Omit<AuthorityRecord, Moments> & Readonly<Record<Moments, StoredMoment>>

const fromPlain = (row: PlainAuthority): AuthorityRecord => ({
  ...row,
  certificate: octetsOf(row.certificate),
  issuers: octetsOf(row.issuers),
  notBefore: momentOf(row.notBefore),
  notAfter: momentOf(row.notAfter),
  registeredAt: momentOf(row.registeredAt),
})

export interface AdoptionRecord extends NewAdoption {
  readonly reason: string | null
  readonly requestedBy: string
  readonly adoptedAt: Date
}

export interface SharingRecord {
  readonly sharedWith: string
  readonly requestedBy: string
  readonly declaredAt: Date
}

/** A lineage with what stands beside it. */
export interface LineageStory extends LineageRecord {
  readonly adoption: AdoptionRecord | null
  /** The lineage whose key this one replaces, and the one whose key replaces this one's. */
  readonly rekeyOf: string | null
  readonly replacedBy: string | null
  /** Oldest first. */
  readonly sharings: readonly SharingRecord[]
}

export function lineageFunctions(database: Database) {
  return {
    findLineage: (id: string): Promise<LineageStory | null> =>
      database.read(async (client) => {
        const row = await client.lineage.findUnique({
          where: { id },
          include: {
            adoption: { omit: { lineageId: true } },
            rekey: { select: { replacedId: true } },
            rekeyedBy: { select: { lineageId: true } },
            sharings: {
              select: { sharedWith: true, requestedBy: true, declaredAt: true },
              orderBy: { id: 'asc' },
              take: sharingsTold,
            },
          },
        })
        if (row === null) return null
        const { adoption, rekey, rekeyedBy, ...lineage } = row
        return {
          ...lineage,
          purpose: lineage.purpose as Purpose,
          adoption: adoption && { ...adoption, proof: adoption.proof as NewAdoption['proof'] },
          rekeyOf: rekey?.replacedId ?? null,
          replacedBy: rekeyedBy?.lineageId ?? null,
        }
      }),

    /** The lineage whose key has replaced that of this one; null while it is in use. */
    replacementOf: (replacedId: string): Promise<string | null> =>
      database.read(async (client) => {
        const row = await client.rekey.findUnique({ where: { replacedId }, select: { lineageId: true } })
        return row?.lineageId ?? null
      }),

    /** The lineage that was adopted with the certificate of this SHA-1 thumbprint. */
    findAdoptedLineage: (thumbprint: string): Promise<string | null> =>
      database.read(async (client) => {
        const row = await client.adoption.findUnique({ where: { thumbprint }, select: { lineageId: true } })
        return row?.lineageId ?? null
      }),

    /** Declares that another cluster has the key of a lineage on purpose. */
    declareSharing: (lineageId: string, sharing: SharingRecord, event: NewAuditEvent): Promise<void> =>
      database.add([
        insert('Sharing', { id: uuidv7(sharing.declaredAt), lineageId, ...sharing }),
        auditRow(event),
      ]),

    /** Every authority that this record ever knew, but for the one with this id. */
    otherAuthorities: (id: string): Promise<AuthorityRecord[]> =>
      database
        .select<PlainAuthority>(
          Prisma.sql`
            SELECT "id", "subject", "certificate", "issuers", "notBefore", "notAfter", "registeredAt"
            FROM "Authority" WHERE "id" <> ${id}`,
        )
        .then((rows) => rows.map(fromPlain)),
  }
}

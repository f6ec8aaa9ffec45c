/** The authorities on record: which there are, and which of them was chosen to issue. */

import { auditRow } from './audit.ts'
import type { Database } from './database.ts'
import type { AuthorityChoiceRecord, NewAuditEvent, Purpose } from './model.ts'
import { insert } from './rows.ts'

export function authorityFunctions(database: Database) {
  return {
    /** All choices that were ever made, the first first. There is one for each rollover: a few in decades. */
    authorityChoices: (): Promise<AuthorityChoiceRecord[]> =>
      database.read(async (client) => {
        const rows = await client.authorityChoice.findMany({ orderBy: { id: 'asc' } })
        return rows.map((row) => ({ ...row, purpose: row.purpose as Purpose | null }))
      }),

    /** A choice with its event. */
    recordChoice: (choice: AuthorityChoiceRecord, event: NewAuditEvent): Promise<void> => {
      const { id, purpose, authorityId, chosenBy, chosenAt } = choice
      const row = insert('AuthorityChoice', { id, purpose, authorityId, chosenBy, chosenAt })
      return database.add([row, auditRow(event)])
    },

    /** The ids of those that have ever issued. */
    everIssued: (): Promise<string[]> =>
      database.read(async (client) => {
        const rows = await client.authority.findMany({
          where: { intents: { some: {} } },
          select: { id: true },
        })
        return rows.map(({ id }) => id)
      }),

    /** How many certificates each authority has issued that are in use: the last of their lineage, and neither revoked nor expired. */
    inUseUnder: async (now: Date): Promise<ReadonlyMap<string, number>> => {
      const rows = await database.read(
        (client) => client.$queryRaw<{ authorityId: string; count: number | bigint }[]>`
          SELECT i."authorityId" AS "authorityId", count(*) AS "count" FROM "Certificate" c
          JOIN "IssuanceIntent" i ON i."id" = c."id"
          WHERE c."notAfter" >= ${now}
            AND NOT EXISTS (SELECT 1 FROM "Renewal" n WHERE n."predecessorId" = c."id")
            AND NOT EXISTS (SELECT 1 FROM "Revocation" r WHERE r."certificateId" = c."id")
          GROUP BY i."authorityId"`,
      )
      return new Map(rows.map(({ authorityId, count }) => [authorityId, Number(count)]))
    },

    /**
     * The certificates in use that an authority has issued, by id, a page at a time.
     *
     * @param page.after - the id of the last that was given before.
     */
    inUseOf: (
      authorityId: string,
      page: { readonly now: Date; readonly limit: number; readonly after?: string | undefined },
    ): Promise<CertificateInUse[]> =>
      database.read(
        (client) => client.$queryRaw<CertificateInUse[]>`
          SELECT c."id", c."lineageId", c."purpose", c."subject", c."thumbprint", c."notBefore", c."notAfter",
            c."certificate"
          FROM "Certificate" c JOIN "IssuanceIntent" i ON i."id" = c."id"
          WHERE i."authorityId" = ${authorityId} AND c."id" > ${page.after ?? ''} AND c."notAfter" >= ${page.now}
            AND NOT EXISTS (SELECT 1 FROM "Renewal" n WHERE n."predecessorId" = c."id")
            AND NOT EXISTS (SELECT 1 FROM "Revocation" r WHERE r."certificateId" = c."id")
          ORDER BY c."id" LIMIT ${page.limit}`,
      ),
  }
}

export interface CertificateInUse {
  readonly id: string
  readonly lineageId: string
  readonly purpose: Purpose
  readonly subject: string
  readonly thumbprint: string
  readonly notBefore: Date
  readonly notAfter: Date
  readonly certificate: Uint8Array
}

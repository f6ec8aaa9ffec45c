/** What is measured of the record, for who watches over it: cheap, and never more than a slice at a time. */

import { nextTurn } from '../turns.ts'
import type { Database } from './database.ts'
import type { Purpose } from './model.ts'

/** How many certificates one statement looks at, and how many a search does. */
const slice = 1_000
const effort = 20_000

const purposes: readonly Purpose[] = ['signing', 'encryption', 'https']

export function figureFunctions(database: Database) {
  return {
    /** How many writes wait for their turn. */
    writesWaiting: database.queued,

    /** The number of the last audit event, 0 when there is none. */
    async auditHead(): Promise<number> {
      const last = await database.read((client) =>
        client.auditEvent.findFirst({ orderBy: { sequence: 'desc' }, select: { sequence: true } }),
      )
      return Number(last?.sequence ?? 0)
    },

    /**
     * For each purpose, when the first certificate ends that is neither superseded nor revoked, nor has
     * ended yet. None where there is no such certificate among the 20,000 that end next.
     */
    async soonestExpiries(now: Date): Promise<ReadonlyMap<Purpose, Date>> {
      const soonest = new Map<Purpose, Date>()
      let [at, id] = [now, '']
      for (let seen = 0; seen < effort && soonest.size < purposes.length; seen += slice) {
        await nextTurn()
        const rows = await database.read(
          (client) => client.$queryRaw<
            { id: string; purpose: Purpose; notAfter: Date | string; current: unknown }[]
          >`
            SELECT c."id" AS "id", c."purpose" AS "purpose", c."notAfter" AS "notAfter",
              NOT EXISTS (SELECT 1 FROM "Renewal" n WHERE n."predecessorId" = c."id") AND
              NOT EXISTS (SELECT 1 FROM "Revocation" r WHERE r."certificateId" = c."id") AS "current"
            FROM "Certificate" c
            WHERE c."notAfter" >= ${at} AND (c."notAfter" > ${at} OR c."id" > ${id})
            ORDER BY c."notAfter", c."id" LIMIT ${slice}`,
        )
        for (const row of rows) {
          if (Number(row.current) === 1 && !soonest.has(row.purpose))
            soonest.set(row.purpose, new Date(row.notAfter))
        }
        const last = rows.at(-1)
        if (last === undefined || rows.length < slice) break
        ;[at, id] = [new Date(last.notAfter), last.id]
      }
      return soonest
    },
  }
}

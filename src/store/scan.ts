/**
 * Looking through a table that may be long. SQLite holds the event loop for as long as a statement
 * runs, so no statement looks at more than a slice of the rows, and between two slices whatever else
 * waits is served.
 */

import { nextTurn } from '../turns.ts'
import { Prisma } from './generated/sqlite/client.ts'
import type { Database } from './database.ts'

/** How many rows one statement looks at, at a few microseconds each, and how many a scan does. */
export interface Effort {
  readonly atOnce: number
  readonly inAll: number
}

/** What every id, a UUID in lower case, lies between. */
const [lowest, highest] = ['', 'g']

/**
 * The ids of rows, in their order.
 *
 * @param wanted.conditions - in SQL; the row is `c`.
 * @param wanted.few - says that the conditions themselves lead to a few rows by an index, so that
 *   there is nothing to slice.
 * @param wanted.after - where to go on: `next` of the scan before, or any id.
 * @param wanted.limit - how many ids at most, 1 or more.
 * @returns `next` is null when nothing follows. Otherwise something may; and when the effort was
 *   spent, there may be fewer ids than `limit`, or none.
 */
export async function scan(
  database: Database,
  wanted: {
    readonly table: 'Certificate' | 'IssuanceIntent' | 'PendingRequest'
    readonly order: 'ASC' | 'DESC'
    readonly conditions: readonly Prisma.Sql[]
    readonly few?: boolean
    readonly after?: string | undefined
    readonly limit: number
  },
  { atOnce, inAll }: Effort,
): Promise<{ ids: string[]; next: string | null }> {
  const rising = wanted.order === 'ASC'
  const [table, order] = [Prisma.raw(`"${wanted.table}" c`), Prisma.raw(`ORDER BY c."id" ${wanted.order}`)]
  const [beyond, upTo] = (rising ? ['>', '<='] : ['<', '>=']).map((sign) => Prisma.raw(`c."id" ${sign}`))
  const ids: string[] = []
  let from = wanted.after ?? (rising ? lowest : highest)
  let rows = Math.min(wanted.limit + 1, atOnce) // often all of them fit
  for (let seen = 0; seen < inAll;) {
    await nextTurn()
    const { end, found } = await database.read(async (client) => {
      const [end] = wanted.few
        ? []
        : await client.$queryRaw<{ id: string }[]>`
            SELECT c."id" AS "id" FROM ${table} WHERE ${beyond} ${from} ${order} LIMIT 1 OFFSET ${rows - 1}`
      // Both ends are always there: with one alone, SQLite would rather take another index, and read all of it.
      const slice = Prisma.sql`${beyond} ${from} AND ${upTo} ${end?.id ?? (rising ? highest : lowest)}`
      const conditions = Prisma.join([slice, ...wanted.conditions], ' AND ')
      const found = await client.$queryRaw<{ id: string }[]>`
        SELECT c."id" AS "id" FROM ${table} WHERE ${conditions} ${order} LIMIT ${wanted.limit + 1 - ids.length}`
      return { end, found }
    })
    ids.push(...found.map(({ id }) => id))
    if (ids.length > wanted.limit) return { ids: ids.slice(0, -1), next: ids.at(-2)! }
    if (end === undefined) return { ids, next: null }
    from = end.id
    seen += rows
    rows = Math.min(4 * rows, atOnce)
  }
  return { ids, next: from }
}

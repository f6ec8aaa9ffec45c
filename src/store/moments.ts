/**
 * The times that the audit trail bears. Its order is that of the sequence; but nothing is issued at a
 * time before what was already written (authority/guard.ts), and here stands when that was.
 */

import { nextTurn } from '../turns.ts'
import { headOf } from './audit.ts'
import type { Database } from './database.ts'
import { Prisma } from './generated/sqlite/client.ts'
import { momentOf, type StoredMoment } from './plainSql.ts'

/** The event that the clock was accepted as it is: what was written before it no longer counts. */
export const clockAccepted = 'clock.accepted'

/** How far back the latest time is looked for once: events, and how many in one go. */
const reach = 10_000
const atOnce = 1_000

export interface Moment {
  /** The latest time that an event bears since the clock was last accepted. */
  readonly at: Date
  /** The event by which it was; 0 when none is found. */
  readonly accepted: number
}

export function momentFunctions(database: Database) {
  let latest: Moment | null = null
  let seen: number | null = null // the last event that was looked at

  async function read(): Promise<Moment | null> {
    let beyond = seen ?? Math.max(0, (await headOf(database)).sequence - reach)
    for (;;) {
      const rows = await database.select<{ sequence: number | string; at: StoredMoment; type: string }>(
        Prisma.sql`SELECT "sequence", "at", "type" FROM "AuditEvent" WHERE "sequence" > ${beyond} ORDER BY "sequence" LIMIT ${atOnce}`,
      )
      for (const { type, ...row } of rows) {
        const at = momentOf(row.at)
        beyond = Number(row.sequence)
        if (type === clockAccepted) latest = { at, accepted: beyond }
        else if (latest === null || at > latest.at) latest = { at, accepted: latest?.accepted ?? 0 }
      }
      seen = beyond
      if (rows.length < atOnce) return latest
      await nextTurn()
    }
  }

  let reading: Promise<Moment | null> | undefined
  return {
    /** What the trail says of the time; null when there is no event. Who asks at the same time is told the same. */
    latestMoment: (): Promise<Moment | null> => (reading ??= read().finally(() => (reading = undefined))),
  }
}

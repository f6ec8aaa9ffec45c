/**
 * The audit trail: what happened, written in the same transaction as the act. Each event is linked to
 * the one before it where the transaction is written (sqlite.ts, postgresql.ts), because only there
 * is it known which one that is.
 */

import { bySystem, type EventType } from '../events.ts'
import { nextTurn } from '../turns.ts'
import {
  AuditEntry,
  chainBegun,
  hashOf,
  headFrom,
  lineOf,
  noEvent,
  type Chain,
  type Head,
  type LinkedEvent,
} from './chain.ts'
import type { AuditEvent as Stored } from './generated/sqlite/client.ts'
import type { CheckpointFile } from './checkpoints.ts'
import type { Database } from './database.ts'
import type { NewAuditEvent } from './model.ts'

/** How many events are read in one go; SQLite holds the event loop for the time that takes. */
const atOnce = 100

/** What a search looks at in one slice, and in all; see scan.ts. */
const slice = 2_000
const effort = 40_000

/** The types of the events that tell of a certificate that was issued. */
export const issuances: readonly string[] = ['certificate.issued', 'certificate.renewed']

export interface AuditFilter {
  readonly type?: string
  readonly actor?: string
  readonly objectId?: string
  /** Events at this instant or later. */
  readonly from?: Date
  /** Events before this instant. */
  readonly to?: Date
}

/** An event among the rows of an act. */
export const auditRow = (event: NewAuditEvent): AuditEntry => new AuditEntry(event)

export function auditFunctions(database: Database) {
  /**
   * Events in their order.
   *
   * @param page.after - the sequence after which to begin; 0 for the first.
   * @returns `next` is null when nothing follows. Otherwise something may: when the effort was spent,
   *   there may be fewer events than `limit`, or none.
   */
  async function listAuditEvents(
    { from, to, ...exact }: AuditFilter,
    { limit, after }: { readonly limit: number; readonly after: number },
  ): Promise<{ items: LinkedEvent[]; next: number | null }> {
    const last = await database.read((client) =>
      client.auditEvent.findFirst({ orderBy: { sequence: 'desc' }, select: { sequence: true } }),
    )
    const end = Number(last?.sequence ?? 0)
    const at = { ...(from && { gte: from }), ...(to && { lt: to }) }
    const items: LinkedEvent[] = []
    let beyond = after
    for (; beyond < end && beyond < after + effort; beyond += slice) {
      await nextTurn()
      const rows = await database.read((client) =>
        client.auditEvent.findMany({
          where: { ...exact, at, sequence: { gt: beyond, lte: beyond + slice } },
          orderBy: { sequence: 'asc' },
          take: limit + 1 - items.length,
        }),
      )
      items.push(...rows.map(asLinked))
      if (items.length > limit) return { items: items.slice(0, -1), next: items.at(-2)!.sequence }
    }
    return { items, next: beyond < end ? beyond : null }
  }

  return {
    listAuditEvents,

    /** Records something that changed nothing else, such as a refusal. */
    recordEvent: (event: NewAuditEvent): Promise<void> => database.add([auditRow(event)]),

    /** The details of the last event of a type; null when there is none. */
    lastEvent: (type: EventType): Promise<unknown> =>
      database.read(async (client) => {
        const row = await client.auditEvent.findFirst({ where: { type }, orderBy: { sequence: 'desc' } })
        try {
          return row === null ? null : (JSON.parse(row.details) as unknown)
        } catch {
          return null // somebody has made it something else, which the verification tells
        }
      }),

    /** The trail as lines of canonical JSON with their ends, the first event first; whole, when nothing is asked for. */
    async *auditLines(filter: AuditFilter = {}, after = 0): AsyncGenerator<string> {
      if (after === 0 && Object.keys(filter).length === 0) {
        // Also what has no place in a page, because somebody tampered with it.
        for await (const event of everyEvent(database)) yield `${lineOf(event)}\n`
        return
      }
      for (let next: number | null = after; next !== null;) {
        const page = await listAuditEvents(filter, { limit: atOnce, after: next })
        for (const event of page.items) yield `${lineOf(event)}\n`
        next = page.next
      }
    },
  }
}

/**
 * Makes the first link of a record that has events from before there was a chain: an event that is
 * linked to the hash over all of them, reckoned as if each had been linked to the one before.
 */
export async function beginChain(
  database: Database,
  chain: Chain,
  checkpoints: CheckpointFile | null,
): Promise<void> {
  const last = await database.read((client) => client.auditEvent.findFirst({ orderBy: { sequence: 'desc' } }))
  if (last === null || last.hash !== '') return
  // Whoever emptied all hashes would otherwise have them made anew, over what he wants to have happened.
  if (checkpoints?.furthest() !== undefined) return
  let hash = noEvent.hash
  for await (const event of everyEvent(database)) {
    if (event.hash !== '') return // a peer was faster
    hash = hashOf({ ...event, previousHash: hash })
  }
  chain.begin(hash)
  await database.add([
    auditRow({
      at: new Date(),
      type: chainBegun,
      outcome: 'success',
      ...bySystem,
      objectId: null,
      details: { earlierEvents: Number(last.sequence), hash },
    }),
  ])
}

/** The place of an event as it is stored: more than one may have the same sequence, if somebody made it so. */
export interface StoredPlace {
  readonly sequence: number
  readonly id: string
}

/** All events in their order, as they are stored. */
export async function* everyEvent(database: Database): AsyncGenerator<LinkedEvent> {
  for await (const slice of eventSlices(database)) yield* slice
}

/**
 * Events in their order, as they are stored, so many at once as hold the event loop for some
 * milliseconds; between two slices whatever else waits is served.
 *
 * @param beyond - after which to begin.
 * @param upTo - the last sequence that is wanted.
 */
export async function* eventSlices(
  database: Database,
  beyond: StoredPlace | null = null,
  upTo: number = Number.MAX_SAFE_INTEGER,
): AsyncGenerator<LinkedEvent[]> {
  for (let last = beyond; ;) {
    await nextTurn()
    // Not as an OR of both cases: SQLite would sort all that follows, for each slice anew.
    const rows = await database.read((client) =>
      client.auditEvent.findMany({
        where: {
          sequence: { lte: upTo, ...(last && { gte: last.sequence }) },
          ...(last && { NOT: { sequence: last.sequence, id: { lte: last.id } } }),
        },
        orderBy: [{ sequence: 'asc' }, { id: 'asc' }],
        take: atOnce,
      }),
    )
    if (rows.length > 0) yield rows.map(asLinked)
    if (rows.length < atOnce) return
    const { sequence, id } = rows.at(-1)!
    last = { sequence: Number(sequence), id }
  }
}

/** The last event there is. */
export async function headOf(database: Database): Promise<Head> {
  return headFrom(
    await database.read((client) =>
      client.auditEvent.findFirst({
        orderBy: { sequence: 'desc' },
        select: { sequence: true, hash: true },
      }),
    ),
  )
}

export const asLinked = (row: Stored): LinkedEvent => ({ ...row, sequence: Number(row.sequence) })

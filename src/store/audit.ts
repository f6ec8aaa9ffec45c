/**
 * The audit trail: what happened, written in the same transaction as the act. Each event is linked to
 * the one before it where the transaction is written (sqlite.ts, postgresql.ts), because only there
 * is it known which one that is.
 */

import { AuditEntry, chainBegun, hashOf, lineOf, noEvent, type Chain, type LinkedEvent } from './chain.ts'
import type { AuditEvent as Stored } from './generated/sqlite/client.ts'
import type { CheckpointFile } from './checkpoints.ts'
import type { Database } from './database.ts'
import type { NewAuditEvent } from './model.ts'

/** How many events are read in one go; SQLite holds the event loop for the time that takes. */
const atOnce = 500

/** An event among the rows of an act. */
export const auditRow = (event: NewAuditEvent): AuditEntry => new AuditEntry(event)

export function auditFunctions(database: Database) {
  return {
    /** Records something that changed nothing else, such as a refusal. */
    recordEvent: (event: NewAuditEvent): Promise<void> => database.add([auditRow(event)]),

    /** The whole trail as lines of canonical JSON, the first event first. */
    async *auditLines(): AsyncGenerator<string> {
      for await (const event of everyEvent(database)) yield lineOf(event)
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
  if (checkpoints !== null && checkpoints.read().checkpoints.length > 0) return
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
      actor: 'system',
      address: null,
      requestId: null,
      objectId: null,
      details: { earlierEvents: Number(last.sequence), hash },
    }),
  ])
}

/** All events in their order, as they are stored. More than one may have the same sequence, if somebody made it so. */
export async function* everyEvent(database: Database): AsyncGenerator<LinkedEvent> {
  let last: Stored | undefined
  for (;;) {
    const beyond = last && {
      OR: [{ sequence: { gt: last.sequence } }, { sequence: last.sequence, id: { gt: last.id } }],
    }
    const rows = await database.read((client) =>
      client.auditEvent.findMany({
        ...(beyond && { where: beyond }),
        orderBy: [{ sequence: 'asc' }, { id: 'asc' }],
        take: atOnce,
      }),
    )
    for (const row of rows) yield asLinked(row)
    if (rows.length < atOnce) return
    last = rows.at(-1)
  }
}

export const asLinked = (row: Stored): LinkedEvent => ({ ...row, sequence: Number(row.sequence) })

/** The audit trail: what happened, written in the same transaction as the act. */

import type { Prisma } from './generated/sqlite/client.ts'
import type { Database } from './database.ts'
import type { NewAuditEvent } from './model.ts'
import { insert } from './rows.ts'
import { uuidv7 } from './uuid.ts'

/** An event as a row. Its id is made here; ids sort by the time they were made. */
export function auditRow(event: NewAuditEvent): Prisma.Sql {
  const { at, type, outcome, actor, address, requestId, objectId } = event
  const details = JSON.stringify(event.details)
  return insert('AuditEvent', {
    id: uuidv7(at),
    at,
    type,
    outcome,
    actor,
    address,
    requestId,
    objectId,
    details,
  })
}

export function auditFunctions(database: Database) {
  return {
    /** Records something that changed nothing else, such as a refusal. */
    recordEvent: (event: NewAuditEvent): Promise<void> => database.add([auditRow(event)]),
  }
}

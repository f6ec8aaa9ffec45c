/** No audit, no action: an act that fails because no event is taken any more is refused as when the record is away. */

import { CaError } from '../errors.ts'
import type { Database } from './database.ts'
import { violatedConstraint } from './faults.ts'

/**
 * The same database, which finds out why a write failed that it does not know: whether it was the write
 * itself, or whether the audit trail takes nothing, so that a later try may succeed.
 */
export function refusingUnaudited(database: Database): Database {
  async function judged(error: unknown): Promise<never> {
    if (!(error instanceof CaError) && violatedConstraint(error) === null) await database.rehearse()
    throw error
  }
  return {
    ...database,
    add: (rows, abandoned) => database.add(rows, abandoned).catch(judged),
    write: (act) => database.write(act).catch(judged),
  }
}

/**
 * A SQLite record has one service: the writes of two would wait for each other, and each would finish
 * what the other has only begun.
 *
 * The lock is a SQLite file of its own beside the record, locked for as long as the process lives. The
 * kernel lets go of it however the process ends, kill -9 included, so the file itself says nothing and
 * stays. Whoever only opens the record, as the command line does, neither takes the lock nor needs it.
 */

import { lstatSync, realpathSync } from 'node:fs'
import { setTimeout as sleep } from 'node:timers/promises'
import Sqlite from 'better-sqlite3'
import { isBusy, translated } from './faults.ts'
import { createDatabaseFile, locationOf } from './location.ts'

/** Another process has the record. The message is for the operator. */
export class RecordInUseError extends Error {
  override readonly name = 'RecordInUseError'
}

/** A process that was just killed is still about to end. In milliseconds. */
const patience = 500

/**
 * Holds the record for this process alone; a database server needs no such thing.
 *
 * @returns what gives it up.
 * @throws RecordInUseError when another process has it; CaError `storeUnavailable` when the lock cannot
 *   be made.
 */
export async function holdRecord(url: string): Promise<() => void> {
  const location = locationOf(url)
  if (location.kind === 'postgresql') return () => {}
  try {
    createDatabaseFile(location.path)
    // Ways to its folder lead to one lock anyway; a link to the file itself would lead to another.
    const isLink = lstatSync(location.path).isSymbolicLink()
    const path = `${isLink ? realpathSync(location.path) : location.path}.lock`
    createDatabaseFile(path)
    return await lock(path)
  } catch (error) {
    throw error instanceof RecordInUseError ? error : translated(error)
  }
}

async function lock(path: string): Promise<() => void> {
  const holder = new Sqlite(path, { timeout: 0 })
  const deadline = performance.now() + patience
  for (;;) {
    try {
      holder.pragma('journal_mode = MEMORY') // nothing is ever written, so nothing is to lie beside the lock
      holder.exec('BEGIN EXCLUSIVE')
      return () => holder.close()
    } catch (error) {
      if (!isBusy(error) || performance.now() > deadline) {
        holder.close()
        if (!isBusy(error)) throw error
        throw new RecordInUseError(
          `another process serves from it. SQLite is for one: stop that process (fuser ${path} names it), ` +
            'or use PostgreSQL for several.',
          { cause: error },
        )
      }
    }
    await sleep(50)
  }
}

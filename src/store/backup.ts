/**
 * Copies of a SQLite record: made while the service writes, and looked at without being changed.
 *
 * VACUUM INTO reads one snapshot, so that a copy holds all that was committed before it began, and
 * writes it into one file that needs no -wal beside it. Copying the file of a record that is in use
 * gives neither.
 */

import { createHash } from 'node:crypto'
import { createReadStream } from 'node:fs'
import { open, rename, rm, stat } from 'node:fs/promises'
import { dirname } from 'node:path'
import { pipeline } from 'node:stream/promises'
import Sqlite from 'better-sqlite3'

export interface Backup {
  /** Of the file, lower-case hex. */
  readonly sha256: string
  readonly octets: number
}

/** There is no backup; the message is for the operator. */
export class BackupError extends Error {
  override readonly name = 'BackupError'
}

/**
 * Copies the record at `path` to the new file `to`, of mode 0600, which is there whole and on disk when
 * this resolves.
 *
 * @throws BackupError when there is such a file already, or it cannot be written; it is not there then.
 */
export async function copyRecord(path: string, to: string): Promise<Backup> {
  const draft = `${to}.part`
  const made: string[] = []
  try {
    for (const name of [to, draft]) {
      await (await open(name, 'wx', 0o600)).close() // SQLite takes an empty file, and leaves its mode
      made.push(name)
    }
    const record = new Sqlite(path, { readonly: true, timeout: 5_000 })
    try {
      record.prepare('VACUUM INTO ?').run(draft)
    } finally {
      record.close()
    }
    await flush(draft)
    await rename(draft, to)
    await flush(dirname(to))
    return { sha256: await sha256Of(to), octets: (await stat(to)).size }
  } catch (error) {
    for (const name of made) await rm(name, { force: true })
    const { code, message } = error as NodeJS.ErrnoException
    throw new BackupError(
      code === 'EEXIST'
        ? `${made.length === 0 ? to : draft} is there already, and nothing is ever overwritten: name another file.`
        : `${to} could not be written: ${message}`,
      { cause: error },
    )
  }
}

/**
 * What is wrong with a copy as a database: pages, indexes, and rows that refer to nothing. Sentences
 * without their end; none when all is well.
 *
 * @throws BackupError when it is no SQLite database, or not there.
 */
export function damageOf(path: string): string[] {
  let copy: Sqlite.Database | undefined
  try {
    copy = new Sqlite(path, { readonly: true, fileMustExist: true })
    const pages = copy.pragma('integrity_check') as { integrity_check: string }[]
    const found = pages.map((row) => row.integrity_check).filter((sentence) => sentence !== 'ok')
    if (found.length > 0) return found.map((sentence) => `integrity_check: ${sentence}`)
    const broken = copy.pragma('foreign_key_check') as { table: string; parent: string }[]
    return broken.map(
      ({ table, parent }) => `a row of ${table} refers to a row of ${parent} that is not there`,
    )
  } catch (error) {
    throw new BackupError(`${path} cannot be read as a record: ${(error as Error).message}`, { cause: error })
  } finally {
    copy?.close()
  }
}

async function flush(path: string): Promise<void> {
  const file = await open(path, 'r')
  try {
    await file.sync()
  } finally {
    await file.close()
  }
}

async function sha256Of(path: string): Promise<string> {
  const hash = createHash('sha256')
  await pipeline(createReadStream(path), hash)
  return hash.digest('hex')
}

/**
 * `hgs-ca backup` and `hgs-ca restore --verify`: a copy of the record beside a service that goes on, and
 * the proof that a copy would do, without a touch to the record that is in use.
 *
 * The key of the authority and the escrow key are in no copy: they are backed up apart from it.
 */
import { createSecretKey } from 'node:crypto'
import { existsSync, statSync } from 'node:fs'
import { copyFile, mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import { BackupError, copyRecord, damageOf } from '../store/backup.ts'
import { locationOf } from '../store/location.ts'
import { recordOf, type RecordConfig } from '../lab.ts'
import { migrate, pendingMigrations } from '../store/migrate.ts'
import type { NewAuditEvent } from '../store/model.ts'
import { openStore } from '../store/open.ts'
import { summary, tellFaults, type Outlets } from './check.ts'

const silent = { info: () => {}, warn: () => {}, error: () => {} }

/**
 * Copies the record, says where it is and its SHA-256, as sha256sum does, and notes it in the audit trail.
 *
 * @returns the exit code; 78 when the record is in PostgreSQL, which has its own tools.
 * @throws BackupError when there is no copy.
 */
export async function backUp(
  config: RecordConfig,
  file: string,
  actor: string,
  { stdout, stderr }: Outlets,
): Promise<number> {
  const { databaseUrl } = config
  const location = locationOf(databaseUrl)
  const to = resolve(file)
  if (location.kind === 'postgresql') {
    stderr.write(`The record is in PostgreSQL, which makes its own backups:\n  ${pgDump(location.url, to)}\n`)
    return 78
  }
  if (!existsSync(location.path)) throw new BackupError(`There is no record at ${location.path}.`)
  // A record that is about to be migrated is copied as it is: that is when a copy is needed most.
  const pending = await pendingMigrations(databaseUrl)
  const begun = new Date()
  const { sha256, octets } = await copyRecord(location.path, to)
  if (pending.length === 0) {
    const copy = { at: begun, type: 'record.backedUp', outcome: 'success' } as const
    await noted(config, actor, { ...copy, details: { file: to, sha256, octets } }).catch(
      async (error: unknown) => {
        await rm(to) // what nobody knows of is no backup
        throw error
      },
    )
  } else {
    stderr.write('The record is of an earlier version, so its audit trail does not tell of this backup.\n')
  }
  stdout.write(`${sha256}  ${to}\n`)
  stderr.write(
    `${octets} octets: all that was acknowledged before ${begun.toISOString()}. The keys of the authority, of the ` +
      `escrow and of the audit trail are not in it. Try it: hgs-ca restore --verify ${to}\n`,
  )
  return 0
}

/**
 * Looks whether a copy of a SQLite record is whole, of a version that is known here, and well; a line
 * for each fault. Where there is a record to write to, that it was tried is an event.
 *
 * @param config - of the record in use; null when there is none.
 * @returns the exit code: 0 when it would do, 1 when not.
 * @throws BackupError when it is no record at all, MigrationError when it is of a version not known here.
 */
export async function verifyBackup(
  file: string,
  actor: string,
  outlets: Outlets,
  config: RecordConfig | null = null,
): Promise<number> {
  const path = resolve(file)
  const damage = damageOf(path)
  for (const sentence of damage) outlets.stdout.write(`${sentence}\n`)
  if (damage.length > 0) {
    outlets.stderr.write(`${path} is damaged. Take another backup.\n`)
    return 1
  }
  const pending = await pendingMigrations(`file:${path}`)
  if (pending.length > 0) outlets.stderr.write(`It is migrated when it is restored: ${pending.join(', ')}.\n`)
  const { mode } = statSync(path)
  if ((mode & 0o077) !== 0)
    outlets.stderr.write(`Others than its owner can read it (mode ${(mode & 0o777).toString(8)}).\n`)

  const { faults, certificates, newest, text } = await (pending.length === 0
    ? checked(path)
    : checkedAsMigrated(path))
  async function checked(copy: string) {
    const store = await openStore(`file:${copy}`, { log: silent, readOnly: true, auditKey: none })
    try {
      const tally = await tellFaults(store, outlets)
      return { ...tally, text: summary(tally) }
    } finally {
      await store.close()
    }
  }
  async function checkedAsMigrated(original: string) {
    const folder = await mkdtemp(join(tmpdir(), 'hgs-ca-restore-'))
    try {
      const copy = join(folder, 'record.db')
      await copyFile(original, copy)
      await migrate(`file:${copy}`)
      return await checked(copy)
    } finally {
      await rm(folder, { recursive: true })
    }
  }
  outlets.stderr.write(`${text}\n`)
  outlets.stderr.write(
    newest === null
      ? 'It holds no certificate.\n'
      : `The newest is ${newest.id}, serial number ${newest.serialNumber}, ${newest.subject}, issued ${newest.issuedAt.toISOString()}.\n`,
  )
  const told = { file: path, faults, certificates }
  if (config !== null) await notedIfThere(config, actor, told, faults === 0 ? 'success' : 'failure')
  return faults === 0 ? 0 : 1
}

/** Where there is no record, or none that can be written to, there is nothing to note it in: it may be the day that it is lost. */
async function notedIfThere(
  config: RecordConfig,
  actor: string,
  details: Readonly<Record<string, unknown>>,
  outcome: NewAuditEvent['outcome'],
): Promise<void> {
  const location = locationOf(config.databaseUrl)
  if (location.kind === 'sqlite' && (!existsSync(location.path) || statSync(location.path).size === 0)) return
  try {
    if ((await pendingMigrations(config.databaseUrl)).length > 0) return
    await noted(config, actor, { at: new Date(), type: 'record.restoreVerified', outcome, details })
  } catch {
    // the copy is what was asked about
  }
}

/** How a copy becomes the record again: by hand, since nobody should do it by mistake. */
export const howToRestore = `Restoring puts an earlier record in the place of the one in use: what was issued since is then not on record.
  1. hgs-ca restore --verify FILE
  2. Stop the service, and keep the record: move it away, with its -wal and -shm.
  3. install -m 600 FILE RECORD, as the user of the service.
  4. hgs-ca doctor. Where there are checkpoints: hgs-ca audit accept-rollback. Then start the service.
For PostgreSQL: pg_restore.
`

/** For a record to which nothing is added. */
const none = createSecretKey(Buffer.alloc(32))

async function noted(
  config: RecordConfig,
  actor: string,
  event: Pick<NewAuditEvent, 'at' | 'type' | 'outcome' | 'details'>,
): Promise<void> {
  const store = await recordOf(config, { log: silent })
  try {
    await store.recordEvent({ ...event, actor, address: null, requestId: null, objectId: null })
  } finally {
    await store.close()
  }
}

/** The line for the shell, without the password: pg_dump asks for it, or takes ~/.pgpass. */
function pgDump(url: string, file: string): string {
  const place = new URL(url)
  place.password = ''
  place.searchParams.delete('password')
  return `(umask 077 && pg_dump --format=custom --file=${quoted(file)} --dbname=${quoted(place.href)})`
}

const quoted = (text: string): string => `'${text.replaceAll("'", "'\\''")}'`

/**
 * Brings a database to the schema of this build: applies the SQL files under prisma/ that it does
 * not have yet, in order, all of them or none.
 *
 * The books are Prisma's (`_prisma_migrations`, word for word), so `prisma migrate status` agrees
 * with them; the engine that Prisma would download for the job is not needed. Several instances may
 * start at once: one migrates, the others wait for it.
 *
 * A migration therefore holds nothing that cannot run inside a transaction.
 */

import { createHash, randomUUID } from 'node:crypto'
import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { setTimeout as sleep } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import Sqlite from 'better-sqlite3'
import pg from 'pg'
import { translated } from './faults.ts'
import { createDatabaseFile, locationOf } from './location.ts'
import type { Log } from './log.ts'

/** The database cannot be brought to the schema of this build. The message is for the operator. */
export class MigrationError extends Error {
  override readonly name = 'MigrationError'
}

interface Migration {
  readonly name: string
  readonly sql: string
  /** SHA-256 of the file, lower-case hex, as Prisma reckons it. */
  readonly checksum: string
}

/** A row of `_prisma_migrations`, as far as it matters here. */
interface Applied {
  readonly migration_name: string
  readonly checksum: string
  readonly finished_at: unknown
  readonly rolled_back_at: unknown
}

/** How long to wait for a peer that migrates, in milliseconds. */
const defaultPatience = 60_000

/**
 * Applies what is missing and gives the names of the migrations applied now.
 *
 * @param options.patience - how long to wait for a peer that holds the lock, in milliseconds.
 * @throws MigrationError with a sentence for the operator; nothing was changed then. CaError
 *   `storeUnavailable` when the database cannot be reached.
 */
export async function migrate(
  url: string,
  options: { readonly log?: Pick<Log, 'info'>; readonly patience?: number } = {},
): Promise<string[]> {
  const location = locationOf(url)
  const migrations = migrationsFor(location.kind)
  const patience = options.patience ?? defaultPatience
  const applied = await (
    location.kind === 'sqlite'
      ? migrateSqlite(location.path, migrations, patience)
      : migratePostgresql(location.url, migrations, patience)
  ).catch((error: unknown) => {
    throw error instanceof MigrationError ? error : translated(error)
  })
  for (const migration of applied) options.log?.info({ migration }, 'The database was migrated.')
  return applied
}

/**
 * The migrations that a database lacks, by name; nothing is changed. All of them for an empty one.
 *
 * @throws MigrationError when it is newer than this build, or was left half done. CaError
 *   `storeUnavailable` when it cannot be read.
 */
export async function pendingMigrations(url: string): Promise<string[]> {
  const location = locationOf(url)
  try {
    const books =
      location.kind === 'sqlite' ? booksOfSqlite(location.path) : await booksOfPostgresql(location.url)
    return missing(migrationsFor(location.kind), books).map(({ name }) => name)
  } catch (error) {
    throw error instanceof MigrationError ? error : translated(error)
  }
}

/** The name of the last migration of this build, which every record that is opened has. */
export const lastMigration = (url: string): string => migrationsFor(locationOf(url).kind).at(-1)!.name

function booksOfSqlite(path: string): Applied[] {
  const database = new Sqlite(path, { readonly: true, fileMustExist: true, timeout: 5_000 })
  try {
    const tables = `SELECT "name" FROM "sqlite_master" WHERE "name" = '_prisma_migrations'`
    return database.prepare(tables).get() === undefined ? [] : database.prepare<[], Applied>(readBooks).all()
  } finally {
    database.close()
  }
}

async function booksOfPostgresql(url: string): Promise<Applied[]> {
  const client = new pg.Client({
    connectionString: url,
    application_name: 'hgs-ca',
    connectionTimeoutMillis: 5_000,
  })
  client.on('error', () => {}) // as in migratePostgresql
  await client.connect()
  try {
    await client.query('SET search_path TO public')
    return await readBooksOf(client)
  } finally {
    await client.end()
  }
}

async function readBooksOf(client: pg.Client): Promise<Applied[]> {
  const { rows } = await client.query<{ books: string | null }>(
    `SELECT to_regclass('_prisma_migrations')::text AS books`,
  )
  return rows[0]?.books == null ? [] : (await client.query<Applied>(readBooks)).rows
}

/** The folder is beside src/ and dist/ alike, so the way there is the same from both. */
function migrationsFor(provider: 'sqlite' | 'postgresql'): Migration[] {
  const folder = fileURLToPath(new URL(`../../prisma/${provider}/migrations/`, import.meta.url))
  if (!existsSync(folder)) throw new MigrationError(`The migrations of this build are missing: ${folder}`)
  return readdirSync(folder, { withFileTypes: true })
    .filter((entry) => entry.isDirectory())
    .map((entry) => entry.name)
    .toSorted()
    .map((name) => {
      const file = readFileSync(`${folder}${name}/migration.sql`)
      return { name, sql: file.toString('utf8'), checksum: createHash('sha256').update(file).digest('hex') }
    })
}

/** The migrations still to apply, after a look at the books for anything that forbids to go on. */
function missing(migrations: readonly Migration[], books: readonly Applied[]): Migration[] {
  const known = new Map(migrations.map((migration) => [migration.name, migration]))
  const applied = books.filter((row) => row.rolled_back_at === null)
  for (const row of applied) {
    const migration = known.get(row.migration_name)
    if (migration === undefined) {
      throw new MigrationError(
        `The database is newer than this service: it has the migration ${row.migration_name}, which this ` +
          `version does not know. Start the newer version, or restore the backup that was made before the upgrade.`,
      )
    }
    if (row.finished_at === null) {
      throw new MigrationError(
        `The migration ${row.migration_name} failed earlier and was left half done. Restore the backup that was ` +
          `made before it, or mend the database and set rolled_back_at of its row in _prisma_migrations.`,
      )
    }
    if (row.checksum !== migration.checksum) {
      throw new MigrationError(
        `The migration ${row.migration_name} was changed after it was applied to this database (SHA-256 ` +
          `${row.checksum} there, ${migration.checksum} here). Start the version that the database was made with.`,
      )
    }
  }
  const done = new Set(applied.map((row) => row.migration_name))
  return migrations.filter((migration) => !done.has(migration.name))
}

const readBooks =
  'SELECT "migration_name", "checksum", "finished_at", "rolled_back_at" FROM "_prisma_migrations"'

/** As Prisma's engine creates it in SQLite. */
const booksInSqlite = `CREATE TABLE IF NOT EXISTS "_prisma_migrations" (
    "id"                    TEXT PRIMARY KEY NOT NULL,
    "checksum"              TEXT NOT NULL,
    "finished_at"           DATETIME,
    "migration_name"        TEXT NOT NULL,
    "logs"                  TEXT,
    "rolled_back_at"        DATETIME,
    "started_at"            DATETIME NOT NULL DEFAULT current_timestamp,
    "applied_steps_count"   INTEGER UNSIGNED NOT NULL DEFAULT 0
)`

/** As Prisma's engine creates it in PostgreSQL. */
const booksInPostgresql = `CREATE TABLE IF NOT EXISTS _prisma_migrations (
    id                      VARCHAR(36) PRIMARY KEY NOT NULL,
    checksum                VARCHAR(64) NOT NULL,
    finished_at             TIMESTAMPTZ,
    migration_name          VARCHAR(255) NOT NULL,
    logs                    TEXT,
    rolled_back_at          TIMESTAMPTZ,
    started_at              TIMESTAMPTZ NOT NULL DEFAULT now(),
    applied_steps_count     INTEGER NOT NULL DEFAULT 0
)`

async function migrateSqlite(path: string, migrations: Migration[], patience: number): Promise<string[]> {
  createDatabaseFile(path)
  // Each attempt blocks the event loop for 50 ms at most; between attempts others have it.
  const database = new Sqlite(path, { timeout: 50 })
  try {
    const deadline = performance.now() + patience
    for (;;) {
      try {
        return migrateLocked(database, migrations)
      } catch (error) {
        if (database.inTransaction) database.exec('ROLLBACK')
        if (!isBusy(error)) throw error
        if (performance.now() >= deadline) throw waitedInVain(patience, error)
        await sleep(50)
      }
    }
  } finally {
    database.close()
  }
}

function migrateLocked(database: Sqlite.Database, migrations: Migration[]): string[] {
  // In WAL mode the driver's default is NORMAL, which may lose the last commits with the power.
  database.pragma('synchronous = FULL')
  // Has no effect inside a transaction, so it comes before. A table that is made anew, as SQLite
  // often must, would otherwise take along or refuse the rows that refer to it.
  database.pragma('foreign_keys = OFF')
  database.exec('BEGIN IMMEDIATE')
  database.exec(booksInSqlite)
  const todo = missing(migrations, database.prepare<[], Applied>(readBooks).all())
  const enter = database.prepare(
    `INSERT INTO "_prisma_migrations" ("id", "checksum", "migration_name", "started_at", "finished_at", "applied_steps_count")
     VALUES (?, ?, ?, ?, ?, 1)`,
  )
  for (const migration of todo) {
    const startedAt = Date.now() // Prisma's engine keeps DATETIME in SQLite as milliseconds since 1970
    database.exec(migration.sql)
    enter.run(randomUUID(), migration.checksum, migration.name, startedAt, Date.now())
  }
  const broken = database.pragma('foreign_key_check') as unknown[]
  if (broken.length > 0) {
    throw new MigrationError(
      `The migration would leave ${broken.length} rows that refer to nothing: ${JSON.stringify(broken[0])}. Nothing was changed.`,
    )
  }
  database.exec('COMMIT')
  return todo.map((migration) => migration.name)
}

function isBusy(error: unknown): boolean {
  return error instanceof Sqlite.SqliteError && /^SQLITE_(BUSY|LOCKED)/.test(error.code)
}

/** The advisory lock that Prisma's engine takes, so that it and this runner exclude each other. */
const lockOfPrisma = 72_707_369

async function migratePostgresql(url: string, migrations: Migration[], patience: number): Promise<string[]> {
  const client = new pg.Client({
    connectionString: url,
    application_name: 'hgs-ca migrate',
    connectionTimeoutMillis: 5_000,
  })
  client.on('error', () => {}) // a lost connection also rejects the query under way, which is awaited
  await client.connect()
  try {
    // The client of Prisma looks in "public" only, whatever the search path of the role.
    await client.query('SET search_path TO public')
    // Whoever serves from it need not be the one who may change it: prisma/postgresql/grants.sql.
    if (missing(migrations, await readBooksOf(client)).length === 0) return []
    await client.query(`SET lock_timeout TO ${Math.max(1, Math.trunc(patience))}`)
    try {
      await client.query(`SELECT pg_advisory_lock(${lockOfPrisma})`)
    } catch (error) {
      if (isLockTimeout(error)) throw waitedInVain(patience, error)
      throw error
    }
    await client.query('BEGIN')
    await client.query(booksInPostgresql)
    const todo = missing(migrations, (await client.query<Applied>(readBooks)).rows)
    for (const migration of todo) {
      const startedAt = new Date()
      await client.query(migration.sql)
      await client.query({
        text: `INSERT INTO _prisma_migrations (id, checksum, migration_name, started_at, finished_at, applied_steps_count)
               VALUES ($1, $2, $3, $4, $5, 1)`,
        values: [randomUUID(), migration.checksum, migration.name, startedAt, new Date()],
      })
    }
    await client.query('COMMIT')
    return todo.map((migration) => migration.name)
  } finally {
    await client.end() // gives back the lock, and rolls back what was not committed
  }
}

function isLockTimeout(error: unknown): boolean {
  return error instanceof pg.DatabaseError && error.code === '55P03' // lock_not_available
}

function waitedInVain(patience: number, cause: unknown): MigrationError {
  return new MigrationError(
    `Another instance has held the database for migration for more than ${patience / 1000} s. Look whether it ` +
      `still works; if it hangs, stop it and start this one again.`,
    { cause },
  )
}

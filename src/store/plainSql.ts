/**
 * SQL past Prisma, on connections of its own: for what every order asks and adds, where Prisma's part of a
 * statement costs more than the database's. Statements are written with `Prisma.sql` all the same, so every
 * value travels as a parameter; they are prepared once and kept, and so name their columns: one that a later
 * version adds would end a prepared `SELECT *` of this one.
 *
 * Moments are stored as Prisma stores them, in UTC: SQLite has them as text, PostgreSQL as timestamps
 * without a zone.
 */

import { createHash } from 'node:crypto'
import Sqlite from 'better-sqlite3'
import pg from 'pg'
import type { Prisma } from './generated/sqlite/client.ts'

/** A moment as a row has it. */
export type StoredMoment = Date | string

export const momentOf = (stored: StoredMoment): Date => (stored instanceof Date ? stored : new Date(stored))
export const momentOrNull = (stored: StoredMoment | null): Date | null =>
  stored === null ? null : momentOf(stored)

/** Both drivers give a Buffer, which is a Uint8Array and shows itself differently in JSON. */
export const octetsOf = ({ buffer, byteOffset, length }: Uint8Array): Uint8Array =>
  new Uint8Array(buffer, byteOffset, length)

export interface PlainSqlite {
  readonly all: <Row>(query: Prisma.Sql) => Row[]
  readonly run: (query: Prisma.Sql) => void
  /** One of those that have no parameters. */
  readonly execute: (sql: string) => void
  readonly isInTransaction: () => boolean
  readonly close: () => void
}

/**
 * @param timeout - how long a statement waits for the lock of the file, and holds the event loop, in milliseconds.
 * @param pragmas - what is set first; each must then be so.
 * @throws Error when one of them is not.
 */
export function plainSqlite(
  path: string,
  { timeout, readonly, pragmas }: { timeout: number; readonly: boolean; pragmas: Record<string, string> },
): PlainSqlite {
  const connection = new Sqlite(path, { timeout, readonly, fileMustExist: true })
  const prepared = new Map<string, Sqlite.Statement>()
  const statement = (sql: string): Sqlite.Statement => {
    const known = prepared.get(sql) ?? connection.prepare(sql)
    prepared.set(sql, known)
    return known
  }
  try {
    for (const [name, wanted] of Object.entries(pragmas)) {
      connection.pragma(`${name} = ${wanted}`)
      const found = String(connection.pragma(name, { simple: true }))
      if (found !== wanted) throw new Error(`SQLite has ${name} ${found} where it must be ${wanted}`)
    }
  } catch (error) {
    connection.close()
    throw error
  }
  return {
    all: <Row>({ sql, values }: Prisma.Sql) => statement(sql).all(...values.map(forSqlite)) as Row[],
    run: ({ sql, values }) => void statement(sql).run(...values.map(forSqlite)),
    execute: (sql) => void statement(sql).run(),
    isInTransaction: () => connection.inTransaction,
    close: () => void connection.close(),
  }
}

/** As Prisma's adapter writes it. */
function forSqlite(value: unknown): unknown {
  if (value instanceof Date) return value.toISOString().replace('Z', '+00:00')
  return typeof value === 'boolean' ? Number(value) : value
}

const timestamp = 1114 // the type of a column without a zone, by its number
/** Read as UTC, which is what is written; pg takes it for local time. */
const types: pg.CustomTypesConfig = {
  getTypeParser: ((oid: number, format?: 'text' | 'binary') =>
    oid === timestamp && format !== 'binary'
      ? (text: string) => new Date(`${text.replace(' ', 'T')}Z`)
      : pg.types.getTypeParser(oid, format as 'text')) as pg.CustomTypesConfig['getTypeParser'],
}

/** @param kept - whether it is asked often enough to be kept by the connection. */
export const forPostgresql = ({ text, values }: Prisma.Sql, kept: boolean): pg.QueryConfig => ({
  ...(kept && { name: nameOf(text) }),
  text,
  values: values.map((value) => (value instanceof Date ? value.toISOString().replace('Z', '') : value)),
  types,
})

const names = new Map<string, string>()
function nameOf(text: string): string {
  const known = names.get(text) ?? createHash('sha256').update(text).digest('hex').slice(0, 32)
  names.set(text, known)
  return known
}

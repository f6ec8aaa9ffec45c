/**
 * What the errors of Prisma, its adapters and the two drivers mean. Read here and nowhere else,
 * because they come in five shapes: a Prisma code, a SQLSTATE, a result code of SQLite, a code of
 * the operating system, and for some lost connections only a sentence.
 */

import { CaError } from '../errors.ts'
import type { Database } from './database.ts'

/** Prisma's codes for a database that cannot be reached, is too busy, or took too long. */
const prismaCodes = new Set([
  'P1000', // authentication failed
  'P1001', // cannot be reached
  'P1002', // reached, but timed out
  'P1003', // the database does not exist
  'P1008', // timed out; on SQLite: busy
  'P1010', // access denied
  'P1011', // TLS
  'P1017', // closed the connection
  'P1018', // transaction already closed
  'P2024', // no connection from the pool in time
  'P2028', // the transaction could not be started in time, or outlived its time
  'P2034', // write conflict or deadlock
  'P2037', // too many connections
])

/** The same, as the adapters call it: below a raw query, Prisma's code is P2010 whatever happened. */
const adapterKinds = new Set([
  'AuthenticationFailed',
  'ConnectionClosed',
  'DatabaseAccessDenied',
  'DatabaseDoesNotExist',
  'DatabaseNotReachable',
  'SocketTimeout',
  'TlsConnectionError',
  'TooManyConnections',
  'TransactionAlreadyClosed',
  'TransactionWriteConflict',
])

/** SQLSTATE classes and codes (PostgreSQL, appendix A). */
const sqlStates =
  /^(08...|53...|57P0[1-5]|57014|58...|25006|25P0[34]|55P03|55006|40001|40P01|28000|28P01|3D000|XX00[12])$/

const sqliteCodes =
  /^SQLITE_(BUSY|LOCKED|FULL|IOERR|READONLY|CANTOPEN|CORRUPT|NOTADB|NOMEM|PERM|AUTH|PROTOCOL)/

const systemCodes =
  /^(ECONN(REFUSED|RESET|ABORTED)|EPIPE|ETIMEDOUT|ENOTFOUND|EAI_AGAIN|EHOSTUNREACH|ENETUNREACH|ENOENT|EACCES)$/

const uniqueViolation = '23505' // SQLSTATE

/** What pg says without any code: its own words, tested on a server that is stopped and started. */
const sentences =
  /Client has encountered a connection error|Query read timeout|timeout exceeded when trying to connect|Connection terminated|Client was closed|Cannot use a pool after calling end|server closed the connection|The database connection is not open/

interface Link {
  readonly code?: unknown
  readonly kind?: unknown
  readonly originalCode?: unknown
  readonly message?: unknown
  readonly originalMessage?: unknown
  readonly cause?: unknown
  readonly meta?: { readonly driverAdapterError?: unknown }
}

/** An error and everything it stands for, outermost first. */
function* chain(error: unknown): Generator<Link> {
  let link = error as Link | undefined | null
  for (let depth = 0; link && typeof link === 'object' && depth < 8; depth += 1) {
    yield link
    link = (link.meta?.driverAdapterError ?? link.cause) as Link | undefined
  }
}

function says(value: unknown, pattern: RegExp): boolean {
  return typeof value === 'string' && pattern.test(value)
}

/** Whether the database is away, full, locked or refuses to write, so that a later try may succeed. */
export function isUnavailable(error: unknown): boolean {
  for (const link of chain(error)) {
    for (const code of [link.code, link.originalCode]) {
      if (typeof code !== 'string') continue
      if (prismaCodes.has(code) || sqlStates.test(code) || sqliteCodes.test(code) || systemCodes.test(code))
        return true
    }
    if (typeof link.kind === 'string' && adapterKinds.has(link.kind)) return true
    if (says(link.message, sentences)) return true
  }
  return false
}

/** Whether somebody else holds the lock of the SQLite file at the moment. */
export function isBusy(error: unknown): boolean {
  for (const link of chain(error)) {
    if (link.code === 'P1008' || says(link.originalCode ?? link.code, /^SQLITE_(BUSY|LOCKED)/)) return true
  }
  return false
}

/** Whether there is no room left for the SQLite file. */
export function isFull(error: unknown): boolean {
  for (const link of chain(error)) if (says(link.originalCode ?? link.code, /^SQLITE_FULL/)) return true
  return false
}

/** The error that says so to the client. */
export function unavailable(cause: unknown): CaError {
  return new CaError(
    'storeUnavailable',
    'The record cannot be reached at the moment. Repeat the request, with the same Idempotency-Key.',
    {
      cause,
      facts: { retryAfterSeconds: 1 },
    },
  )
}

/** The same error, or the one that the client should see instead. */
export function translated(error: unknown): unknown {
  return !(error instanceof CaError) && isUnavailable(error) ? unavailable(error) : error
}

/**
 * Which unique constraint refused a row, as `Table_column_column`; null for any other error. It is said
 * differently: by SQLite by table and columns, by PostgreSQL by the name of the index; and by the adapters
 * of Prisma and the drivers themselves each in their own way.
 */
export function violatedConstraint(error: unknown): string | null {
  for (const link of chain(error)) {
    const { kind, table, constraint, code, message } = link as {
      kind?: unknown
      table?: string
      constraint?: string | { fields?: string[]; index?: string }
      code?: unknown
      message?: string
    }
    if (says(code, /^SQLITE_CONSTRAINT_(UNIQUE|PRIMARYKEY)$/)) {
      const [, columns = ''] = /: (.*)$/.exec(message ?? '') ?? []
      const [first = '', ...others] = columns.split(', ')
      return [...first.split('.'), ...others.map((one) => one.split('.')[1])].join('_')
    }
    if (code === uniqueViolation && typeof constraint === 'string') return constraint.replace(/_key$/, '')
    if (kind !== 'UniqueConstraintViolation' || typeof constraint === 'string') continue
    if (constraint?.index !== undefined) return constraint.index.replace(/_key$/, '')
    return [table, ...(constraint?.fields ?? [])].join('_')
  }
  return null
}

/**
 * Adds the rows; `taken` when one of these constraints refuses one that is there already.
 *
 * @param constraints - as violatedConstraint names them.
 */
export async function addedOr<Taken extends string>(
  database: Pick<Database, 'add'>,
  taken: Taken,
  constraints: readonly string[],
  rows: Parameters<Database['add']>[0],
): Promise<'recorded' | Taken> {
  try {
    await database.add(rows)
    return 'recorded'
  } catch (error) {
    if (!constraints.includes(violatedConstraint(error) ?? '')) throw error
    return taken
  }
}

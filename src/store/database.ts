/**
 * What the files of this room share: a connected database, SQLite or PostgreSQL, with one way to ask
 * it and one way to write to it. Opened by sqlite.ts and postgresql.ts.
 */

import type { CaError } from '../errors.ts'
import type { AuditEntry } from './chain.ts'
import type { Prisma, PrismaClient } from './generated/sqlite/client.ts'

/**
 * The client that everybody here works with. Prisma generates one type for each provider, and the
 * two are not assignable to each other although the models are the same (a test holds them equal).
 * The one of SQLite stands for both, because PostgreSQL can all that it can; the one cast is in
 * postgresql.ts.
 */
export type Client = PrismaClient
export type Transaction = Prisma.TransactionClient

/** What is added: a row (see rows.ts), or an audit event, whose row is made once its place is known. */
export type Addition = Prisma.Sql | AuditEntry

/** What was read back from the database when it was opened. */
export type Settings =
  | {
      readonly kind: 'sqlite'
      readonly version: string
      readonly journalMode: string
      readonly synchronous: string
    }
  | {
      readonly kind: 'postgresql'
      readonly version: string
      readonly fsync: string
      readonly synchronousCommit: string
    }

/** @param tell - takes an audit event into the transaction, at its end. */
export type Act<T> = (transaction: Transaction, tell: (entry: AuditEntry) => void) => Promise<T>

export interface Database {
  readonly settings: Settings
  /**
   * Asks on the connection for reading, which sees only what is committed.
   * @throws CaError `storeUnavailable` when the database is away, full or locked.
   */
  read: <T>(question: (client: Client) => Promise<T>) => Promise<T>
  /** The same past Prisma (plainSql.ts): for what every order asks. Moments come as they are stored. */
  select: <Row>(query: Prisma.Sql) => Promise<Row[]>
  /**
   * Adds rows, all or none, in their order, and their audit events after them: durable when it
   * resolves. When it rejects, nothing was kept, or, after a lost connection, it is not known.
   * @throws CaError `storeUnavailable` when the database is away, full or locked; Error when there is
   *   no audit event: nothing is done that is not told; the reason of `abandoned`, when that is aborted
   *   before the rows are being written.
   */
  add: (rows: readonly Addition[], abandoned?: AbortSignal) => Promise<void>
  /** How many writes wait for their turn. */
  queued: () => number
  /**
   * As `add`, for a write that first has to look: runs `act` in a transaction. It may run more than
   * once, so it touches nothing but the transaction. What it did, it tells by `tell`.
   * @throws CaError `storeUnavailable` when the database is away, full or locked.
   */
  write: <T>(act: Act<T>) => Promise<T>
  /**
   * Whether there is room to write, as far as that can be told without writing.
   * @throws CaError `storeUnavailable` when the disk is full or cannot be written to.
   */
  probe: () => Promise<void>
  /**
   * Writes an audit event and takes it back: whether one would be kept.
   * @throws CaError `storeUnavailable` when not, for whatever reason.
   */
  rehearse: () => Promise<void>
  /**
   * From now on every call is refused, because what was acknowledged may not be what is stored.
   * Gives the refusal, for the caller to throw.
   */
  declareUnfit: (reason: Error) => CaError
  /** Waits for what is under way. */
  close: () => Promise<void>
}

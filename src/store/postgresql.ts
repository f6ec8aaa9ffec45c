/**
 * The record in PostgreSQL: one pool that writes, one that reads, and for what every order asks and adds, one
 * past Prisma (plainSql.ts).
 *
 * Each audit event is linked to the one before, so whoever writes holds the lock of the chain until his
 * transaction ends (`audit_head`, in prisma/). What waits in the meantime is written together, in one
 * transaction of four round trips (group commit): among instances the lock is all that writing waits for.
 *
 * Every wait has an end, on the server and here, so that a database that hangs gives a refusal and
 * not a hanging request. A server that went away and came back is found again by the next call.
 */

import { setTimeout as sleep } from 'node:timers/promises'
import { PrismaPg } from '@prisma/adapter-pg'
import pg from 'pg'
import { CaError } from '../errors.ts'
import { Prisma, PrismaClient } from './generated/postgresql/client.ts'
import { headFrom, type AuditEntry, type Chain, type Head } from './chain.ts'
import { tellEach, writeQueue } from './queue.ts'
import { isUnavailable, translated, unavailable } from './faults.ts'
import { createGate } from './gate.ts'
import type { Act, Client, Database, Settings, Transaction } from './database.ts'
import { forPostgresql } from './plainSql.ts'
import { apart, eventRow, rehearsalRow, together } from './rows.ts'
import type { Log } from './log.ts'

/** Connections of one instance, for whoever sets max_connections on the server. */
const writingConnections = 6
const readingConnections = 4
const plainReadingConnections = 3 // past Prisma; and one more writes

/**
 * In milliseconds. Whoever idles in a transaction holds the lock that all others wait for. The last one
 * is for a server that answers nothing at all: a frozen host, a cut cable.
 */
const limits = { connect: 2_000, statement: 5_000, lock: 2_000, idleInTransaction: 3_000, call: 10_000 }

/**
 * @param chain - what links audit events.
 * @throws CaError `storeUnavailable` when the server cannot be reached.
 */
export async function openPostgresql(
  url: string,
  chain: Chain,
  log: Log,
  onUnfit: (reason: Error) => void,
): Promise<Database> {
  const gate = createGate(onUnfit)
  const writer = connect(url, writingConnections, log)
  const reader = connect(url, readingConnections, log)
  const plain = {
    writer: plainPool(url, 1, log),
    reader: plainPool(url, plainReadingConnections, log),
  }

  /** Gives up waiting, not the call: what becomes of a write is then not known, as with a lost connection. */
  async function bounded<T>(call: () => Promise<T>): Promise<T> {
    let timer: NodeJS.Timeout | undefined
    const silence = new Promise<never>((_, reject) => {
      timer = setTimeout(() => {
        reject(unavailable(new Error(`PostgreSQL gave no answer within ${limits.call} ms`)))
      }, limits.call)
    })
    try {
      return await Promise.race([call(), silence])
    } finally {
      clearTimeout(timer)
    }
  }

  /**
   * Adds rows, and events linked to the last one. The lock is taken before the rows, all of which then
   * go in one statement: so two instances never wait for each other's rows, each holding what the other needs.
   */
  async function append(
    transaction: Transaction,
    acts: readonly (readonly Prisma.Sql[])[],
    entries: readonly AuditEntry[],
  ): Promise<Head> {
    const [head] = await transaction.$queryRaw<{ sequence: bigint; hash: string }[]>(lastEvent)
    const linked = chain.link(headFrom(head), entries)
    await transaction.$executeRaw(oneStatement(together([...acts, linked.map(eventRow)])))
    return linked.at(-1)!
  }

  /** The same for a group that only adds, past Prisma. */
  async function addTogether(
    acts: readonly (readonly Prisma.Sql[])[],
    entries: readonly AuditEntry[],
  ): Promise<Head> {
    const client = await plain.writer.connect()
    try {
      await client.query('BEGIN')
      const { rows } = await client.query<{ sequence: string; hash: string }>(forPostgresql(lastEvent, true))
      const linked = chain.link(headFrom(rows[0]), entries)
      await client.query(forPostgresql(oneStatement(together([...acts, linked.map(eventRow)])), false))
      await client.query('COMMIT')
      client.release()
      return linked.at(-1)!
    } catch (error) {
      // Taken back; where the server is away, with the connection.
      const takenBack = () =>
        client.query('ROLLBACK').then(
          () => true,
          () => false,
        )
      const isLost = isUnavailable(error) || !(await takenBack())
      client.release(isLost)
      throw error
    }
  }

  const queue = writeQueue<Waiting>(commit)

  /** Writes a group in one transaction. */
  async function commit(taken: readonly Waiting[]): Promise<void> {
    const group = taken.filter(({ until }) => until > performance.now())
    if (group.length === 0) return
    const acts = group.map(({ rows }) => rows)
    const entries = group.flatMap((waiting) => waiting.entries)
    try {
      const head = await bounded(() => addTogether(acts, entries))
      chain.committed(head)
      void tellEach(group.map(({ resolve }) => resolve))
    } catch (error) {
      if (group.length === 1 || isUnavailable(error) || error instanceof CaError) {
        for (const waiting of group) waiting.reject(error)
        return
      }
      for (const waiting of group) waiting.alone = true // one of them is at fault, and only that one may fail
      queue.again(group)
    }
  }

  let ended: Promise<unknown> | undefined
  async function disconnect(): Promise<void> {
    await Promise.race([
      Promise.all([
        writer.$disconnect(),
        reader.$disconnect(),
        (ended ??= Promise.all([plain.writer.end(), plain.reader.end()])),
      ]),
      sleep(limits.connect, undefined, { ref: false }),
    ])
  }

  const settings = await readBack(writer).catch(async (error: unknown) => {
    await disconnect()
    throw translated(error)
  })
  if (settings.fsync === 'off' || settings.synchronousCommit === 'off') {
    log.warn(
      { settings },
      'PostgreSQL may lose what it has acknowledged: set fsync and synchronous_commit to on.',
    )
  }

  return {
    settings,
    declareUnfit: gate.declareUnfit,
    read: (question) => gate.pass(() => bounded(() => question(reader))),
    select: <Row>(query: Prisma.Sql) =>
      gate.pass(() =>
        bounded(async () => (await plain.reader.query(forPostgresql(query, true))).rows as Row[]),
      ),
    async add(additions, abandoned) {
      const { rows, entries } = apart(additions)
      await gate.pass(() =>
        bounded(
          () =>
            new Promise<void>((resolve, reject) => {
              const until = performance.now() + limits.call
              queue.push({ rows, entries, resolve, reject, until, abandoned, alone: false })
            }),
        ),
      )
    },
    queued: queue.length,
    write: <T>(act: Act<T>) =>
      gate.pass(() =>
        bounded(async () => {
          const { result, head } = await writer.$transaction(async (transaction) => {
            const entries: AuditEntry[] = []
            const result = await act(transaction, (entry) => void entries.push(entry))
            return { result, head: entries.length > 0 ? await append(transaction, [], entries) : null }
          })
          if (head !== null) chain.committed(head)
          return result
        }),
      ),
    probe: async () => {}, // its disk is seen on the server alone
    async rehearse() {
      const takenBack = new Error('taken back')
      const rehearsal = async (transaction: Transaction): Promise<never> => {
        await transaction.$executeRaw(rehearsalRow())
        throw takenBack
      }
      await gate
        .pass(() => bounded(() => writer.$transaction(rehearsal)))
        .catch((error: unknown) => {
          if (error !== takenBack) throw error instanceof CaError ? error : unavailable(error)
        })
    },
    async close() {
      await gate.close()
      await disconnect()
    },
  }
}

/** A write in the queue. */
interface Waiting {
  readonly rows: readonly Prisma.Sql[]
  readonly entries: readonly AuditEntry[]
  readonly resolve: () => void
  readonly reject: (error: unknown) => void
  /** When nobody waits for it any more, by the clock that nobody sets: then it is not written. */
  readonly until: number
  /** Once aborted, nobody waits for it any more. */
  readonly abandoned: AbortSignal | undefined
  /** Its group failed: it is tried again without the others. */
  alone: boolean
}

const lastEvent = Prisma.sql`SELECT "sequence", "hash" FROM "audit_head"()`

const connectionLost = 'A connection to PostgreSQL was lost.'
const poolConfig = (url: string, connections: number): pg.PoolConfig => ({
  connectionString: url,
  application_name: 'hgs-ca',
  max: connections,
  connectionTimeoutMillis: limits.connect,
  statement_timeout: limits.statement,
  lock_timeout: limits.lock,
  idle_in_transaction_session_timeout: limits.idleInTransaction,
  keepAlive: true,
})

/** A connection that gives no answer is given up, with what was asked on it: the next call has another. */
function plainPool(url: string, connections: number, log: Log): pg.Pool {
  const pool = new pg.Pool({ ...poolConfig(url, connections), query_timeout: limits.call })
  const onLost = (error: Error) => log.warn({ err: error }, connectionLost)
  pool.on('error', () => undefined) // told by the next
  pool.on('connect', (client) => client.on('error', onLost))
  return pool
}

function connect(url: string, connections: number, log: Log): Client {
  const onLost = (error: Error) => log.warn({ err: error }, connectionLost)
  const adapter = new PrismaPg(poolConfig(url, connections), {
    onPoolError: onLost,
    onConnectionError: onLost,
  })
  const transactionOptions = { maxWait: limits.connect, timeout: limits.statement }
  return new PrismaClient({ adapter, transactionOptions }) as unknown as Client // see database.ts
}

/**
 * Several INSERTs as one statement, which PostgreSQL carries out wholly or not at all:
 * `WITH "1" AS (INSERT ...), "2" AS (INSERT ...) INSERT ...`. References between the rows are checked
 * at its end.
 */
function oneStatement(rows: readonly Prisma.Sql[]): Prisma.Sql {
  const last = rows.at(-1)
  if (last === undefined) throw new Error('nothing to add')
  const others = rows
    .slice(0, -1)
    .map((row, index) => Prisma.sql`${Prisma.raw(`"${index + 1}"`)} AS (${row})`)
  return others.length === 0 ? last : Prisma.sql`WITH ${Prisma.join(others)} ${last}`
}

async function readBack(writer: Client): Promise<Extract<Settings, { kind: 'postgresql' }>> {
  const [found] = await writer.$queryRaw<{ version: string; fsync: string; synchronousCommit: string }[]>`
    SELECT current_setting('server_version') AS "version", current_setting('fsync') AS "fsync",
           current_setting('synchronous_commit') AS "synchronousCommit"`
  if (found === undefined) throw new Error('PostgreSQL does not tell its settings.')
  return { kind: 'postgresql', ...found }
}

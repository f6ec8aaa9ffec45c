/**
 * The record in PostgreSQL: one pool that writes, one that reads.
 *
 * Every wait has an end, on the server and here, so that a database that hangs gives a refusal and
 * not a hanging request. A server that went away and came back is found again by the next call.
 */

import { setTimeout as sleep } from 'node:timers/promises'
import { PrismaPg } from '@prisma/adapter-pg'
import { Prisma, PrismaClient } from './generated/postgresql/client.ts'
import { translated, unavailable } from './faults.ts'
import { createGate } from './gate.ts'
import type { Client, Database, Settings, Transaction } from './database.ts'
import type { Log } from './log.ts'

/** Connections of one instance, for whoever sets max_connections on the server. */
const writingConnections = 8
const readingConnections = 4

/** In milliseconds. The last one is for a server that answers nothing at all: a frozen host, a cut cable. */
const limits = { connect: 2_000, statement: 5_000, lock: 2_000, idleInTransaction: 10_000, call: 10_000 }

/** @throws CaError `storeUnavailable` when the server cannot be reached. */
export async function openPostgresql(
  url: string,
  log: Log,
  onUnfit: (reason: Error) => void,
): Promise<Database> {
  const gate = createGate(onUnfit)
  const writer = connect(url, writingConnections, log)
  const reader = connect(url, readingConnections, log)

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

  async function disconnect(): Promise<void> {
    await Promise.race([
      Promise.all([writer.$disconnect(), reader.$disconnect()]),
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
    async add(rows) {
      await gate.pass(() => bounded(() => writer.$executeRaw(oneStatement(rows))))
    },
    write: <T>(act: (transaction: Transaction) => Promise<T>) =>
      gate.pass(() => bounded(() => writer.$transaction(act))),
    probe: async () => {}, // its disk is seen on the server alone
    async close() {
      await gate.close()
      await disconnect()
    },
  }
}

function connect(url: string, connections: number, log: Log): Client {
  const onLost = (error: Error) => log.warn({ err: error }, 'A connection to PostgreSQL was lost.')
  const adapter = new PrismaPg(
    {
      connectionString: url,
      application_name: 'hgs-ca',
      max: connections,
      connectionTimeoutMillis: limits.connect,
      statement_timeout: limits.statement,
      lock_timeout: limits.lock,
      idle_in_transaction_session_timeout: limits.idleInTransaction,
      keepAlive: true,
    },
    { onPoolError: onLost, onConnectionError: onLost },
  )
  const transactionOptions = { maxWait: limits.connect, timeout: limits.statement }
  return new PrismaClient({ adapter, transactionOptions }) as unknown as Client // see database.ts
}

/**
 * Several INSERTs as one statement, which PostgreSQL carries out wholly or not at all:
 * `WITH "1" AS (INSERT ...), "2" AS (INSERT ...) INSERT ...`. References between the rows are checked
 * at its end. One round trip, and no transaction that a lost connection could leave open.
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

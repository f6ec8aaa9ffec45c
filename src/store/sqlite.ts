/**
 * The record in a SQLite file: what writes, behind one queue, and what reads. Each is a connection of Prisma
 * and, for what every order asks and adds, one past it (plainSql.ts).
 *
 * Prisma's adapter shares a single connection among all who use a client, so that whatever is
 * written while somebody's transaction is open becomes part of it, and is lost when it rolls back.
 * Hence the queue: the connection that writes never serves two at once. What waits in the queue is
 * written in one transaction (group commit), because waiting for the disk is what costs. At its end
 * the audit events of all are linked to the last one there: what fails leaves no gap in the chain.
 */

import { accessSync, constants, statfsSync } from 'node:fs'
import { dirname } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { PrismaBetterSqlite3 } from '@prisma/adapter-better-sqlite3'
import { Prisma, PrismaClient } from './generated/sqlite/client.ts'
import { createDatabaseFile } from './location.ts'
import { isBusy, isFull, translated, unavailable } from './faults.ts'
import { createGate } from './gate.ts'
import { headFrom, type AuditEntry, type Chain, type Head } from './chain.ts'
import { tellEach, writeQueue } from './queue.ts'
import type { Act, Database, Settings, Transaction } from './database.ts'
import { plainSqlite, type PlainSqlite } from './plainSql.ts'
import { apart, eventRow, rehearsalRow, together } from './rows.ts'

/** Below it, SQLite can corrupt a file in WAL mode ("WAL-reset bug", sqlite.org/wal.html). */
const oldestVersion = '3.51.3'

/** One attempt to get the lock blocks the event loop, so it is short; patience comes from repeating. */
const attemptMilliseconds = 50
const pauseMilliseconds = 50
const patienceMilliseconds = 5_000

/** What a few issuances take on disk, in octets. Below it nothing is written. */
const leastRoom = 262_144

/** One transaction is over in milliseconds; this ends one that is not (Prisma's P2028). In milliseconds. */
const transactionOptions = { maxWait: 2_000, timeout: 5_000 }

type Adapter = Awaited<ReturnType<PrismaBetterSqlite3['connect']>>

/**
 * @param chain - what links audit events.
 * @param onUnfit - called once, when the store has to be given up.
 * @throws Error when the file cannot be opened, or is not as durable as it must be.
 */
export async function openSqlite(
  path: string,
  chain: Chain,
  onUnfit: (reason: Error) => void,
): Promise<Database> {
  createDatabaseFile(path)
  const gate = createGate(onUnfit)
  const writer = new PrismaClient({
    adapter: connecting({ url: path }, durable, gate.declareUnfit),
    transactionOptions,
  })
  const reader = new PrismaClient({
    adapter: connecting(
      { url: path, readonly: true, fileMustExist: true },
      async () => {},
      gate.declareUnfit,
    ),
  })

  async function patiently<T>(attempt: () => Promise<T>): Promise<T> {
    const deadline = performance.now() + patienceMilliseconds
    for (;;) {
      try {
        return await attempt()
      } catch (error) {
        if (!isBusy(error) || performance.now() > deadline) throw error
      }
      await sleep(pauseMilliseconds)
    }
  }

  const queue = writeQueue<Waiting>(commit)

  /** Writes a group in one transaction. Who can only be served later goes back to the head of the queue. */
  async function commit(group: readonly Waiting[]): Promise<void> {
    try {
      const unfit = gate.unfit()
      if (unfit !== undefined) throw unavailable(unfit)
      refuseWithoutRoom(path)
      if (group.every(({ act }) => act === null)) {
        chain.committed(addTogether(plain.writer, chain, group, gate.declareUnfit))
        void tellEach(group.map((waiting) => () => waiting.resolve(undefined)))
        return
      }
      const { results, head } = await writer.$transaction(async (transaction) => {
        const results: unknown[] = []
        const entries = group.flatMap((waiting) => waiting.entries)
        const tell = (entry: AuditEntry) => void entries.push(entry)
        for (const { act } of group) results.push(await act?.(transaction, tell))
        const rows = group.map((waiting) => waiting.rows)
        return { results, head: await append(transaction, chain, rows, entries) }
      })
      if (head !== null) chain.committed(head)
      void tellEach(group.map((waiting, index) => () => waiting.resolve(results[index])))
    } catch (error) {
      if (isTransactionLost(error)) gate.declareUnfit(error as Error)
      const unfit = gate.unfit()
      if (unfit !== undefined) {
        for (const waiting of group) waiting.reject(unavailable(unfit))
      } else if (isBusy(error)) {
        const now = performance.now()
        queue.again(group.filter(({ until }) => until > now))
        for (const { reject } of group.filter(({ until }) => until <= now)) reject(error)
        await sleep(pauseMilliseconds)
      } else if (group.length > 1) {
        for (const waiting of group) waiting.alone = true // one of them is at fault, and only that one may fail
        queue.again(group)
      } else {
        for (const waiting of group) waiting.reject(error)
      }
    }
  }

  const { settings, plain } = await patiently(async () => {
    const settings = await readBack(writer)
    const timeout = attemptMilliseconds
    const safe = { journal_mode: 'wal', synchronous: '2', foreign_keys: '1' } // 2 is FULL
    const reading = plainSqlite(path, { timeout, readonly: true, pragmas: {} })
    try {
      const writing = plainSqlite(path, { timeout, readonly: false, pragmas: safe })
      return { settings, plain: { reader: reading, writer: writing } }
    } catch (error) {
      reading.close()
      throw error
    }
  }).catch(async (error: unknown) => {
    await writer.$disconnect()
    throw translated(error)
  })

  function write<T>(what: Pick<Waiting, 'act' | 'rows' | 'entries' | 'abandoned'>): Promise<T> {
    return gate.pass(
      () =>
        new Promise<T>((resolve, reject) => {
          const until = performance.now() + patienceMilliseconds
          queue.push({ ...what, resolve: resolve as (result: unknown) => void, reject, until, alone: false })
        }),
    )
  }
  const carryOut = <T>(act: Act<T>): Promise<T> => write({ act, rows: [], entries: [], abandoned: undefined })

  return {
    settings,
    declareUnfit: gate.declareUnfit,
    read: (question) => gate.pass(() => patiently(() => question(reader))),
    select: (query) => gate.pass(() => patiently(async () => plain.reader.all(query))),
    add: async (additions, abandoned) => write({ act: null, ...apart(additions), abandoned }),
    queued: queue.length,
    write: carryOut,
    probe: () => gate.pass(async () => refuseWithoutRoom(path)),
    async rehearse() {
      const fault = await carryOut(rehearsed)
      if (fault !== null) throw unavailable(fault)
    },
    async close() {
      await gate.close()
      plain.reader.close()
      await reader.$disconnect()
      plain.writer.close()
      await writer.$disconnect()
    },
  }
}

/**
 * A file that is only read, such as a backup: not a page of it is changed.
 *
 * @throws CaError `storeUnavailable` when it cannot be opened.
 */
export async function openSqliteToRead(path: string): Promise<Database> {
  const gate = createGate(() => {})
  const file = { url: path, readonly: true, fileMustExist: true }
  const reader = new PrismaClient({ adapter: connecting(file, async () => {}, gate.declareUnfit) })
  const timeout = attemptMilliseconds
  const { settings, plain } = await settingsOf(reader)
    .then((found) => ({ ...found, plain: plainSqlite(path, { timeout, readonly: true, pragmas: {} }) }))
    .catch(async (error: unknown) => {
      await reader.$disconnect()
      throw translated(error)
    })
  const refuse = (): Promise<never> => Promise.reject(new Error(`${path} was opened to be read`))
  return {
    settings,
    declareUnfit: gate.declareUnfit,
    read: (question) => gate.pass(() => question(reader)),
    select: (query) => gate.pass(async () => plain.all(query)),
    add: refuse,
    write: refuse,
    queued: () => 0,
    probe: refuse,
    rehearse: refuse,
    async close() {
      await gate.close()
      plain.close()
      await reader.$disconnect()
    },
  }
}

/** Within the transaction of a group, which goes on whatever comes of it. @returns why no event is taken. */
async function rehearsed(transaction: Transaction): Promise<unknown> {
  await transaction.$executeRaw`SAVEPOINT "rehearsal"`
  try {
    await transaction.$executeRaw(rehearsalRow())
    return null
  } catch (error) {
    return error
  } finally {
    await transaction.$executeRaw`ROLLBACK TO "rehearsal"`
    await transaction.$executeRaw`RELEASE "rehearsal"`
  }
}

const lastEvent = Prisma.sql`SELECT "sequence", "hash" FROM "AuditEvent" ORDER BY "sequence" DESC LIMIT 1`

/** Adds rows, and events linked to the last one. Whoever writes here is alone until the end of the transaction. @returns the new last one. */
async function append(
  transaction: Transaction,
  chain: Chain,
  acts: readonly (readonly Prisma.Sql[])[],
  entries: readonly AuditEntry[],
): Promise<Head | null> {
  if (entries.length === 0) return null
  const [head] = await transaction.$queryRaw<{ sequence: number | bigint; hash: string }[]>(lastEvent)
  const linked = chain.link(headFrom(head), entries)
  for (const statement of together([...acts, linked.map(eventRow)])) await transaction.$executeRaw(statement)
  return linked.at(-1)!
}

/**
 * The same for a group that only adds, past Prisma and in one go: nobody else has a turn before it is on disk.
 *
 * @param onLost - told when it is not known what is stored.
 */
function addTogether(
  connection: PlainSqlite,
  chain: Chain,
  group: readonly Pick<Waiting, 'rows' | 'entries'>[],
  onLost: (reason: Error) => void,
): Head {
  function takeBack(): void {
    // After some errors SQLite has rolled back by itself.
    if (connection.isInTransaction()) connection.execute('ROLLBACK')
  }
  connection.execute('BEGIN IMMEDIATE')
  let head: Head
  try {
    const [last] = connection.all<{ sequence: number; hash: string }>(lastEvent)
    const linked = chain.link(
      headFrom(last),
      group.flatMap(({ entries }) => entries),
    )
    for (const { rows } of group) for (const row of rows) connection.run(row)
    for (const event of linked) connection.run(eventRow(event))
    head = linked.at(-1)!
  } catch (error) {
    try {
      takeBack()
    } catch (cause) {
      onLost(new Error('ROLLBACK failed, so it is not known what is stored', { cause }))
    }
    throw error
  }
  try {
    connection.execute('COMMIT')
    return head
  } catch (error) {
    try {
      if (!isBusy(error) && !isFull(error)) throw error
      takeBack()
    } catch (cause) {
      onLost(new Error('COMMIT failed, so it is not known what is stored', { cause }))
    }
    throw error
  }
}

/**
 * A read-only file system and a full disk are seen here before a write fails on them: what fails within
 * a COMMIT may cost the trust in the connection, and with it the reads. At once: on the thread pool it
 * would wait behind signatures.
 */
function refuseWithoutRoom(path: string): void {
  try {
    accessSync(path, constants.W_OK)
    const { bavail, bsize } = statfsSync(dirname(path))
    if (bavail * bsize >= leastRoom) return
  } catch (error) {
    throw unavailable(error)
  }
  throw unavailable(new Error(`less than ${leastRoom} octets are free for ${path}`))
}

/** A write in the queue. */
interface Waiting {
  /** What is carried out first; null for one that only adds. */
  readonly act: Act<unknown> | null
  readonly rows: readonly Prisma.Sql[]
  readonly entries: readonly AuditEntry[]
  readonly resolve: (result: unknown) => void
  readonly reject: (error: unknown) => void
  /** When it gives up because the file is locked, by the clock that nobody sets. */
  readonly until: number
  /** Once aborted, nobody waits for it any more. */
  readonly abandoned: AbortSignal | undefined
  /** Its group failed: it is tried again without the others. */
  alone: boolean
}

/** P2028: Prisma no longer knows what became of its transaction; the connection may still be in it. */
function isTransactionLost(error: unknown): boolean {
  return (error as { code?: unknown }).code === 'P2028'
}

/**
 * An adapter whose every connection is made ready before Prisma has it, and whose COMMIT is watched.
 * When a COMMIT fails, Prisma leaves the transaction open, and whatever is written later is
 * acknowledged and lost (prisma/orm issue 29933). A disk that is full or a file that is busy is
 * harmless once the transaction is rolled back; after anything else it is not known what is stored.
 */
function connecting(
  file: { url: string; readonly?: boolean; fileMustExist?: boolean },
  prepare: (adapter: Adapter) => Promise<void>,
  onLost: (reason: Error) => void,
): PrismaBetterSqlite3 {
  const factory = new PrismaBetterSqlite3({ ...file, timeout: attemptMilliseconds })
  const connect = factory.connect.bind(factory)
  factory.connect = async () => {
    const adapter = await connect()
    await prepare(adapter).catch(async (error: unknown) => {
      await adapter.dispose()
      throw error
    })
    const start = adapter.startTransaction.bind(adapter)
    adapter.startTransaction = async (isolationLevel) => {
      const transaction = await start(isolationLevel)
      const execute = transaction.executeRaw.bind(transaction)
      async function rollBack(): Promise<void> {
        try {
          await execute({ sql: 'ROLLBACK', args: [], argTypes: [] })
        } catch (error) {
          // After some errors SQLite has rolled back by itself: just what was wanted.
          if (!/no transaction is active/.test(messageOf(error))) throw error
        }
      }
      transaction.executeRaw = async (query) => {
        if (query.sql !== 'COMMIT' && query.sql !== 'ROLLBACK') return execute(query)
        try {
          if (query.sql === 'COMMIT') return await execute(query)
          await rollBack()
          return 0
        } catch (error) {
          const harmless = query.sql === 'COMMIT' && (isBusy(error) || isFull(error))
          const cause = harmless ? await rollBack().catch((worse: unknown) => worse) : error
          if (cause !== undefined) {
            onLost(new Error(`${query.sql} failed, so it is not known what is stored`, { cause }))
          }
          throw error
        }
      }
      return transaction
    }
    return adapter
  }
  return factory
}

function messageOf(error: unknown): string {
  const { cause, message } = error as { cause?: { originalMessage?: string }; message?: string }
  return cause?.originalMessage ?? message ?? ''
}

/** WAL, so that readers and the writer do not wait for each other; FULL, so that a commit outlives the power. */
async function durable(adapter: Adapter): Promise<void> {
  await adapter.executeScript(
    'PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA foreign_keys = ON',
  )
}

/** What is in force on a connection. */
async function settingsOf(client: PrismaClient): Promise<{
  settings: Extract<Settings, { kind: 'sqlite' }>
  foreignKeys: string
}> {
  const [version] = await client.$queryRaw<{ version: string }[]>`SELECT sqlite_version() AS version`
  const [journal] = await client.$queryRaw<{ journal_mode: string }[]>`PRAGMA journal_mode`
  const [sync] = await client.$queryRaw<{ synchronous: number | bigint }[]>`PRAGMA synchronous`
  const [keys] = await client.$queryRaw<{ foreign_keys: number | bigint }[]>`PRAGMA foreign_keys`
  const settings = {
    kind: 'sqlite' as const,
    version: version?.version ?? 'unknown',
    journalMode: journal?.journal_mode ?? 'unknown',
    synchronous: ['OFF', 'NORMAL', 'FULL', 'EXTRA'][Number(sync?.synchronous)] ?? 'unknown',
  }
  return { settings, foreignKeys: String(keys?.foreign_keys) }
}

/** Reads on the very connection that writes what is in force there. */
async function readBack(writer: PrismaClient): Promise<Settings> {
  const { settings: found, foreignKeys } = await settingsOf(writer)
  const { synchronous } = found
  if (!isAtLeast(found.version, oldestVersion)) {
    throw new Error(`SQLite ${found.version} can corrupt the record; ${oldestVersion} or later is needed.`)
  }
  if (found.journalMode !== 'wal' || synchronous !== 'FULL' || foreignKeys !== '1') {
    throw new Error(
      `SQLite does not keep the record safe here: journal_mode is ${found.journalMode} (must be wal), synchronous ` +
        `${synchronous} (FULL), foreign_keys ${foreignKeys} (1). A network file system cannot hold the record.`,
    )
  }
  return found
}

/** Whether a version, numbers with dots between them, is another or a later one. */
export function isAtLeast(version: string, oldest: string): boolean {
  const found = version.split('.').map(Number)
  const wanted = oldest.split('.').map(Number)
  for (const [index, number] of wanted.entries()) {
    const difference = (found[index] ?? 0) - number
    if (difference !== 0) return difference > 0
  }
  return true
}

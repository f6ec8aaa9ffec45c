/**
 * The record of this service: the one room with Prisma, over SQLite or PostgreSQL.
 *
 * `openStore` gives a plain object of functions; everything else asks them. A database that is away,
 * full or locked is a CaError `storeUnavailable`. Any other error of the database is our fault and
 * comes out as it is. The schema must be there: see migrate.ts.
 */

import type { KeyObject } from 'node:crypto'
import { auditFunctions, beginChain } from './audit.ts'
import { authorityFunctions } from './authorities.ts'
import { bootstrapFunctions } from './bootstrap.ts'
import { certificateFunctions } from './certificates.ts'
import { chainUnder } from './chain.ts'
import { checkpointFile } from './checkpoints.ts'
import { custodyFunctions } from './custody.ts'
import { figureFunctions } from './figures.ts'
import { identityFunctions } from './identities.ts'
import { inspectionFunctions } from './inspection.ts'
import { issuanceFunctions } from './issuance.ts'
import { kitFunctions } from './kits.ts'
import { lineageFunctions } from './lineages.ts'
import { locationOf } from './location.ts'
import { momentFunctions } from './moments.ts'
import type { Log } from './log.ts'
import { openPostgresql } from './postgresql.ts'
import { saidByLastCheckpoint } from './publish.ts'
import { requestFunctions } from './requests.ts'
import { revocationFunctions } from './revocations.ts'
import { auditRounds } from './rounds.ts'
import { checkpointKeyUnder } from './signature.ts'
import { openSqlite, openSqliteToRead } from './sqlite.ts'
import { refusingUnaudited } from './unaudited.ts'
import { uuidv7 } from './uuid.ts'
import type { Damage } from './verifyAudit.ts'

export type Store = Awaited<ReturnType<typeof openStore>>

/**
 * @param url - `file:/path/x.db` or `postgresql://...`.
 * @param options.auditKey - 32 octets that make the MACs and the checkpoints of the audit trail.
 * @param options.checkpointPath - the file of checkpoints of the audit trail; none are made without it.
 * @param options.onUnfit - called once when it is no longer sure that what was acknowledged is
 *   stored. Every call is refused from then on: stop taking requests, and exit.
 * @param options.readOnly - for a copy of a SQLite record, which is not changed, nor has to be durable.
 * @throws CaError `storeUnavailable` when the database cannot be reached; Error when it is not as
 *   durable as it must be.
 */
export async function openStore(
  url: string,
  options: {
    readonly log: Log
    readonly auditKey: KeyObject
    readonly checkpointPath?: string | null
    readonly onUnfit?: (reason: Error) => void
    readonly readOnly?: boolean
  },
) {
  const { log } = options
  const location = locationOf(url)
  const chain = chainUnder(options.auditKey)
  const { checkpointPath: path } = options
  const checkpointKey = checkpointKeyUnder(options.auditKey)
  const checkpoints = path == null ? null : checkpointFile(path, checkpointKey)
  function onUnfit(reason: Error): void {
    log.error({ err: reason }, 'The record can no longer be trusted. No call is served any more.')
    options.onUnfit?.(reason)
  }
  const opened =
    location.kind === 'sqlite'
      ? await (options.readOnly === true
          ? openSqliteToRead(location.path)
          : openSqlite(location.path, chain, onUnfit))
      : await openPostgresql(location.url, chain, log, onUnfit)
  const database = refusingUnaudited(opened)
  let said: Damage | null
  let rounds: Awaited<ReturnType<typeof auditRounds>>
  try {
    if (options.readOnly !== true) await beginChain(database, chain, checkpoints)
    said = await saidByLastCheckpoint(database, checkpoints)
    // A record that its checkpoints speak against makes none: nobody could tell afterwards which count.
    rounds = await auditRounds(database, chain, checkpoints, log, said === null)
  } catch (error) {
    await database.close()
    throw error
  }
  const { closeAudit, ...verification } = rounds

  return {
    ...issuanceFunctions(database),
    ...authorityFunctions(database),
    ...certificateFunctions(database),
    ...lineageFunctions(database),
    ...kitFunctions(database),
    ...identityFunctions(database),
    ...bootstrapFunctions(database),
    ...custodyFunctions(database),
    ...requestFunctions(database),
    ...revocationFunctions(database),
    ...auditFunctions(database),
    ...figureFunctions(database),
    ...inspectionFunctions(database),
    ...verification,
    ...momentFunctions(database),
    /** What an auditor verifies checkpoints with. */
    auditPublicKey: checkpointKey.publicKey,
    /** What the last checkpoint said against this record when it was opened; null when nothing. */
    saidByLastCheckpoint: said,
    /** What was read back from the database when it was opened. */
    settings: database.settings,
    /** A new id that sorts by time; see uuid.ts. Intents and lineages are named so. */
    newId: uuidv7,
    /** Resolves when both connections answer, there is room to write, and an audit event would be taken. */
    async ping(): Promise<void> {
      await database.probe()
      await database.read((client) => client.$queryRaw`SELECT 1`)
      await database.rehearse()
    },
    /** Waits for what is under way, then lets go of the database. */
    async close(): Promise<void> {
      await closeAudit()
      await database.close()
    },
  }
}

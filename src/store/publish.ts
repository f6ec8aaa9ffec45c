/**
 * When a checkpoint of the audit trail is due, and what is looked at before it is published: the database
 * must still hold the event that the one before tells of. So none ever goes back, and none stands for
 * another past than those before it.
 */

import { headOf } from './audit.ts'
import { isSame, type Head } from './chain.ts'
import type { Checkpoint, CheckpointFile } from './checkpoints.ts'
import type { Database } from './database.ts'
import type { Log } from './log.ts'
import type { Damage } from './verifyAudit.ts'

/** When a checkpoint is due: after so many events, or so many milliseconds after the first that has none. */
const eventsBetween = 100
const patience = 60_000

export interface Publisher {
  /** Takes note of a new head, and publishes a checkpoint when one is due. */
  readonly note: (head: Head) => void
  /** The last one, by whomever. */
  readonly last: () => Checkpoint | null
  /** How many events no checkpoint covers yet, and how long the first of them has waited. */
  readonly lag: () => { readonly events: number; readonly seconds: number }
  /** Publishes the last one. */
  readonly close: () => Promise<void>
}

/** @param onDamage - told when the database no longer holds what was published; nothing more is published then. */
export function publisher(
  database: Database,
  file: CheckpointFile,
  log: Log,
  onDamage: (damage: Damage) => void,
): Publisher {
  let last = file.furthest() ?? null
  let noted: Head | null = null
  let since = 0 // the sequence from which events are counted
  let waitingSince: number | null = null // by the clock that nobody sets
  let timer: NodeJS.Timeout | undefined
  let damaged = false
  let underWay: Promise<void> | undefined

  async function publish(): Promise<void> {
    clearTimeout(timer)
    timer = undefined
    if (damaged) return
    try {
      const said = await saidByLastCheckpoint(database, file)
      if (said !== null) {
        damaged = true
        return onDamage(said)
      }
      const head = await headOf(database)
      last = file.furthest() ?? last
      if (head.sequence > (last?.sequence ?? 0)) last = file.write(head)
      since = head.sequence
      waitingSince = null
    } catch (error) {
      log.error({ err: error, path: file.path }, 'A checkpoint of the audit trail could not be written.')
      since = noted?.sequence ?? since
      timer ??= setTimeout(() => void publishing(), patience).unref()
    }
  }

  /** One at a time; whoever comes meanwhile has the same. */
  function publishing(): Promise<void> {
    underWay ??= publish().finally(() => (underWay = undefined))
    return underWay
  }

  return {
    note(head) {
      if (noted === null && since === 0) since = head.sequence - 1
      noted = head
      waitingSince ??= performance.now()
      if (head.sequence - since >= eventsBetween) void publishing()
      else timer ??= setTimeout(() => void publishing(), patience).unref()
    },
    last: () => last,
    lag: () => ({
      events: noted === null ? 0 : Math.max(0, noted.sequence - since),
      seconds: waitingSince === null ? 0 : (performance.now() - waitingSince) / 1_000,
    }),
    async close() {
      await underWay
      if (noted !== null) await publishing()
      clearTimeout(timer)
      damaged = true // nothing is published any more
    },
  }
}

/** What the last checkpoint says against this record, which then is older than it was, or another; null when nothing. */
export async function saidByLastCheckpoint(
  database: Database,
  file: CheckpointFile | null,
): Promise<Damage | null> {
  const last = file?.furthest()
  if (last === undefined) return null
  const { sequence } = last
  const row = await database.read((client) =>
    client.auditEvent.findFirst({ where: { sequence }, select: { hash: true } }),
  )
  if (row === null) {
    const end = await headOf(database)
    return {
      kind: 'truncation',
      sequence: end.sequence + 1,
      detail: `there is a checkpoint for ${sequence}`,
      state: last.hash,
    }
  }
  return isSame(row.hash, last.hash)
    ? null
    : { kind: 'fork', sequence, detail: 'its checkpoint says otherwise', state: row.hash }
}

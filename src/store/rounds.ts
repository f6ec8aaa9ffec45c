/**
 * The audit trail verified beside a service that works: its end at the start, and then in rounds, each of
 * which reads what is new, and again what is old. What is found stands until the whole trail was read
 * without it; until then the service issues nothing (authority/guard.ts).
 */

import { auditRow, headOf } from './audit.ts'
import type { Chain, Head } from './chain.ts'
import type { Checkpoint, CheckpointFile } from './checkpoints.ts'
import type { Database } from './database.ts'
import type { Log } from './log.ts'
import type { NewAuditEvent } from './model.ts'
import { publisher, saidByLastCheckpoint } from './publish.ts'
import {
  beginning,
  compareCertificates,
  nothingFound,
  toldAtMost,
  unaccepted,
  verifyWhole,
  walk,
  type Damage,
  type Findings,
  type Place,
  type Verification,
} from './verifyAudit.ts'

/** How many old events a round reads again: some 15 s of one core. A longer trail takes several rounds. */
const againAtOnce = 250_000

/** How many events the look at the start reads: some 100 ms. */
const tailLength = 10_000

export interface AuditState {
  /** The last event, as far as this process knows. */
  readonly head: Head
  /** The last checkpoint that was published, by whomever; null when there is none. */
  readonly lastCheckpoint: { readonly sequence: number; readonly at: Date } | null
  /** How far the checkpoints of this process are behind its events; null when it makes none. */
  readonly checkpointLag: { readonly events: number; readonly seconds: number } | null
  readonly verified: {
    /** Up to which event the trail was verified here. */
    readonly sequence: number
    /** When the last round ended, and when one ended with which every event was read; null before. */
    readonly at: Date | null
    readonly wholeAt: Date | null
    /** What is wrong and not accepted, the first first; 100 at most. Nothing is issued while there is any. */
    readonly damage: readonly Damage[]
  }
}

export interface Round {
  /** How many events were read. */
  readonly events: number
  /** Whether with this round every event was read. */
  readonly whole: boolean
  readonly damage: readonly Damage[]
}

export async function auditRounds(
  database: Database,
  chain: Chain,
  file: CheckpointFile | null,
  log: Log,
  isPublished: boolean,
) {
  let head = await headOf(database)
  let damage: readonly Damage[] = []
  let at: Date | null = null
  let wholeAt: Date | null = null
  /** Up to where new events were verified; and up to where old ones were read again. */
  let place: Place | null = null
  let again: Place = beginning
  let foundAgain: Findings = nothingFound()

  const report = (found: readonly Damage[]): void => {
    const told = new Map([...damage, ...found].map((one) => [JSON.stringify(one), one]))
    damage = [...told.values()].slice(0, toldAtMost)
  }
  const published =
    file === null || !isPublished
      ? null
      : publisher(database, file, log, (found) => {
          log.error({ damage: found }, 'The audit trail is not the one that its last checkpoint tells of.')
          report([found])
        })
  chain.committed = (committed) => {
    if (committed.sequence > head.sequence) head = { sequence: committed.sequence, hash: committed.hash }
    published?.note(committed)
  }

  async function counting(): Promise<readonly Checkpoint[]> {
    const said = await saidByLastCheckpoint(database, file)
    if (said !== null) report([said])
    return (await file?.read())?.checkpoints ?? []
  }

  /** Whether what was verified here is still there: a cut that no checkpoint tells of yet. */
  async function saidFromMemory(): Promise<Damage | null> {
    if (place === null || place.sequence === 0) return null
    const { sequence } = place
    const row = await database.read((client) =>
      client.auditEvent.findFirst({ where: { sequence }, select: { hash: true } }),
    )
    const detail = `up to ${sequence} it was verified earlier`
    if (row === null) {
      const end = await headOf(database)
      return { kind: 'truncation', sequence: end.sequence + 1, detail, state: place.hash }
    }
    const isSealed = place.sealed && row.hash !== place.hash
    return isSealed ? { kind: 'fork', sequence, detail, state: row.hash } : null
  }

  async function stored(sequence: number): Promise<Place | null> {
    const row = await database.read((client) =>
      client.auditEvent.findFirst({ where: { sequence }, select: { id: true, hash: true } }),
    )
    // What is older than the chain has no hash to begin at.
    if (row === null || row.hash === '') return null
    return { sequence, hash: row.hash, sealed: true, last: { sequence, id: row.id } }
  }

  return {
    /** How the audit trail stands, without a look at the database. */
    auditState(): AuditState {
      const last = published?.last() ?? file?.furthest() ?? null
      return {
        head,
        lastCheckpoint: last && { sequence: last.sequence, at: new Date(last.at) },
        checkpointLag: published?.lag() ?? null,
        verified: { sequence: place?.sequence ?? 0, at, wholeAt, damage },
      }
    },

    /** Reads the whole trail, the certificates and the checkpoints, and tells what does not fit. */
    verifyAudit: (): Promise<Verification> => verifyWhole(database, chain, file),

    /** The look at the start: the last 10,000 events. */
    async verifyAuditTail(): Promise<Round> {
      const { sequence } = await headOf(database)
      const from = (await stored(sequence - tailLength)) ?? beginning
      const found = nothingFound()
      const walked = await walk(database, chain, from, await counting(), found)
      place = walked.place
      at = new Date()
      report(unaccepted(found))
      return { events: walked.events, whole: false, damage }
    },

    /**
     * The next round: new events, and 250,000 old ones again, with whatever the certificates and the
     * checkpoints say once all were read. While there is damage, it reads everything, to see whether it
     * was mended or accepted.
     */
    async verifyAuditRound(): Promise<Round> {
      const remembered = await saidFromMemory()
      if (damage.length > 0 || place === null) {
        const whole = await verifyWhole(database, chain, file)
        damage = whole.damage
        if (remembered !== null && whole.accepted === 0) report([remembered])
        else place = (await stored(whole.head.sequence)) ?? beginning
        at = wholeAt = new Date()
        again = beginning
        foundAgain = nothingFound()
        return { events: whole.events, whole: true, damage }
      }
      if (remembered !== null) report([remembered])
      const checkpoints = await counting()
      const fresh = await walk(database, chain, place, checkpoints, foundAgain)
      const goal = Math.min(place.sequence, again.sequence + againAtOnce)
      const old = await walk(database, chain, again, checkpoints, foundAgain, goal)
      const whole = goal === place.sequence
      if (whole) await compareCertificates(database, foundAgain)
      report(unaccepted(foundAgain))
      place = damage.length === 0 ? fresh.place : place
      again = whole ? beginning : old.place
      if (whole) foundAgain = { damage: [], accepted: foundAgain.accepted }
      at = new Date()
      if (whole) wholeAt = at
      return { events: fresh.events + old.events, whole, damage }
    },

    /** Makes the record as it is the one that counts, although its last checkpoint says otherwise. */
    async acceptRollback(event: NewAuditEvent): Promise<void> {
      const last = file?.furthest()
      if (file === null || last === undefined) throw new Error('there is no checkpoint to be left behind')
      await database.add([auditRow(event)])
      file.write(await headOf(database), last.sequence)
    },

    closeAudit: async (): Promise<void> => published?.close(),
  }
}

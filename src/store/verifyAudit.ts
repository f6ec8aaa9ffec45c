/**
 * The verification of the audit trail: whether it is the one that was written, and whether it tells
 * the same as the rest of the record. It names what is wrong, and where.
 *
 * docs/verify-audit.py does the first half over an export, without any code of this service.
 */

import { createHash } from 'node:crypto'
import { CaError } from '../errors.ts'
import { asLinked, auditRow, everyEvent, issuances } from './audit.ts'
import {
  chainBegun,
  hashOf,
  headFrom,
  isSame,
  noEvent,
  type Chain,
  type Head,
  type LinkedEvent,
} from './chain.ts'
import type { Checkpoint, CheckpointFile } from './checkpoints.ts'
import type { Database } from './database.ts'
import type { NewAuditEvent } from './model.ts'

/** What can be wrong, in the words that an operator sees. */
export const damages = {
  gap: 'events are missing',
  duplicate: 'the place is taken twice',
  reorder: 'the event was written in another place',
  edit: 'the event is not as it was written',
  mac: 'the MAC is not one of the audit key',
  unsealed: 'the event has lost its hash',
  fork: 'the event follows upon another past',
  truncation: 'the trail ends before its last checkpoint',
  checkpoint: 'the checkpoint is not one of the audit key',
  unreadable: 'the event cannot be read',
  certificateWithoutEvent: 'a certificate is in the record that no event tells of',
  eventWithoutCertificate: 'an event tells of a certificate that is not in the record',
} as const

export interface Damage {
  readonly kind: keyof typeof damages
  /** Where; null when it has no place in the trail. */
  readonly sequence: number | null
  /** More of it, such as the id of a certificate. */
  readonly detail: string
}

export interface Verification {
  readonly events: number
  readonly certificates: number
  readonly checkpoints: number
  readonly head: Head
  /** The first comes first; 100 at most. */
  readonly damage: readonly Damage[]
}

const toldAtMost = 100
const certificatesAtOnce = 500

export function verificationFunctions(database: Database, chain: Chain, file: CheckpointFile | null) {
  return {
    /** Reads the whole trail, the certificates and the checkpoints, and tells what does not fit. */
    async verifyAudit(): Promise<Verification> {
      const { checkpoints, forged } = file?.read() ?? { checkpoints: [], forged: [] }
      const found = await verify(database, chain, checkpoints)
      const lines = forged.map(
        (line) => ({ kind: 'checkpoint', sequence: null, detail: `line ${line}` }) as const,
      )
      return { ...found, damage: [...found.damage, ...lines] }
    },

    /** Makes the record as it is the one that counts, although its last checkpoint says otherwise. */
    async acceptRollback(event: NewAuditEvent): Promise<void> {
      const last = furthestOf(file)
      if (file === null || last === undefined) throw new Error('there is no checkpoint to be left behind')
      await database.add([auditRow(event)])
      file.write(await headOf(database), last.sequence)
    },
  }
}

/** What the last checkpoint says against this record, which then is older than it was, or another; null when nothing. */
export async function saidByLastCheckpoint(
  database: Database,
  file: CheckpointFile | null,
): Promise<Damage | null> {
  const last = furthestOf(file)
  if (last === undefined) return null
  const { sequence } = last
  const row = await database.read((client) => client.auditEvent.findUnique({ where: { sequence } }))
  if (row === null) {
    const end = await headOf(database)
    return {
      kind: 'truncation',
      sequence: end.sequence + 1,
      detail: `there is a checkpoint for ${sequence}`,
    }
  }
  return isSame(row.hash, last.hash)
    ? null
    : { kind: 'fork', sequence, detail: 'its checkpoint says otherwise' }
}

/** Several processes may write to one file, so the last line need not be the furthest. */
const furthestOf = (file: CheckpointFile | null): Checkpoint | undefined =>
  file
    ?.read()
    .checkpoints.toSorted((a, b) => a.sequence - b.sequence)
    .at(-1)

async function headOf(database: Database): Promise<Head> {
  return headFrom(
    await database.read((client) => client.auditEvent.findFirst({ orderBy: { sequence: 'desc' } })),
  )
}

/** @param checkpoints - what stands outside the database, oldest first. */
async function verify(
  database: Database,
  chain: Chain,
  checkpoints: readonly Checkpoint[],
): Promise<Verification> {
  const damage: Damage[] = []
  const tell = (kind: Damage['kind'], sequence: number | null, detail: string) =>
    void damage.push({ kind, sequence, detail })

  const expected = new Map(checkpoints.map(({ sequence, hash }) => [sequence, hash]))
  /** SHA-256 of the certificate that an event tells of, and where it does, by the id of the certificate. */
  const told = new Map<string, { readonly sequence: number; readonly sha256: unknown }>()
  let head = noEvent
  let events = 0
  let sealed = false
  try {
    for await (const event of everyEvent(database)) {
      events += 1
      const { sequence } = event
      const next = head.sequence + 1
      const follows = sequence === next
      if (sequence > next) tell('gap', next, sequence - 1 === next ? '1 event' : `${next} to ${sequence - 1}`)
      if (sequence < next) tell('duplicate', sequence, event.id)
      if (event.hash === '' && !sealed) {
        if (event.mac !== '' || event.previousHash !== '') tell('unsealed', sequence, event.id)
        head = { sequence, hash: hashOf({ ...event, previousHash: head.hash }) }
      } else {
        const earlier = sealed ? null : earlierEvents(event)
        if (!sealed && follows && sequence !== 1 && earlier !== sequence - 1)
          tell('unsealed', head.sequence, 'no chain begins after it')
        sealed = true
        const found = await faultIn(event)
        if (found !== null) tell(found, sequence, event.id)
        else if (follows && !isSame(event.previousHash, head.hash)) {
          if (earlier === null) tell('fork', sequence, event.id)
          else tell('edit', 1, `one of the events 1 to ${earlier}, which are older than the chain`)
        }
        head = { sequence: Math.max(sequence, head.sequence), hash: event.hash }
      }
      const checkpoint = expected.get(sequence)
      if (checkpoint !== undefined && !isSame(checkpoint, event.hash))
        tell('fork', sequence, 'its checkpoint says otherwise')
      if (issuances.includes(event.type) && event.objectId !== null)
        told.set(event.objectId, { sequence, sha256: sha256In(event) })
    }
    if (events > 0 && !sealed) tell('unsealed', 1, 'no event has a hash')
  } catch (error) {
    if (error instanceof CaError) throw error // the database is away: nothing is known of the trail
    tell('unreadable', head.sequence + 1, (error as Error).message.trim().split('\n').at(-1)!)
  }
  const furthest = Math.max(0, ...expected.keys())
  if (furthest > head.sequence) tell('truncation', head.sequence + 1, `there is a checkpoint for ${furthest}`)

  async function faultIn(event: LinkedEvent): Promise<Damage['kind'] | null> {
    if (event.hash === '') return 'unsealed'
    if (isSame(hashOf(event), event.hash)) return isSame(chain.macOf(event.hash), event.mac) ? null : 'mac'
    if (damage.length > toldAtMost) return 'edit' // nobody is told any more which of the two
    const [before] = await database.read((client) =>
      client.auditEvent.findMany({ where: { hash: event.previousHash }, take: 1 }),
    )
    const end = before === undefined ? 0 : asLinked(before).sequence
    // Where it was: after the one it names; which may itself stand elsewhere, if the two changed places.
    const places = [end + 1, end, event.sequence - 1]
    return places.some((sequence) => isSame(hashOf({ ...event, sequence }), event.hash)) ? 'reorder' : 'edit'
  }

  const certificates = await compare()
  async function compare(): Promise<number> {
    let count = 0
    for (let after = ''; ;) {
      const rows = await database.read((client) =>
        client.certificate.findMany({
          where: { id: { gt: after } },
          orderBy: { id: 'asc' },
          take: certificatesAtOnce,
          select: { id: true, certificate: true },
        }),
      )
      for (const { id, certificate } of rows) {
        count += 1
        const event = told.get(id) ?? (await toldSince(id))
        told.delete(id)
        if (event === null) tell('certificateWithoutEvent', null, id)
        else if (event.sha256 !== createHash('sha256').update(certificate).digest('hex').toUpperCase())
          tell('certificateWithoutEvent', event.sequence, `${id}, whose event tells of other octets`)
      }
      if (rows.length < certificatesAtOnce) break
      after = rows.at(-1)!.id
    }
    for (const [id, { sequence }] of told) tell('eventWithoutCertificate', sequence, id)
    return count
  }

  /** An issuance that was recorded while this was at it. */
  async function toldSince(id: string): Promise<{ sequence: number; sha256: unknown } | null> {
    const row = await database.read((client) =>
      client.auditEvent.findFirst({
        where: { objectId: id, type: { in: [...issuances] }, sequence: { gt: head.sequence } },
      }),
    )
    return row && { sequence: Number(row.sequence), sha256: sha256In(asLinked(row)) }
  }

  const inOrder = damage.toSorted((a, b) => (a.sequence ?? Infinity) - (b.sequence ?? Infinity) || 0)
  return { events, certificates, checkpoints: checkpoints.length, head, damage: inOrder.slice(0, toldAtMost) }
}

/** How many events are older than the chain, by the event that begins it; null for any other. */
function earlierEvents({ type, details }: LinkedEvent): number | null {
  if (type !== chainBegun) return null
  const { earlierEvents } = parsed(details)
  return typeof earlierEvents === 'number' ? earlierEvents : null
}

const sha256In = ({ details }: LinkedEvent): unknown => parsed(details)['sha256']

/** The details as they are, which may be no JSON any more. */
function parsed(details: string): Readonly<Record<string, unknown>> {
  try {
    return (JSON.parse(details) ?? {}) as Readonly<Record<string, unknown>>
  } catch {
    return {}
  }
}

/**
 * The verification of the audit trail: whether it is the one that was written, and whether it tells
 * the same as the rest of the record. It names what is wrong, and where. Everything is read in small
 * slices, from any place on, so that it can be done beside a service that works (rounds.ts).
 *
 * docs/verify-audit.py does the first half over an export, without any code of this service.
 */

import { createHash } from 'node:crypto'
import { CaError } from '../errors.ts'
import { nextTurn } from '../turns.ts'
import { asLinked, eventSlices, issuances, type StoredPlace } from './audit.ts'
import {
  chainBegun,
  hashOf,
  isSame,
  lineOf,
  noEvent,
  type Chain,
  type Head,
  type LinkedEvent,
} from './chain.ts'
import type { Checkpoint, CheckpointFile } from './checkpoints.ts'
import type { Database } from './database.ts'

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
  /** SHA-256 of what stands there now, so that another damage in the same place is another one. */
  readonly state: string
}

export interface Verification {
  readonly events: number
  readonly certificates: number
  readonly checkpoints: number
  readonly head: Head
  /** The first comes first; 100 at most. */
  readonly damage: readonly Damage[]
  /** Of what was found, how much was accepted on the host. */
  readonly accepted: number
}

/** How far a walk has come. */
export interface Place extends Head {
  /** Whether the chain has begun. */
  readonly sealed: boolean
  /** The row that was looked at last. */
  readonly last: StoredPlace | null
}

export const beginning: Place = { ...noEvent, sealed: false, last: null }

/** What was found, in the order in which it was. */
export interface Findings {
  readonly damage: Damage[]
  /** Of every damage that was accepted on the host: see `keyOf`. */
  readonly accepted: Set<string>
}

export const nothingFound = (): Findings => ({ damage: [], accepted: new Set() })

export const toldAtMost = 100
const certificatesAtOnce = 100

/** The event of the acceptance of damages: they stand in its details. */
export const damageAccepted = 'audit.damageAccepted'

/** Reads the whole trail, the certificates and the checkpoints, and tells what does not fit. */
export async function verifyWhole(
  database: Database,
  chain: Chain,
  file: CheckpointFile | null,
): Promise<Verification> {
  const found = nothingFound()
  const { checkpoints, forged } = (await file?.read()) ?? { checkpoints: [], forged: [] }
  const { events, place } = await walk(database, chain, beginning, checkpoints, found)
  if (events > 0 && !place.sealed && !found.damage.some(({ kind }) => kind === 'unreadable'))
    tell(found, 'unsealed', 1, 'no event has a hash')
  const furthest = Math.max(0, ...checkpoints.map(({ sequence }) => sequence))
  if (furthest > place.sequence)
    tell(found, 'truncation', place.sequence + 1, `there is a checkpoint for ${furthest}`)
  const certificates = await compareCertificates(database, found)
  for (const { line, text } of forged) tell(found, 'checkpoint', null, `line ${line}`, text)

  const standing = unaccepted(found)
  return {
    events,
    certificates,
    checkpoints: checkpoints.length,
    head: { sequence: place.sequence, hash: place.hash },
    damage: standing.slice(0, toldAtMost),
    accepted: found.damage.length - standing.length,
  }
}

/** What was found and not accepted, by its place. */
export const unaccepted = ({ damage, accepted }: Findings): Damage[] =>
  damage
    .filter((one) => !accepted.has(keyOf(one)))
    .toSorted((a, b) => (a.sequence ?? Infinity) - (b.sequence ?? Infinity) || 0)

/** What a damage is known by, when it is accepted and when it is found again. */
const keyOf = ({ kind, sequence, detail, state }: Damage): string =>
  JSON.stringify([kind, sequence, detail, state])

function tell(
  found: Findings,
  kind: Damage['kind'],
  sequence: number | null,
  detail: string,
  what = '',
): void {
  const state = createHash('sha256').update(what).digest('hex')
  found.damage.push({ kind, sequence, detail, state })
}

/**
 * Walks along the events from a place on, and takes note of what does not fit: in the chain, against
 * checkpoints, and against the certificates that the events tell of.
 *
 * @param upTo - the last sequence to look at.
 */
export async function walk(
  database: Database,
  chain: Chain,
  from: Place,
  checkpoints: readonly Checkpoint[],
  found: Findings,
  upTo?: number,
): Promise<{ readonly events: number; readonly place: Place }> {
  const expected = new Map(checkpoints.map(({ sequence, hash }) => [sequence, hash]))
  let place = from
  let events = 0
  try {
    for await (const slice of eventSlices(database, from.last, upTo)) {
      for (const event of slice) {
        events += 1
        const { sequence } = event
        const damaged = (kind: Damage['kind'], where = sequence, detail = event.id) =>
          tell(found, kind, where, detail, lineOf(event))
        const next = place.sequence + 1
        const follows = sequence === next
        if (sequence > next)
          tell(found, 'gap', next, sequence - 1 === next ? '1 event' : `${next} to ${sequence - 1}`)
        if (sequence < next) damaged('duplicate')
        const head = { sequence: Math.max(sequence, place.sequence), last: { sequence, id: event.id } }
        if (event.hash === '' && !place.sealed) {
          if (event.mac !== '' || event.previousHash !== '') damaged('unsealed')
          place = { ...head, sealed: false, hash: hashOf({ ...event, previousHash: place.hash }) }
        } else {
          const earlier = place.sealed ? null : earlierEvents(event)
          if (!place.sealed && follows && sequence !== 1 && earlier !== sequence - 1)
            damaged('unsealed', place.sequence, 'no chain begins after it')
          const fault = await faultIn(event)
          if (fault !== null) damaged(fault)
          else {
            if (follows && !isSame(event.previousHash, place.hash)) {
              if (earlier === null) damaged('fork')
              else damaged('edit', 1, `one of the events 1 to ${earlier}, which are older than the chain`)
            }
            if (event.type === damageAccepted) for (const key of acceptedIn(event)) found.accepted.add(key)
          }
          place = { ...head, sealed: true, hash: event.hash }
        }
        const checkpoint = expected.get(sequence)
        if (checkpoint !== undefined && !isSame(checkpoint, event.hash))
          damaged('fork', sequence, 'its checkpoint says otherwise')
      }
      await compareIssuances(database, slice, found)
    }
  } catch (error) {
    if (error instanceof CaError) throw error // the database is away: nothing is known of the trail
    tell(found, 'unreadable', place.sequence + 1, (error as Error).message.trim().split('\n').at(-1)!)
  }
  return { events, place }

  async function faultIn(event: LinkedEvent): Promise<Damage['kind'] | null> {
    if (event.hash === '') return 'unsealed'
    if (isSame(hashOf(event), event.hash)) return isSame(chain.macOf(event.hash), event.mac) ? null : 'mac'
    if (found.damage.length > toldAtMost) return 'edit' // nobody is told any more which of the two
    const [before] = await database.read((client) =>
      client.auditEvent.findMany({ where: { hash: event.previousHash }, take: 1 }),
    )
    const end = before === undefined ? 0 : asLinked(before).sequence
    // Where it was: after the one it names; which may itself stand elsewhere, if the two changed places.
    const places = [end + 1, end, event.sequence - 1]
    return places.some((sequence) => isSame(hashOf({ ...event, sequence }), event.hash)) ? 'reorder' : 'edit'
  }
}

/** Each issuance that these events tell of has its certificate. */
async function compareIssuances(
  database: Database,
  events: readonly LinkedEvent[],
  found: Findings,
): Promise<void> {
  const told = events.filter(({ type, objectId }) => issuances.includes(type) && objectId !== null)
  if (told.length === 0) return
  await nextTurn()
  const rows = await database.read((client) =>
    client.certificate.findMany({
      where: { id: { in: told.map(({ objectId }) => objectId!) } },
      select: { id: true, certificate: true },
    }),
  )
  const kept = new Map(
    rows.map(({ id, certificate }) => [id, createHash('sha256').update(certificate).digest('hex')]),
  )
  for (const event of told) {
    const { sequence, objectId } = event
    const sha256 = kept.get(objectId!)
    if (sha256 === undefined) tell(found, 'eventWithoutCertificate', sequence, objectId!)
    else if (parsed(event.details)['sha256'] !== sha256.toUpperCase())
      tell(
        found,
        'certificateWithoutEvent',
        sequence,
        `${objectId}, whose event tells of other octets`,
        sha256,
      )
  }
}

/** Each certificate has an event that tells of it. @returns how many there are. */
export async function compareCertificates(database: Database, found: Findings): Promise<number> {
  let count = 0
  for (let after = ''; ;) {
    await nextTurn()
    const rows = await database.read((client) =>
      client.certificate.findMany({
        where: { id: { gt: after } },
        orderBy: { id: 'asc' },
        take: certificatesAtOnce,
        select: { id: true, serialNumber: true },
      }),
    )
    const ids = rows.map(({ id }) => id)
    const events = await database.read((client) =>
      client.auditEvent.findMany({
        where: { objectId: { in: ids }, type: { in: [...issuances] } },
        select: { objectId: true },
      }),
    )
    const told = new Set(events.map(({ objectId }) => objectId))
    for (const { id, serialNumber } of rows)
      if (!told.has(id)) tell(found, 'certificateWithoutEvent', null, id, serialNumber)
    count += rows.length
    if (rows.length < certificatesAtOnce) return count
    after = ids.at(-1)!
  }
}

/** How many events are older than the chain, by the event that begins it; null for any other. */
function earlierEvents({ type, details }: LinkedEvent): number | null {
  if (type !== chainBegun) return null
  const { earlierEvents } = parsed(details)
  return typeof earlierEvents === 'number' ? earlierEvents : null
}

function acceptedIn({ details }: LinkedEvent): string[] {
  const { damage } = parsed(details)
  return Array.isArray(damage) ? (damage as Damage[]).map(keyOf) : []
}

/** The details as they are, which may be no JSON any more. */
function parsed(details: string): Readonly<Record<string, unknown>> {
  try {
    return (JSON.parse(details) ?? {}) as Readonly<Record<string, unknown>>
  } catch {
    return {}
  }
}

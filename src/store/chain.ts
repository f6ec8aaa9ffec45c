/**
 * The chain of the audit trail: every event holds the hash of the one before it, so none can be
 * changed, taken out or put elsewhere unnoticed.
 *
 *     hash = SHA-256("hgsca-audit-v1\n" | canonical JSON of the record, previousHash in it)
 *     mac  = HMAC-SHA-256(audit key, hash)
 *
 * The hashes find whoever changes a part of the table. The MAC finds whoever reckons the hashes anew:
 * its key stands in no database. What is cut off at the end, checkpoints find (checkpoints.ts).
 *
 * Canonical JSON is that of RFC 8785. The details go into it as the text that is stored, so every
 * octet of it counts, and so a verifier in another language needs nothing but strings, nulls and one
 * whole number (docs/verify-audit.py).
 */

import { createHash, createHmac, timingSafeEqual, type KeyObject } from 'node:crypto'
import { canonicalJson } from '../canonicalJson.ts'
import type { NewAuditEvent } from './model.ts'
import { uuidv7 } from './uuid.ts'

/** What the hash is over, but for its place in the chain. */
export interface AuditRecord {
  /** A UUID of version 7. */
  readonly id: string
  readonly at: Date
  readonly type: string
  readonly outcome: string
  readonly actor: string
  readonly address: string | null
  readonly requestId: string | null
  readonly objectId: string | null
  /** JSON. */
  readonly details: string
}

/** An event in its place. Hashes and the MAC are 64 lower-case hex digits. */
export interface LinkedEvent extends AuditRecord {
  /** From 1, without a gap. */
  readonly sequence: number
  readonly previousHash: string
  readonly hash: string
  readonly mac: string
}

/** The last event. */
export interface Head {
  readonly sequence: number
  readonly hash: string
}

/** Before the first event. */
export const noEvent: Head = { sequence: 0, hash: '0'.repeat(64) }

/** The last event as a database tells it. */
export const headFrom = (
  row: { readonly sequence: number | bigint | string; readonly hash: string } | null | undefined,
): Head => (row == null ? noEvent : { sequence: Number(row.sequence), hash: row.hash })

/** The event that links a chain to the events that were there before there was one. */
export const chainBegun = 'audit.chainBegun'

/** An event that is still to be written, as its act hands it over (audit.ts). */
export class AuditEntry {
  readonly event: NewAuditEvent
  constructor(event: NewAuditEvent) {
    this.event = event
  }
}

export interface Chain {
  /** The events as they follow upon the head. */
  readonly link: (head: Head, entries: readonly AuditEntry[]) => LinkedEvent[]
  /** The MAC that belongs to the hash of an event. */
  readonly macOf: (hash: string) => string
  /** From now on, the hash over the events that are older than the chain stands for the one they lack. */
  readonly begin: (hashOfEarlier: string) => void
  /** Whoever has committed events here says so, with the last of them. */
  committed: (head: Head) => void
}

/** @param auditKey - 32 secret octets. */
export function chainUnder(auditKey: KeyObject): Chain {
  let hashOfEarlier: string | null = null
  const macOf = (hash: string): string =>
    createHmac('sha256', auditKey).update(Buffer.from(hash, 'hex')).digest('hex')
  return {
    macOf,
    begin: (hash) => void (hashOfEarlier = hash),
    committed: () => {},
    link(head, entries) {
      let { sequence, hash: previousHash } = head
      if (previousHash === '') {
        if (hashOfEarlier === null) throw new Error('the chain of the audit trail is not begun')
        previousHash = hashOfEarlier
      }
      return entries.map(({ event }) => {
        sequence += 1
        const record = { ...recordOf(event), sequence, previousHash }
        const hash = hashOf(record)
        previousHash = hash
        return { ...record, hash, mac: macOf(hash) }
      })
    },
  }
}

/** Its id is made here; ids sort by the time they were made, within one process. */
function recordOf(event: NewAuditEvent): AuditRecord {
  const { at, type, outcome, actor, address, requestId, objectId } = event
  // Dates become text first, and what is undefined goes.
  const details = canonicalJson(JSON.parse(JSON.stringify(event.details)))
  return { id: uuidv7(at), at, type, outcome, actor, address, requestId, objectId, details }
}

/** SHA-256 over a record in its place, 64 lower-case hex digits. */
export function hashOf(linked: Omit<LinkedEvent, 'hash' | 'mac'>): string {
  return createHash('sha256')
    .update(`hgsca-audit-v1\n${canonicalJson(hashed(linked))}`)
    .digest('hex')
}

/** An event as a line of an export: what is hashed, with the hash and the MAC. */
export const lineOf = (event: LinkedEvent): string =>
  canonicalJson({ ...hashed(event), hash: event.hash, mac: event.mac })

function hashed(linked: Omit<LinkedEvent, 'hash' | 'mac'>): Readonly<Record<string, unknown>> {
  const { id, sequence, at, type, outcome, actor, address, requestId, objectId, details, previousHash } =
    linked
  return {
    actor,
    address,
    at: at.toISOString(),
    details,
    id,
    objectId,
    outcome,
    previousHash,
    requestId,
    sequence,
    type,
  }
}

/** Whether two texts are the same, in a time that does not tell where they differ. */
export function isSame(a: string, b: string): boolean {
  const [left, right] = [Buffer.from(a), Buffer.from(b)]
  return left.length === right.length && timingSafeEqual(left, right)
}

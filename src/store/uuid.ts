/**
 * UUIDs of version 7 (RFC 9562 §5.7): unique ids that sort by the time they were made, so that one
 * indexed column gives both identity and order.
 */

import { createHash, randomFillSync } from 'node:crypto'

let lastMilliseconds = 0
let counter = 0

/**
 * A new id, 36 lower-case characters. Within a process each sorts after the one before it, also
 * within a millisecond and when the clock goes back (RFC 9562 §6.2, method 1: the 12 bits of rand_a
 * count up from a random start; when they run out, the next millisecond is borrowed).
 */
export function uuidv7(now: Date): string {
  const octets = sixteenRandom()
  const random = new DataView(octets.buffer)
  if (now.getTime() > lastMilliseconds) {
    lastMilliseconds = now.getTime()
    counter = random.getUint16(6) & 0x7ff // the upper half is left for counting
  } else if (++counter > 0xfff) {
    lastMilliseconds += 1
    counter = 0
  }
  random.setUint32(0, Math.floor(lastMilliseconds / 0x10000))
  random.setUint16(4, lastMilliseconds % 0x10000)
  random.setUint16(6, 0x7000 | counter)
  random.setUint8(8, 0x80 | (random.getUint8(8) & 0x3f))
  const hex = Buffer.from(octets).toString('hex')
  return `${hex.slice(0, 8)}-${hex.slice(8, 12)}-${hex.slice(12, 16)}-${hex.slice(16, 20)}-${hex.slice(20)}`
}

const pool = new Uint8Array(4_096) // asking the system for 16 octets takes as long as for these
let taken = pool.length

function sixteenRandom(): Uint8Array<ArrayBuffer> {
  if (taken === pool.length) {
    randomFillSync(pool)
    taken = 0
  }
  return pool.slice(taken, (taken += 16))
}

/** The id of what `name` made at `at`: the same for the same two, its 74 free bits are SHA-256 of the name. */
export function namedUuidv7(at: Date, name: string): string {
  const bits = createHash('sha256').update(name).digest()
  bits[0] = 0x70 | (bits[0]! & 0x0f)
  bits[2] = 0x80 | (bits[2]! & 0x3f)
  const hex = bits.toString('hex')
  return `${firstUuidv7(at).slice(0, 13)}-${hex.slice(0, 4)}-${hex.slice(4, 8)}-${hex.slice(8, 20)}`
}

/** The lowest id that can be made at `at`: every id made earlier sorts before it. */
export function firstUuidv7(at: Date): string {
  const milliseconds = at.getTime().toString(16).padStart(12, '0')
  return `${milliseconds.slice(0, 8)}-${milliseconds.slice(8)}-7000-8000-000000000000`
}

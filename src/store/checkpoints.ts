/**
 * Checkpoints of the audit trail: how far it had come, in a file outside the database. They find what
 * the chain itself cannot: a trail whose end was cut off, and a database that was put back to what it
 * was earlier.
 *
 * A line each, canonical JSON (RFC 8785) with an Ed25519 signature over a purpose and the line without
 * it, so that an auditor verifies them with a public key alone. Lines are only ever appended. When one
 * is due, and what is looked at before it is published, is in publish.ts.
 */

import {
  closeSync,
  existsSync,
  fstatSync,
  fsyncSync,
  openSync,
  readFileSync,
  readSync,
  writeSync,
} from 'node:fs'
import { canonicalJson } from '../canonicalJson.ts'
import { nextTurn } from '../turns.ts'
import type { Head } from './chain.ts'
import type { CheckpointKey } from './signature.ts'

const purpose = 'hgsca-checkpoint-v2'

/** How many signatures are verified in one turn of the event loop, at some 0.1 ms each. */
const atOnce = 100

export interface Checkpoint extends Head {
  readonly at: string
  /** The last checkpoint that no longer counts, when a record that ends before it was accepted on the host. */
  readonly abandons: number | null
}

/** A line that is not of the audit key. */
export interface ForgedLine {
  /** From 1. */
  readonly line: number
  readonly text: string
}

export interface CheckpointFile {
  readonly path: string
  /** The checkpoints that count, oldest first, and the lines that are forged. A line that is no JSON was torn by a crash, and says nothing. */
  readonly read: () => Promise<{ readonly checkpoints: Checkpoint[]; readonly forged: ForgedLine[] }>
  /** The one that counts and tells of the furthest event; several processes may write to one file, so it need not be the last. */
  readonly furthest: () => Checkpoint | undefined
  /** Writes one, on disk when it returns. */
  readonly write: (head: Head, abandons?: number) => Checkpoint
}

export function checkpointFile(path: string, key: CheckpointKey): CheckpointFile {
  /** What was read of the file: up to which octet, and the furthest found. */
  let seen: { octets: number; furthest: Checkpoint | undefined } = { octets: 0, furthest: undefined }

  const isGenuine = ({ signature, ...checkpoint }: Line): boolean =>
    typeof signature === 'string' && key.verifies(`${purpose}\n${canonicalJson(checkpoint)}`, signature)

  return {
    path,

    async read() {
      const forged: ForgedLine[] = []
      let checkpoints: Checkpoint[] = []
      const lines = existsSync(path) ? readFileSync(path, 'utf8').split('\n') : []
      for (const [index, text] of lines.entries()) {
        if (index % atOnce === 0) await nextTurn()
        const line = parsed(text)
        if (line === null) continue
        if (!isGenuine(line)) {
          forged.push({ line: index + 1, text })
          continue
        }
        if (line.abandons !== null) checkpoints = []
        checkpoints.push(checkpointIn(line))
      }
      return { checkpoints, forged }
    },

    /** Only what was appended since is read, and few signatures are looked at, however long the file is. */
    furthest() {
      const { text, octets, anew } = appended(path, seen.octets)
      const lines = text.split('\n').flatMap((line) => parsed(line) ?? [])
      const start = lines.findLastIndex((line) => line.abandons !== null && isGenuine(line))
      const candidates = lines
        .slice(Math.max(0, start))
        .toSorted((a, b) => Number(b.sequence) - Number(a.sequence))
      const before = anew || start >= 0 ? undefined : seen.furthest
      const best = candidates.find((line) => isGenuine(line))
      const found = best && checkpointIn(best)
      const furthest = found === undefined || (before && before.sequence >= found.sequence) ? before : found
      seen = { octets, furthest }
      return furthest
    },

    write({ sequence, hash }, abandons) {
      const checkpoint = { at: new Date().toISOString(), hash, sequence, abandons: abandons ?? null }
      const signature = key.sign(`${purpose}\n${canonicalJson(checkpoint)}`)
      const file = openSync(path, 'a+', 0o600)
      try {
        const { size } = fstatSync(file)
        const last = Buffer.from('\n')
        if (size > 0) readSync(file, last, 0, 1, size - 1)
        const torn = last.toString() !== '\n' // a crash came between the line and its end
        writeSync(file, `${torn ? '\n' : ''}${canonicalJson({ ...checkpoint, signature })}\n`)
        fsyncSync(file)
      } finally {
        closeSync(file)
      }
      return checkpoint
    },
  }
}

type Line = Checkpoint & { readonly signature?: unknown }

/** Without what else stands in the line. */
const checkpointIn = ({ sequence, hash, at, abandons }: Line): Checkpoint => ({
  sequence,
  hash,
  at,
  abandons,
})

/** The whole lines behind `from`; all of them (`anew`) when the file has become shorter, and so is another one. */
function appended(path: string, from: number): { text: string; octets: number; anew: boolean } {
  if (!existsSync(path)) return { text: '', octets: 0, anew: true }
  const file = openSync(path, 'r')
  try {
    const { size } = fstatSync(file)
    const start = size < from ? 0 : from
    const octets = Buffer.alloc(size - start)
    const read = octets.subarray(0, readSync(file, octets, 0, octets.length, start))
    const end = read.lastIndexOf(0x0a) + 1
    return { text: read.toString('utf8', 0, end), octets: start + end, anew: start === 0 }
  } finally {
    closeSync(file)
  }
}

function parsed(text: string): Line | null {
  try {
    const value = JSON.parse(text) as unknown
    return typeof value === 'object' && value !== null ? (value as Line) : null
  } catch {
    return null
  }
}

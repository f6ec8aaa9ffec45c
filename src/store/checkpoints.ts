/**
 * Checkpoints of the audit trail: how far it had come, in a file outside the database. They find what
 * the chain itself cannot: a trail whose end was cut off, and a database that was put back to what it
 * was earlier.
 *
 * A line each, canonical JSON (RFC 8785) with a MAC of the audit key over the line without it. Lines
 * are only ever appended.
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
import { isSame, type Chain, type Head } from './chain.ts'
import type { Log } from './log.ts'

/** When a checkpoint is due: after so many events, or so many milliseconds after the first that has none. */
const eventsBetween = 100
const patience = 60_000

const purpose = 'hgsca-checkpoint-v1'

export interface Checkpoint extends Head {
  readonly at: string
  /** The last checkpoint that no longer counts, when a record that ends before it was accepted on the host. */
  readonly abandons: number | null
}

export interface CheckpointFile {
  /**
   * The checkpoints that count, oldest first. A line that is no JSON was torn by a crash, and says nothing.
   * `forged` tells the lines, from 1, that are not of the audit key.
   */
  readonly read: () => { readonly checkpoints: Checkpoint[]; readonly forged: number[] }
  /** Writes one, on disk when it returns. */
  readonly write: (head: Head, abandons?: number) => void
  /** Takes note of a new head, and writes a checkpoint when one is due. */
  readonly note: (head: Head) => void
  /** How many events no checkpoint covers yet, and how long the first of them has waited. */
  readonly lag: () => { readonly events: number; readonly seconds: number }
  /** Writes the last one. */
  readonly close: () => void
}

export function checkpointFile(path: string, chain: Chain, log: Log): CheckpointFile {
  let noted: Head | null = null
  let written = 0 // the sequence of the last one from here
  let timer: NodeJS.Timeout | undefined
  let waitingSince: number | null = null // on the clock of performance.now

  function read(): { checkpoints: Checkpoint[]; forged: number[] } {
    const forged: number[] = []
    let checkpoints: Checkpoint[] = []
    const lines = existsSync(path) ? readFileSync(path, 'utf8').split('\n') : []
    for (const [index, line] of lines.entries()) {
      const found = parsed(line)
      if (found === null) continue
      const { mac, ...checkpoint } = found
      if (typeof mac !== 'string' || !isSame(mac, chain.seal(purpose, canonicalJson(checkpoint)))) {
        forged.push(index + 1)
        continue
      }
      if (checkpoint.abandons !== null) checkpoints = []
      checkpoints.push(checkpoint)
    }
    return { checkpoints, forged }
  }

  function write({ sequence, hash }: Head, abandons: number | null = null): void {
    const checkpoint = { at: new Date().toISOString(), hash, sequence, abandons }
    const mac = chain.seal(purpose, canonicalJson(checkpoint))
    const file = openSync(path, 'a+', 0o600)
    try {
      const { size } = fstatSync(file)
      const last = Buffer.from('\n')
      if (size > 0) readSync(file, last, 0, 1, size - 1)
      const torn = last.toString() !== '\n' // a crash came between the line and its end
      writeSync(file, `${torn ? '\n' : ''}${canonicalJson({ ...checkpoint, mac })}\n`)
      fsyncSync(file)
    } finally {
      closeSync(file)
    }
    written = sequence
    waitingSince = null
  }

  function writeNoted(): void {
    clearTimeout(timer)
    timer = undefined
    if (noted === null || noted.sequence <= written) return
    try {
      write(noted)
    } catch (error) {
      log.error({ err: error, path }, 'A checkpoint of the audit trail could not be written.')
    }
  }

  return {
    read,
    write,
    note(head) {
      if (noted === null && written === 0) written = head.sequence - 1
      noted = head
      waitingSince ??= performance.now()
      if (head.sequence - written >= eventsBetween) return writeNoted()
      timer ??= setTimeout(writeNoted, patience).unref()
    },
    lag: () => ({
      events: noted === null ? 0 : Math.max(0, noted.sequence - written),
      seconds: waitingSince === null ? 0 : (performance.now() - waitingSince) / 1_000,
    }),
    close: writeNoted,
  }
}

function parsed(line: string): (Checkpoint & { readonly mac: unknown }) | null {
  try {
    const value = JSON.parse(line) as unknown
    return typeof value === 'object' && value !== null ? (value as Checkpoint & { mac: unknown }) : null
  } catch {
    return null
  }
}

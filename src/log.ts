/**
 * Lines to a file descriptor, for pino: whoever does not take them neither holds the service nor ends it.
 *
 * A write fails at once when a pipe is full, a disk is full, or a reader is gone. What cannot be
 * written waits and is tried again; what finds no room to wait is dropped and counted. pino.destination
 * waits for such a reader instead: within write when it is synchronous, at the exit when it is not.
 */
import { writeSync } from 'node:fs'

const retryInterval = 100 // milliseconds
const flushLimit = 1_000 // milliseconds

export interface Lines {
  readonly write: (line: string) => void
  /** For the end: waits, and holds everything else, until a slow reader has taken all, but not for long. */
  readonly flush: () => void
  /** How many lines were dropped in all. */
  readonly dropped: () => number
}

/**
 * @param descriptor - of a file, a terminal, or a pipe that does not block: Node sets that of process.stdout so.
 * @param capacity - octets that may wait.
 * @param onDropped - told how many lines were dropped, as soon as writing works again.
 */
export function lines(descriptor: number, capacity: number, onDropped: (count: number) => void): Lines {
  let waiting: Buffer[] = []
  let octets = 0
  let dropped = 0 // and not told yet
  let droppedInAll = 0
  let retry: NodeJS.Timeout | undefined

  /** Writes what waits. What stands in the way, as a code of the system, or null. */
  function pass(): string | null {
    clearTimeout(retry)
    retry = undefined
    try {
      while (octets > 0) {
        const chunk = Buffer.concat(waiting)
        waiting = [chunk]
        const written = writeSync(descriptor, chunk)
        waiting = [chunk.subarray(written)]
        octets -= written
      }
      waiting = []
    } catch (error) {
      retry = setTimeout(pass, retryInterval).unref()
      return (error as NodeJS.ErrnoException).code ?? 'unknown'
    }
    const count = dropped
    dropped = 0
    if (count > 0) onDropped(count)
    return null
  }

  return {
    dropped: () => droppedInAll,
    write: (line) => {
      const chunk = Buffer.from(line)
      if (octets + chunk.length > capacity) {
        dropped++
        droppedInAll++
        return
      }
      waiting.push(chunk)
      octets += chunk.length
      if (retry === undefined) pass()
    },
    flush: () => {
      const end = performance.now() + flushLimit
      const pause = new Int32Array(new SharedArrayBuffer(4))
      // A full pipe may have a reader yet; a full disk or a closed pipe is not waited for.
      while (pass() === 'EAGAIN' && performance.now() < end) Atomics.wait(pause, 0, 0, 10)
    },
  }
}

/** Writes that wait for their turn, and are written together: one transaction, one wait for the disk. */
import { nextTurn } from '../turns.ts'

/** How many writes share one transaction at most: a failure repeats each of them alone. */
const groupSize = 32

/** What a queue must know of a write. */
interface Waiting {
  readonly reject: (reason: unknown) => void
  /** Once aborted, nobody waits for it any more. */
  readonly abandoned: AbortSignal | undefined
  /** Its group failed: it is tried again without the others. */
  alone: boolean
}

/** @param commit - writes a group in one transaction, and tells each of it; never rejects. */
export function writeQueue<W extends Waiting>(commit: (group: readonly W[]) => Promise<void>) {
  const queue: W[] = []
  let flushing: Promise<void> | undefined

  async function flush(): Promise<void> {
    while (queue.length > 0) {
      // As long as others come before this one's turn does, it waits for them. Alone, it waits for one turn.
      for (let gathered = 0; gathered < queue.length && gathered < groupSize;) {
        gathered = queue.length
        await nextTurn()
      }
      const group = stillWanted(nextGroup(queue))
      if (group.length > 0) await commit(group)
    }
    flushing = undefined
  }

  return {
    length: (): number => queue.length,
    push(waiting: W): void {
      queue.push(waiting)
      flushing ??= flush()
    },
    /** Puts back what `commit` could not write, before all others. */
    again: (group: readonly W[]): void => void queue.unshift(...group),
  }
}

/** Takes from the queue what is written together: those that must be alone are. */
function nextGroup<W extends Waiting>(queue: W[]): W[] {
  const firstAlone = queue.findIndex((waiting) => waiting.alone)
  return queue.splice(0, firstAlone === 0 ? 1 : firstAlone > 0 ? Math.min(firstAlone, groupSize) : groupSize)
}

/** Those that somebody still waits for. The others are not written, and their callers told why. */
function stillWanted<W extends Waiting>(group: readonly W[]): W[] {
  return group.filter(({ abandoned, reject }) => {
    if (abandoned?.aborted === true) reject(abandoned.reason)
    return abandoned?.aborted !== true
  })
}

/** Tells each that it is written, in a turn of its own: what its caller does then takes milliseconds. */
export async function tellEach(group: readonly (() => void)[]): Promise<void> {
  for (const tell of group) {
    await nextTurn()
    tell()
  }
}

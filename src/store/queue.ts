/** Writes that wait for their turn, and are written together: one transaction, one wait for the disk. */
import { nextTurn } from '../turns.ts'

/** How many writes share one transaction at most: a failure repeats each of them alone. */
const groupSize = 32

/** Takes from the queue what is written together: those that must be alone are. */
export function nextGroup<Waiting extends { readonly alone: boolean }>(queue: Waiting[]): Waiting[] {
  const firstAlone = queue.findIndex((waiting) => waiting.alone)
  return queue.splice(0, firstAlone === 0 ? 1 : firstAlone > 0 ? Math.min(firstAlone, groupSize) : groupSize)
}

/** Those that somebody still waits for. The others are not written, and their callers told why. */
export function stillWanted<
  Waiting extends {
    readonly abandoned: AbortSignal | undefined
    readonly reject: (reason: unknown) => void
  },
>(group: readonly Waiting[]): Waiting[] {
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

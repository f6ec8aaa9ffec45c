/**
 * A value that comes from elsewhere, and is kept for the time that elsewhere is away.
 *
 * It is asked for anew when it is older than ten minutes, or when somebody misses something in it; but
 * never twice within the cooldown, whoever asks and however often, and only once at a time. While
 * elsewhere does not answer, nobody waits for it who has a value that may be used.
 */

export interface LastGood<T> {
  /** The newest value there is. @throws Away when there is none younger than a day. */
  readonly current: () => Promise<T>
  /**
   * A newer value than `seen`, in which something is missing; `seen` itself when it was asked for a
   * moment ago and has not changed. @throws Away when elsewhere did not answer: it may well be there.
   */
  readonly newerThan: (seen: T) => Promise<T>
}

export class Away extends Error {
  override readonly name = 'Away'
}

export interface Source<T> {
  readonly fetch: () => Promise<T>
  readonly now: () => Date
  /** Told of each failure, and of the first success after one. */
  readonly onFailure: (error: Error) => void
  readonly onRecovery: () => void
}

export const cooldown = 30_000 // milliseconds
const fresh = 600_000 // milliseconds: what is taken back elsewhere is taken back here after these
const usable = 86_400_000 // milliseconds: a day, in which an operator finds out

export function lastGood<T>({ fetch, now, onFailure, onRecovery }: Source<T>): LastGood<T> {
  let good: { readonly value: T; readonly at: number } | null = null
  let attempt: { readonly at: number; readonly failed: boolean } | null = null
  let underWay: Promise<void> | null = null

  // A clock that was set back must not keep anything alive, nor hold anything up.
  const age = (at: number) => Math.abs(now().getTime() - at)

  const refresh = (): Promise<void> => {
    if (underWay !== null) return underWay
    if (attempt !== null && age(attempt.at) < cooldown) return Promise.resolve()
    const failedBefore = attempt?.failed === true
    underWay = fetch()
      .then((value) => {
        good = { value, at: now().getTime() }
        attempt = { at: good.at, failed: false }
        if (failedBefore) onRecovery()
      })
      .catch((error: unknown) => {
        attempt = { at: now().getTime(), failed: true }
        onFailure(error as Error)
      })
      .finally(() => (underWay = null))
    return underWay
  }

  const usableValue = (): T => {
    if (good === null || age(good.at) >= usable) throw new Away('there is no value that may still be used')
    return good.value
  }

  return {
    async current() {
      if (good !== null && age(good.at) < fresh) return good.value
      const isAway = attempt?.failed === true
      const refreshed = refresh()
      if (!isAway || good === null || age(good.at) >= usable) await refreshed
      return usableValue()
    },
    async newerThan(seen) {
      if (good?.value === seen) await refresh()
      if (good?.value === seen && attempt?.failed === true) throw new Away('nobody answers')
      return usableValue()
    },
  }
}

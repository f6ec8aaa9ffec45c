/**
 * The gate that every call to the record passes: shut for good once the store is unfit or closed,
 * and the place where a database error becomes the refusal that the client sees.
 */

import type { CaError } from '../errors.ts'
import { translated, unavailable } from './faults.ts'

export interface Gate {
  /** @throws CaError `storeUnavailable` when shut, or when the call fails because of the database. */
  pass: <T>(call: () => Promise<T>) => Promise<T>
  declareUnfit: (reason: Error) => CaError
  /** Why the store is unfit, if it is. */
  unfit: () => Error | undefined
  /** Lets nobody in any more, and waits until everybody is out. */
  close: () => Promise<void>
}

/** @param onUnfit - called once, when what was acknowledged may not be what is stored. */
export function createGate(onUnfit: (reason: Error) => void): Gate {
  let unfit: Error | undefined
  let closed: Error | undefined
  const inside = new Set<Promise<unknown>>()
  return {
    async pass(call) {
      const shut = unfit ?? closed
      if (shut !== undefined) throw unavailable(shut)
      const running = call()
      inside.add(running)
      try {
        return await running
      } catch (error) {
        throw translated(error)
      } finally {
        inside.delete(running)
      }
    },
    declareUnfit(reason) {
      if (unfit === undefined) {
        unfit = reason
        onUnfit(reason)
      }
      return unavailable(reason)
    },
    unfit: () => unfit,
    async close() {
      closed ??= new Error('the store is closed')
      await Promise.allSettled(inside)
    },
  }
}

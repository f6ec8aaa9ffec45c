/** When an identity was last used: roughly, beside the request, and never at its cost. */
import type { Log } from '../store/log.ts'
import type { IdentityRecord } from '../store/model.ts'
import type { Store } from '../store/open.ts'

const interval = 300_000 // milliseconds; one write per identity in this time
const remembered = 10_000 // identities; more than are used in that time

interface Keeper {
  readonly store: Store
  readonly now: () => Date
  readonly log: Log
}

/** Notes a use without waiting; what cannot be written down is logged, and tried again with a later one. */
export function useNotes({ store, now, log }: Keeper): (identity: IdentityRecord) => void {
  const noted = new Map<string, number>()
  return ({ id, lastUsedAt }) => {
    const at = now()
    const last = Math.max(lastUsedAt?.getTime() ?? 0, noted.get(id) ?? 0)
    if (Math.abs(at.getTime() - last) < interval) return
    if (noted.size >= remembered) noted.clear()
    noted.set(id, at.getTime())
    store.noteUse(id, at, new Date(at.getTime() - interval)).catch((error: unknown) => {
      log.warn({ err: error, identity: id }, 'it could not be written down that an identity was used')
    })
  }
}

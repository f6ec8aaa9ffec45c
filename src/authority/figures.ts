/** What is measured of the record, at most every ten seconds, however often it is asked for. */
import { purposes, type Purpose } from '../hgs/profiles.ts'
import type { CertificationAuthority } from './authority.ts'

const every = 10_000 // milliseconds
const patience = 1_000 // milliseconds: who asks has not longer; a record that takes more is away for him

export interface Figures {
  readonly latencySeconds: number
  readonly auditHead: number
  readonly requestsPending: number
  /** When the first certificate of a purpose ends; null when there is none. */
  readonly expiries: ReadonlyMap<Purpose, Date | null>
}

/** @returns null when the record is away. */
export function figuresOf({ store, now }: CertificationAuthority): () => Promise<Figures | null> {
  let known: Figures | null = null
  let looking: Promise<void> | null = null
  let lookedAt = -Infinity

  async function look(): Promise<void> {
    const begun = performance.now()
    try {
      await store.ping()
      const latencySeconds = (performance.now() - begun) / 1_000
      const soonest = await store.soonestExpiries(now())
      const expiries = new Map(purposes.map((purpose) => [purpose, soonest.get(purpose) ?? null]))
      const requestsPending = await store.requestsPending(now())
      known = { latencySeconds, auditHead: await store.auditHead(), requestsPending, expiries }
    } catch {
      known = null // the log tells of it where somebody needed the record
    }
    lookedAt = performance.now()
  }

  return async () => {
    if (looking === null && performance.now() - lookedAt < every) return known
    looking ??= look().finally(() => (looking = null))
    let late: NodeJS.Timeout | undefined
    const inTime = await Promise.race([
      looking.then(() => true),
      new Promise<false>((resolve) => (late = setTimeout(resolve, patience, false))),
    ])
    clearTimeout(late)
    return inTime ? known : null
  }
}

/**
 * What must be true before anything is issued or handed out: the audit trail is whole, and the clock does
 * not stand before what was already written. Reading is always allowed.
 *
 * The clock is held against the trail, which outlives the process and is that of all instances, and
 * against the monotonic clock of the machine, which nobody sets.
 */
import { CaError } from '../errors.ts'
import { bySystem } from '../events.ts'
import type { Log } from '../store/log.ts'
import type { NewAuditEvent } from '../store/model.ts'
import type { Store } from '../store/open.ts'

/** By how much clocks may differ, and a clock may be corrected, in milliseconds. */
const tolerance = 5_000

/** How long a client waits at most before it comes again, in seconds. */
const longestWait = 3_600

export interface Guard {
  /** @throws CaError `auditDamaged`, `clockRegression`, `storeUnavailable`. */
  readonly pass: () => Promise<void>
  /** Looks at the clock, as is done every second, so that it is known when it was set. */
  readonly watch: () => Promise<void>
}

/** @param monotonic - milliseconds since whenever. */
export function createGuard(
  { store, now, log }: { readonly store: Store; readonly now: () => Date; readonly log: Log },
  monotonic: () => number,
): Guard {
  let before = { wall: now().getTime(), monotonic: monotonic() }
  /** When it would be if the clock had not been set back, and the last event before it was. */
  let setBack: { readonly from: number; readonly sequence: number } | null = null
  let told = false

  const tell = (at: Date, outcome: NewAuditEvent['outcome'], details: NewAuditEvent['details']) =>
    store.recordEvent({ at, type: 'clock.anomaly', outcome, ...nobody, details })

  async function watch(): Promise<void> {
    const looked = { wall: now().getTime(), monotonic: monotonic() }
    const due = before.wall + looked.monotonic - before.monotonic
    before = looked
    const milliseconds = Math.round(looked.wall - due)
    if (Math.abs(milliseconds) <= tolerance) return
    const kind = milliseconds < 0 ? 'steppedBack' : 'steppedForward'
    if (milliseconds < 0)
      setBack = { from: Math.max(due, setBack?.from ?? 0), sequence: store.auditState().head.sequence }
    log.error({ kind, milliseconds }, 'The clock was set while the service ran.')
    await tell(new Date(looked.wall), milliseconds < 0 ? 'failure' : 'success', { kind, milliseconds })
  }

  return {
    watch,
    async pass() {
      if (store.auditState().verified.damage.length > 0) throw damaged()
      await watch()
      const latest = await store.latestMoment()
      const at = now()
      if (setBack !== null && (latest?.accepted ?? 0) > setBack.sequence) setBack = null
      const known = Math.max(latest?.at.getTime() ?? 0, setBack?.from ?? 0)
      if (at.getTime() >= known - tolerance) {
        setBack = null
        told = false
        return
      }
      if (!told) {
        told = true
        const details = { kind: 'behindRecord', known: new Date(known) }
        log.error(details, 'The clock stands before what is on record. Nothing is issued.')
        await tell(at, 'failure', details)
      }
      throw regressed(at, new Date(known))
    },
  }
}

const nobody = { ...bySystem, objectId: null }

const damaged = (): CaError =>
  new CaError(
    'auditDamaged',
    'The audit trail is not as it was written. Nothing is issued until the operator has looked.',
  )

function regressed(at: Date, known: Date): CaError {
  const seconds = Math.ceil((known.getTime() - tolerance - at.getTime()) / 1_000)
  return new CaError(
    'clockRegression',
    `By the clock of this service it is ${at.toISOString()}, but it was ${known.toISOString()} already.`,
    { facts: { retryAfterSeconds: Math.min(Math.max(seconds, 1), longestWait) } },
  )
}

/**
 * The audit trail watched: its end is verified before the service listens, the whole beside its work, and
 * then in rounds. What is found is told in the log and in the trail, and issues nothing more (guard.ts).
 */
import { bySystem } from '../events.ts'
import type { Log } from '../store/log.ts'
import type { NewAuditEvent } from '../store/model.ts'
import type { Store } from '../store/open.ts'
import type { Round } from '../store/rounds.ts'

const hour = 3_600_000 // milliseconds
const day = 24 * hour

export interface Watch {
  /** Ends it, once the round that runs is over. */
  readonly stop: () => Promise<void>
}

/**
 * Resolves once the end of the trail was verified; the rest goes on.
 *
 * @param interval - milliseconds between two rounds; while there is damage, a sixtieth of it.
 */
export async function watchAudit(
  { store, now, log }: { readonly store: Store; readonly now: () => Date; readonly log: Log },
  interval: number = hour,
): Promise<Watch> {
  let timer: NodeJS.Timeout | undefined
  let stopped = false
  let told: string | null = null // the damage that was told last
  let recorded: number | null = null // when a whole reading was last recorded, by the monotonic clock
  let begun: number | null = null // when every event was last read, by the same

  async function judge({ events, whole, damage }: Round): Promise<void> {
    const [first] = damage
    const said = first === undefined ? null : JSON.stringify(damage)
    const time = performance.now()
    if (whole) begun = time
    if (first !== undefined && said !== told) {
      log.error({ first, damages: damage.length }, 'The audit trail is damaged. Nothing is issued.')
      told = said
      await store.recordEvent({
        ...event(now(), 'audit.damaged', 'failure'),
        details: { first, damages: damage.length },
      })
    }
    if (first !== undefined || !whole) return
    const isMended = told !== null
    if (isMended) log.info({ events }, 'The audit trail stands again.')
    told = null
    if (!isMended && recorded !== null && time - recorded < day) return
    recorded = time
    const { hash } = store.auditState().head
    await store.recordEvent({ ...event(now(), 'audit.verified', 'success'), details: { events, hash } })
  }

  let underWay = Promise.resolve()
  function next(wait: number): void {
    if (stopped) return
    timer = setTimeout(() => void (underWay = round()), wait).unref()
  }
  async function round(): Promise<void> {
    let wait = interval
    try {
      const result = await store.verifyAuditRound()
      await judge(result)
      const isOverdue = begun === null || performance.now() - begun > day
      if (result.damage.length > 0) wait = interval / 60
      else if (!result.whole && isOverdue) wait = 0
    } catch (error) {
      if (!stopped) log.error({ err: error }, 'The audit trail could not be verified.')
    }
    next(wait)
  }

  await judge(await store.verifyAuditTail())
  next(0)
  return {
    async stop() {
      stopped = true
      clearTimeout(timer)
      await underWay
    },
  }
}

const event = (
  at: Date,
  type: 'audit.damaged' | 'audit.verified',
  outcome: NewAuditEvent['outcome'],
): Omit<NewAuditEvent, 'details'> => ({
  at,
  type,
  outcome,
  ...bySystem,
  objectId: null,
})

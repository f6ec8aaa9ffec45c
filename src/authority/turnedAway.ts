/**
 * Who was turned away, as events of the audit trail: the first within a minute each by itself, the others
 * together once the minute is over, so that whoever tries ten thousand keys fills no disk.
 */
import type { Log } from '../store/log.ts'
import type { NewAuditEvent } from '../store/model.ts'
import type { Store } from '../store/open.ts'

const minute = 60_000 // milliseconds

/** How many sources are told apart within a minute; the rest counts as one. */
const sourcesAtMost = 1_000
const objectsAtMost = 100

export interface TurnedAway {
  readonly event: NewAuditEvent
  /** What is counted: an address, or an identity. */
  readonly source: string
  /** How many within a minute are told each by itself. */
  readonly each: number
}

export interface Door {
  /** Never rejects: who is turned away is turned away also when that cannot be written. */
  readonly tell: (away: TurnedAway) => Promise<void>
  /** Tells what was only counted so far. */
  readonly flush: () => Promise<void>
}

interface Counted {
  readonly since: number
  readonly last: NewAuditEvent
  readonly told: number
  readonly untold: number
  readonly objects: ReadonlySet<string>
}

/** @param monotonic - milliseconds since whenever. */
export function createDoor(
  { store, now, log }: { readonly store: Store; readonly now: () => Date; readonly log: Log },
  monotonic: () => number = () => performance.now(),
): Door {
  const counted = new Map<string, Counted>()
  let timer: NodeJS.Timeout | undefined

  const record = (event: NewAuditEvent): Promise<void> =>
    store
      .recordEvent(event)
      .catch((error: unknown) =>
        log.error({ err: error, type: event.type }, 'A refusal could not be recorded.'),
      )

  async function flushOlder(limit: number): Promise<void> {
    for (const [key, { since, last, untold, objects }] of counted) {
      if (since > limit) continue
      counted.delete(key)
      if (untold === 0) continue
      const [only] = objects
      const isOther = key.startsWith(others)
      await record({
        ...last,
        at: now(),
        requestId: null,
        ...(isOther && { actor: 'several', address: null }),
        objectId: objects.size === 1 ? only! : null,
        details: {
          ...withoutRoute(last.details),
          count: untold,
          ...(objects.size > 1 && { keys: objects.size }),
        },
      })
    }
  }

  function later(): void {
    timer ??= setTimeout(() => {
      timer = undefined
      void flushOlder(monotonic() - minute).then(() => {
        if (counted.size > 0) later()
      })
    }, minute).unref()
  }

  return {
    async tell({ event, source, each }) {
      const { type, details } = event
      let key = JSON.stringify([type, details['code'], source])
      const time = monotonic()
      const known = counted.get(key)
      if (known !== undefined && time - known.since >= minute) await flushOlder(known.since)
      if (!counted.has(key) && counted.size >= sourcesAtMost) key = `${others} ${type}`
      const before = counted.get(key) ?? { since: time, told: 0, untold: 0, objects: new Set<string>() }
      later()
      if (before.told < each) {
        counted.set(key, { ...before, last: event, told: before.told + 1 })
        return record(event)
      }
      const objects = new Set(before.objects)
      if (event.objectId !== null && objects.size < objectsAtMost) objects.add(event.objectId)
      counted.set(key, { ...before, last: event, untold: before.untold + 1, objects })
    },
    flush: () => flushOlder(Infinity),
  }
}

const others = 'others'

const withoutRoute = (details: NewAuditEvent['details']): NewAuditEvent['details'] =>
  Object.fromEntries(Object.entries(details).filter(([name]) => name !== 'route'))

/**
 * How many orders are carried out at a time. What comes beyond is refused at once: a client that is told
 * to come again is better off than one that waits until it gives up, and what was begun is finished sooner.
 *
 * Reads, health and metrics are no orders, and are always served.
 */
import type { FastifyInstance, RouteOptions } from 'fastify'
import { CaError } from '../errors.ts'
import type { Permission } from '../identity/roles.ts'
import type { Metrics } from '../metrics.ts'
import { nextTurn } from '../turns.ts'

/**
 * Two groups of writes, one on its way to the disk and one that gathers, of 32 each (store/queue.ts):
 * with fewer orders the disk waits for them, with more they wait for it. Orders that wait for their key
 * to be made, 18 at most (keys/generate.ts), leave enough of them to the others.
 */
const atOnce = 64

/** What whoever may do it asks of the processor: signatures, or PFX files opened and made. */
const laborious: readonly Permission[] = [
  'certificate.issue',
  'certificate.renew',
  'key.deliver',
  'pfx.convert',
]

/**
 * Call before any route is declared, and before what authenticates: to look somebody up, only to send them
 * away, would be most of the work.
 *
 * @returns how many orders are being carried out.
 */
export function admitOrders(app: FastifyInstance, metrics: Metrics): () => number {
  let inFlight = 0

  function refuseBeyond(): void {
    if (inFlight < atOnce) return
    metrics.count('hgsca_orders_refused_busy_total', {})
    throw new CaError('busy', `${inFlight} orders are being carried out already.`, {
      facts: { retryAfterSeconds: 1 },
    })
  }

  const isOrder = (method: string | string[], permission: string | undefined): boolean =>
    method === 'POST' && laborious.some((one) => one === permission)

  // Before the body is read: most of a flood ends here. Nobody has a place yet, so that a body that
  // comes slowly, or never, takes none.
  app.addHook('onRequest', async ({ method, routeOptions }) => {
    if (isOrder(method, routeOptions.config?.permission)) refuseBeyond()
  })
  app.addHook('onRoute', (route: RouteOptions) => {
    if (!isOrder(route.method, route.config?.permission)) return
    const { handler } = route
    // Counted until the work is done, also when the client has gone by then.
    route.handler = async function (request, reply) {
      refuseBeyond()
      inFlight++
      try {
        await nextTurn()
        return await handler.call(this, request, reply)
      } finally {
        inFlight--
      }
    }
  })
  return () => inFlight
}

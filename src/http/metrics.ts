/** GET /metrics, for Prometheus: what is counted as it happens, and what is looked up when somebody asks. */
import type { TypeBoxTypeProvider } from '@fastify/type-provider-typebox'
import type { FastifyInstance } from 'fastify'
import { issuing, type CertificationAuthority } from '../authority/authority.ts'
import { figuresOf } from '../authority/figures.ts'
import type { Metrics } from '../metrics.ts'
import { problems } from './describe.ts'

const day = 86_400_000 // milliseconds

/** Counts every request, by its route and not by its address. Call before any route is declared. */
export function countRequests(app: FastifyInstance, metrics: Metrics): void {
  app.addHook('onResponse', async ({ method, routeOptions: { url } }, reply) => {
    const status = `${Math.floor(reply.statusCode / 100)}xx`
    const route = url === undefined ? { method: 'any', route: 'none' } : { method, route: url }
    metrics.observe('hgsca_http_requests_seconds', { ...route, status }, reply.elapsedTime / 1_000)
  })
  app.server.on('drop', () => metrics.count('hgsca_connections_refused_total', {}))
}

/** What is counted elsewhere. */
export interface Counted {
  readonly ordersInFlight: () => number
  /** Lines of the log, so far. */
  readonly linesDropped: () => number
  /** What clients connect to. */
  readonly listeners: readonly FastifyInstance[]
}

export function metricsRoute(
  server: FastifyInstance,
  ca: CertificationAuthority,
  { ordersInFlight, linesDropped, listeners }: Counted,
): void {
  const app = server.withTypeProvider<TypeBoxTypeProvider>()
  const { metrics, store } = ca
  const figures = figuresOf(ca)
  const secondsSince = (date: Date) => (ca.now().getTime() - date.getTime()) / 1_000
  const daysUntil = (date: Date) => (date.getTime() - ca.now().getTime()) / day

  async function lookUp(): Promise<void> {
    metrics.show('hgsca_orders_in_flight', {}, ordersInFlight())
    metrics.countedSoFar('hgsca_log_lines_dropped_total', {}, linesDropped())
    const issue = issuing(ca).map(({ record }) => record.id)
    for (const { record } of ca.loaded) {
      const does = issue.includes(record.id) ? 'yes' : 'no'
      for (const issues of ['yes', 'no'] as const)
        // a rollover changes it
        metrics.show(
          'hgsca_authority_expiry_days',
          { authority: record.id, issues },
          issues === does ? daysUntil(record.notAfter) : null,
        )
    }
    const listsEnd = ca.revocations.listsEnd()
    metrics.show('hgsca_revocation_list_expiry_hours', {}, listsEnd && daysUntil(listsEnd) * 24)
    const aboveEnd = ca.revocations.listsAboveEnd()
    metrics.show('hgsca_root_revocation_list_expiry_days', {}, aboveEnd && daysUntil(aboveEnd))
    metrics.show('hgsca_database_writes_waiting', {}, store.writesWaiting())
    const { checkpointLag: lag, verified } = store.auditState()
    metrics.show('hgsca_audit_checkpoint_lag_events', {}, lag && lag.events)
    metrics.show('hgsca_audit_checkpoint_lag_seconds', {}, lag && lag.seconds)
    metrics.show('hgsca_audit_damages', {}, verified.damage.length)
    metrics.show('hgsca_audit_verified_age_seconds', {}, verified.at && secondsSince(verified.at))
    const found = await figures()
    metrics.show('hgsca_database_up', {}, found === null ? 0 : 1)
    metrics.show('hgsca_database_latency_seconds', {}, found && found.latencySeconds)
    if (found === null) return // what was known of the record last still stands
    metrics.show('hgsca_audit_head_sequence', {}, found.auditHead)
    metrics.show('hgsca_requests_pending', {}, found.requestsPending)
    for (const [purpose, notAfter] of found.expiries)
      metrics.show('hgsca_certificate_soonest_expiry_days', { purpose }, notAfter && daysUntil(notAfter))
  }

  app.get(
    '/metrics',
    {
      config: { permission: 'metrics.read' },
      schema: {
        operationId: 'readMetrics',
        tags: ['health'],
        summary: 'Read the metrics',
        description:
          'In the text format of Prometheus. docs/metrics.md names each. Answered also while the record is away (hgsca_database_up 0), to whoever read them before.',
        response: {
          200: {
            description: 'The metrics.',
            content: { 'text/plain': { schema: { type: 'string' } } },
          },
          ...problems(401, 403, 503),
        },
      },
    },
    async (_request, reply) => {
      const connections = listeners.map(
        ({ server }) =>
          new Promise<number>((resolve) => server.getConnections((_error, count) => resolve(count ?? 0))),
      )
      const open = await Promise.all(connections)
      metrics.show(
        'hgsca_connections',
        {},
        open.reduce((sum, count) => sum + count),
      )
      await lookUp()
      return reply
        .header('content-type', 'text/plain; version=0.0.4; charset=utf-8')
        .serializer((payload: unknown) => payload as string)
        .send(await metrics.text())
    },
  )
}

/**
 * What this service measures, for Prometheus. The table names every metric; code and docs/metrics.md
 * walk it. A metric that is not in it cannot be counted, and a label has values of ours only: nothing
 * that a client wrote, and no identity.
 *
 * Each server has a registry of its own, since several may run in one process.
 */
import { collectDefaultMetrics, Counter, Gauge, Histogram, Registry } from 'prom-client'

interface Row {
  readonly type: 'counter' | 'gauge' | 'histogram'
  readonly labels: readonly string[]
  readonly help: string
}

/** In seconds: a signature takes milliseconds, an order with a key made here seconds. */
const buckets = [0.005, 0.02, 0.05, 0.1, 0.25, 1, 5, 20]

export const table = {
  hgsca_build_info: {
    type: 'gauge',
    labels: ['version', 'node'],
    help: 'Always 1; the labels say what runs.',
  },

  hgsca_certificates_issued_total: {
    type: 'counter',
    labels: ['purpose'],
    help: 'First certificates of a key that were signed and recorded here.',
  },
  hgsca_certificates_renewed_total: {
    type: 'counter',
    labels: ['purpose'],
    help: 'Renewals, over the same key, that were signed and recorded here.',
  },
  hgsca_refusals_total: {
    type: 'counter',
    labels: ['code'],
    help: 'Orders that were refused for what they asked, by the code of the problem.',
  },
  hgsca_rules_broken_total: {
    type: 'counter',
    labels: ['rule'],
    help: 'Rules of the HGS profile that refused orders broke; one order may break several.',
  },
  hgsca_certificate_soonest_expiry_days: {
    type: 'gauge',
    labels: ['purpose'],
    help: 'Days until the first certificate expires that is neither superseded, revoked nor expired.',
  },
  hgsca_authority_expiry_days: {
    type: 'gauge',
    labels: ['authority', 'issues'],
    help: 'Days until the certificate of a loaded authority expires. Below 7, it issues nothing any more. Issues: yes or no.',
  },

  hgsca_certificates_revoked_total: {
    type: 'counter',
    labels: ['reason'],
    help: 'Certificates that were revoked here, by CRLReason. Holds do not count.',
  },
  hgsca_revocation_list_expiry_hours: {
    type: 'gauge',
    labels: [],
    help: 'Hours until the first revocation list in force ends. A list is for 168 hours, and made anew every 24.',
  },
  hgsca_root_revocation_list_expiry_days: {
    type: 'gauge',
    labels: [],
    help: 'Days until the first revocation list of a root ends. It is for a year: hgs-ca ca sign-list signs the next.',
  },

  hgsca_signatures_seconds: {
    type: 'histogram',
    labels: ['outcome'],
    help: 'Signatures with the key of the authority: how many, and how long each took. Outcome: success or failure.',
  },
  hgsca_keys_in_making: { type: 'gauge', labels: [], help: 'Private keys that are being made.' },
  hgsca_keys_waiting: {
    type: 'gauge',
    labels: [],
    help: 'Orders that wait for their private key to be made.',
  },
  hgsca_keys_refused_total: {
    type: 'counter',
    labels: [],
    help: 'Orders that got no private key, because too many waited or the wait was too long.',
  },
  hgsca_orders_in_flight: {
    type: 'gauge',
    labels: [],
    help: 'Orders that are being carried out: whatever signs, or opens or makes a PFX.',
  },
  hgsca_orders_refused_busy_total: {
    type: 'counter',
    labels: [],
    help: 'Orders that were refused because too many were in flight.',
  },
  hgsca_requests_pending: { type: 'gauge', labels: [], help: 'Requests that wait for an approver.' },
  hgsca_rate_limited_total: {
    type: 'counter',
    labels: ['limit'],
    help: 'Requests answered with 429. Limit: identity, or address for failed authentications.',
  },

  hgsca_http_requests_seconds: {
    type: 'histogram',
    labels: ['method', 'route', 'status'],
    help: 'Requests: how many, and how long each took. Route is the template, or none; status is the class, as 2xx.',
  },
  hgsca_connections: { type: 'gauge', labels: [], help: 'Open connections of clients.' },
  hgsca_connections_refused_total: {
    type: 'counter',
    labels: [],
    help: 'Connections that were closed at once, because too many were open.',
  },

  hgsca_database_up: {
    type: 'gauge',
    labels: [],
    help: '1 when the record can be read and written, 0 when not, at most 10 seconds ago.',
  },
  hgsca_database_latency_seconds: {
    type: 'gauge',
    labels: [],
    help: 'How long the record took to answer one read and one write.',
  },
  hgsca_database_writes_waiting: { type: 'gauge', labels: [], help: 'Writes that wait for their turn.' },
  hgsca_audit_head_sequence: { type: 'gauge', labels: [], help: 'The number of the last audit event.' },
  hgsca_audit_checkpoint_lag_events: {
    type: 'gauge',
    labels: [],
    help: 'Audit events of this process that no checkpoint covers. Only where checkpoints are written.',
  },
  hgsca_audit_checkpoint_lag_seconds: {
    type: 'gauge',
    labels: [],
    help: 'How long the first of them has waited; more than 60 says that checkpoints cannot be written.',
  },
  hgsca_audit_damages: {
    type: 'gauge',
    labels: [],
    help: 'What is wrong with the audit trail and not accepted. Nothing is issued while it is above 0.',
  },
  hgsca_audit_verified_age_seconds: {
    type: 'gauge',
    labels: [],
    help: 'How long ago the audit trail was verified here; more than two hours says that it cannot be.',
  },

  hgsca_log_lines_dropped_total: {
    type: 'counter',
    labels: [],
    help: 'Lines of the log that nobody took and that found no room to wait.',
  },
} as const satisfies Readonly<Record<`hgsca_${string}`, Row>>

/** What prom-client tells of Node and the process, the delay of the event loop among it. */
export const ofProcess = [
  'process_cpu_user_seconds_total',
  'process_cpu_system_seconds_total',
  'process_cpu_seconds_total',
  'process_start_time_seconds',
  'process_resident_memory_bytes',
  'process_virtual_memory_bytes',
  'process_heap_bytes',
  'process_open_fds',
  'process_max_fds',
  'nodejs_eventloop_lag_seconds',
  'nodejs_eventloop_lag_min_seconds',
  'nodejs_eventloop_lag_max_seconds',
  'nodejs_eventloop_lag_mean_seconds',
  'nodejs_eventloop_lag_stddev_seconds',
  'nodejs_eventloop_lag_p50_seconds',
  'nodejs_eventloop_lag_p90_seconds',
  'nodejs_eventloop_lag_p99_seconds',
  'nodejs_active_resources',
  'nodejs_active_resources_total',
  'nodejs_active_handles',
  'nodejs_active_handles_total',
  'nodejs_active_requests',
  'nodejs_active_requests_total',
  'nodejs_heap_size_total_bytes',
  'nodejs_heap_size_used_bytes',
  'nodejs_external_memory_bytes',
  'nodejs_heap_space_size_total_bytes',
  'nodejs_heap_space_size_used_bytes',
  'nodejs_heap_space_size_available_bytes',
  'nodejs_version_info',
  'nodejs_gc_duration_seconds',
] as const

type Table = typeof table
export type MetricName = keyof Table
type Of<Type extends Row['type']> = {
  [Name in MetricName]: Table[Name]['type'] extends Type ? Name : never
}[MetricName]
type Labels<Name extends MetricName> = { readonly [Label in Table[Name]['labels'][number]]: string }

export interface Metrics {
  /** @param amount - what is added; one when left out. */
  readonly count: <Name extends Of<'counter'>>(name: Name, labels: Labels<Name>, amount?: number) => void
  /** Takes over what is counted elsewhere. */
  readonly countedSoFar: <Name extends Of<'counter'>>(name: Name, labels: Labels<Name>, total: number) => void
  readonly observe: <Name extends Of<'histogram'>>(name: Name, labels: Labels<Name>, seconds: number) => void
  /** Null for what is not known: then there is no such line. */
  readonly show: <Name extends Of<'gauge'>>(name: Name, labels: Labels<Name>, value: number | null) => void
  /** The text format of Prometheus, 0.0.4. */
  readonly text: () => Promise<string>
}

/** @param options.watchProcess - whether what prom-client tells of Node and the process is among them. */
export function makeMetrics(options: { readonly version: string; readonly watchProcess: boolean }): Metrics {
  const registry = new Registry()
  if (options.watchProcess) collectDefaultMetrics({ register: registry })
  const counters = new Map<string, Counter>()
  const gauges = new Map<string, Gauge>()
  const histograms = new Map<string, Histogram>()
  for (const [name, { type, labels, help }] of Object.entries(table)) {
    const about = { name, help, labelNames: [...labels], registers: [registry] }
    if (type === 'counter') counters.set(name, new Counter(about))
    else if (type === 'gauge') gauges.set(name, new Gauge(about))
    else histograms.set(name, new Histogram({ ...about, buckets }))
    if (type === 'gauge') gauges.get(name)!.reset() // prom-client begins with 0, which nobody has measured
    if (type === 'gauge' && labels.length === 0) gauges.get(name)!.remove()
  }
  const metrics: Metrics = {
    count: (name, labels, amount = 1) => counters.get(name)!.inc(labels, amount),
    countedSoFar(name, labels, total) {
      const counter = counters.get(name)!
      counter.remove(labels)
      counter.inc(labels, total)
    },
    observe: (name, labels, seconds) => histograms.get(name)!.observe(labels, seconds),
    show(name, labels, value) {
      if (value === null) gauges.get(name)!.remove(labels)
      else gauges.get(name)!.set(labels, value)
    },
    text: () => registry.metrics(),
  }
  metrics.show('hgsca_build_info', { version: options.version, node: process.version }, 1)
  return metrics
}

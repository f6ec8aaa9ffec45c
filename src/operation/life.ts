/** The life of an instance, as events of the audit trail: with what it started, and that it ended. */
import { createHash } from 'node:crypto'
import { hostname } from 'node:os'
import type { Issuer } from '../authority/authority.ts'
import { chosen } from '../authority/cycle.ts'
import type { Config } from '../config.ts'
import { bySystem } from '../events.ts'
import { profiles } from '../hgs/profiles.ts'
import { lastMigration } from '../store/migrate.ts'
import type { NewAuditEvent } from '../store/model.ts'
import type { Store } from '../store/open.ts'

const digest = (value: unknown): string =>
  createHash('sha256').update(JSON.stringify(value)).digest('hex').toUpperCase()

/** What stands in the event, as far as the next start looks at it. */
interface Told {
  readonly configuration?: string
  readonly profiles?: string
  readonly settings?: Readonly<Record<string, string>>
  /** The id of the one that issued then. */
  readonly authority?: string
}

/** What the start before has told, of whichever instance; null before the first. */
export const lastStart = async (store: Store): Promise<Told | null> =>
  (await store.lastEvent('service.started')) as Told | null

/** With what it starts, and what differs from the start before. Of a secret it says that it is set. */
export function started(
  {
    before,
    config,
    issuer,
    version,
    migrated,
  }: {
    readonly before: Told | null
    readonly config: Config
    readonly issuer: Issuer
    readonly version: string
    readonly migrated: readonly string[]
  },
  at: Date,
): NewAuditEvent {
  const settings = config.fingerprints
  const inForce = digest(Object.values(profiles).map((profile) => chosen(config, profile)))
  const earlier = before?.settings ?? {}
  const changed = [...new Set([...Object.keys(settings), ...Object.keys(earlier)])]
    .filter((name) => settings[name] !== earlier[name])
    .toSorted()
  const configuration = digest(settings)
  return {
    ...bySystem,
    at,
    type: 'service.started',
    outcome: 'success',
    objectId: null,
    details: {
      version,
      node: process.versions.node,
      host: hostname(),
      mode: config.mode,
      configuration,
      settings,
      ...(before !== null && configuration !== before.configuration && { changed }),
      profiles: inForce,
      ...(before !== null && inForce !== before.profiles && { before: before.profiles ?? null }),
      authority: issuer.record.id,
      escrowKeyIds: config.escrow?.keyIds ?? [],
      migration: lastMigration(config.databaseUrl),
      migrated,
    },
  }
}

export const stopped = (exitCode: number, at: Date): NewAuditEvent => ({
  ...bySystem,
  at,
  type: 'service.stopped',
  outcome: exitCode === 0 ? 'success' : 'failure',
  objectId: null,
  details: { exitCode, host: hostname() },
})

export const keyLoaded = ({ record, publicKeyPin }: Issuer, at: Date): NewAuditEvent => ({
  ...bySystem,
  at,
  type: 'authority.keyLoaded',
  outcome: 'success',
  objectId: record.id,
  details: { subject: record.subject, publicKeyPin, notAfter: record.notAfter },
})

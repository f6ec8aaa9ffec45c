#!/usr/bin/env node
/**
 * `hgs-ca`: what is done on the host, by whoever may read the configuration of the service.
 *
 * It reads the same environment variables. A new API key is the only thing it ever prints that is secret.
 */
import { once } from 'node:events'
import { existsSync } from 'node:fs'
import { parseArgs } from 'node:util'
import { makeApiKey, roles } from './authority/apiKey.ts'
import { resealEscrow, verifyEscrow } from './authority/drill.ts'
import { backUp, howToRestore, verifyBackup } from './operation/backup.ts'
import { checkAndTell } from './operation/check.ts'
import { diagnose, tellFindings } from './operation/doctor.ts'
import { ConfigError, processEnvironment, readConfig, type Config } from './config.ts'
import { describeScope, scopeFaults } from './authority/scope.ts'
import { purposes, type Purpose } from './hgs/profiles.ts'
import type { Role, Scope } from './store/model.ts'
import type { EventType } from './events.ts'
import { auditKeyOf, recordOf } from './lab.ts'
import { migrate, MigrationError } from './store/migrate.ts'
import type { Store } from './store/open.ts'
import { checkpointKeyUnder } from './store/signature.ts'
import { damages, toldAtMost, type Damage } from './store/verifyAudit.ts'

const usage = `Usage:
  hgs-ca api-key create --owner NAME [options]   make a key, and print it once
  hgs-ca api-key list                            all keys, without their secrets
  hgs-ca api-key revoke ID                       make a key useless at once
  hgs-ca escrow verify                           open every key in escrow, compare it with the record, show none
  hgs-ca escrow reseal                           seal the keys of HGSCA_ESCROW_PREVIOUS_KEY under HGSCA_ESCROW_KEY
  hgs-ca check                                   read every certificate again, and hold the record against itself
  hgs-ca backup FILE                             copy the record to a new file, while the service runs (SQLite)
  hgs-ca restore --verify FILE                   see whether a backup is whole and well
  hgs-ca doctor [--json]                         look for what is wrong: 0 all well, 1 warnings, 2 errors
  hgs-ca audit verify                            read the whole audit trail, and say whether it is the one that was written
  hgs-ca audit export                            print the whole audit trail, a line of JSON for each event (docs/verify-audit.py reads it)
  hgs-ca audit public-key                        print the key that checkpoints are verified with, for whoever audits
  hgs-ca audit accept-rollback                   go on with a record that is older than its last checkpoint, such as a restored backup
  hgs-ca audit accept-damage --reason TEXT       go on with a trail that is damaged, as audit verify tells it
  hgs-ca audit accept-clock --reason TEXT        go on with a clock that stands before what is on record
  hgs-ca migrate                                 bring the database to this version, as its owner (prisma/postgresql/grants.sql)

Options of api-key create:
  --role ROLE            ${roles.join(', ')}; requester when left out
  --days N               1 to 365; 90 when left out
  --everything           no bounds; otherwise the key may ask for and see what these name, each as often as needed:
  --purpose PURPOSE      ${purposes.join(', ')}
  --organization NAME    a value of O in the subject
  --name HOST            a host name, or .contoso.com for all below contoso.com
  --lineage ID           a lineage that it may see and renew, whatever its names
  --keys-from FROM       request, service: its own keys, or keys made here (PFX)
  --validity-days N      the longest validity

The configuration is that of the service: environment variables HGSCA_...
`

const actor = `the host (user ${process.getuid?.() ?? 'unknown'})`
const silent = { info: () => {}, warn: () => {}, error: () => {} }

async function run(arguments_: string[]): Promise<number> {
  const { values, positionals } = parseArgs({
    args: arguments_,
    allowPositionals: true,
    options: {
      owner: { type: 'string' },
      role: { type: 'string', default: 'requester' },
      days: { type: 'string', default: '90' },
      everything: { type: 'boolean', default: false },
      purpose: { type: 'string', multiple: true, default: [] },
      organization: { type: 'string', multiple: true, default: [] },
      name: { type: 'string', multiple: true, default: [] },
      lineage: { type: 'string', multiple: true, default: [] },
      'keys-from': { type: 'string', multiple: true, default: [] },
      'validity-days': { type: 'string' },
      json: { type: 'boolean', default: false },
      verify: { type: 'boolean', default: false },
      reason: { type: 'string' },
      help: { type: 'boolean', short: 'h' },
    },
  })
  const [noun, verb, id] = positionals
  if (values.help === true) return tell(usage, 0)
  const words = {
    'api-key': verb === 'revoke' ? 3 : 2,
    escrow: 2,
    audit: 2,
    check: 1,
    doctor: 1,
    migrate: 1,
    backup: 2,
    restore: 2,
  }
  if (noun === undefined || !Object.hasOwn(words, noun)) return tell(usage, 64)
  const surplus = positionals.slice(words[noun as keyof typeof words])
  if (surplus.length > 0) return tell(`What is meant by ${surplus.join(' ')}?\n${usage}`, 64)

  if (noun === 'doctor')
    return tellFindings(await diagnose(processEnvironment(), new Date()), values.json, process)
  if (noun === 'check') return withStore((store) => checkAndTell(store, actor, process))
  if (noun === 'backup' || noun === 'restore') {
    if (verb === undefined) return tell(`Which file?\n${usage}`, 64)
    if (noun === 'backup') return backUp(readConfig(processEnvironment()), verb, actor, process)
    return values.verify ? verifyBackup(verb, actor, process, configIfAny()) : tell(howToRestore, 64)
  }
  if (noun === 'migrate') return migrateRecord()
  if (noun === 'escrow') {
    if (verb === 'verify' || verb === 'reseal') return onEscrow(verb)
    return tell(usage, 64) // EX_USAGE
  }
  if (noun === 'audit') {
    if (verb === 'verify') return verifyAudit()
    if (verb === 'export') return exportAudit()
    if (verb === 'public-key') return showPublicKey()
    if (verb === 'accept-rollback') return acceptRollback()
    if (verb === 'accept-damage' || verb === 'accept-clock') {
      const reason = values.reason?.trim() ?? ''
      if (!/^[^\p{C}]{1,256}$/u.test(reason))
        return tell('--reason TEXT is needed: why, in 256 characters at most.\n', 64)
      return verb === 'accept-damage' ? acceptDamage(reason) : acceptClock(reason)
    }
    return tell(usage, 64)
  }
  switch (verb) {
    case 'create': {
      const { owner, role, days } = values
      const faults = [
        ...(owner === undefined || !/^[\p{L}\p{N} .@_-]{1,64}$/u.test(owner)
          ? [
              '--owner NAME is needed: who answers for the key, 64 letters, digits, spaces, dots, @, _ or - at most.',
            ]
          : []),
        ...(roles.includes(role as Role) ? [] : [`--role is one of ${roles.join(', ')}.`]),
        ...(/^\d{1,3}$/.test(days) && Number(days) >= 1 && Number(days) <= 365
          ? []
          : ['--days is a number from 1 to 365.']),
        ...faultsOfScope(values),
      ]
      if (faults.length > 0) return tell(`${faults.join('\n')}\n`, 64)
      return withStore(async (store) => {
        const now = new Date()
        const scope = scopeOf(values)
        const { text, record } = makeApiKey(
          { role: role as Role, scope, owner: owner!, where: 'key', days: Number(days) },
          now,
        )
        await store.createApiKey(
          record,
          event('apiKey.created', record.id, now, { role, scope, owner, expiresAt: record.expiresAt }),
        )
        process.stdout.write(`${text}\n`)
        return tell(
          `Role ${role}, owner ${owner}, until ${record.expiresAt.toISOString()}. It is shown this once.\nScope: ${describeScope(scope)}.\n`,
          0,
        )
      })
    }
    case 'list':
      return withStore(async (store) => {
        for (const key of await store.listApiKeys()) {
          const state =
            key.revokedAt !== null ? 'revoked' : key.expiresAt <= new Date() ? 'expired' : 'active'
          process.stdout.write(
            `${key.id}  ${state.padEnd(7)}  ${key.role.padEnd(9)}  until ${key.expiresAt.toISOString()}  ${key.owner}  (${describeScope(key.scope)})\n`,
          )
        }
        return 0
      })
    case 'revoke':
      if (id === undefined) return tell('Which key? hgs-ca api-key list shows the ids.\n', 64)
      return withStore(async (store) => {
        const now = new Date()
        const revoked = await store.revokeApiKey(id, now, event('apiKey.revoked', id, now, {}))
        return revoked ? tell(`${id} is revoked.\n`, 0) : tell(`There is no active key ${id}.\n`, 1)
      })
    default:
      return tell(usage, 64) // EX_USAGE
  }
}

/** The options of `api-key create` that bound a key. */
interface Bounds {
  readonly role: string
  readonly everything: boolean
  readonly purpose: readonly string[]
  readonly organization: readonly string[]
  readonly name: readonly string[]
  readonly lineage: readonly string[]
  readonly 'keys-from': readonly string[]
  readonly 'validity-days'?: string | undefined
}

/** Who audits or administers issues nothing, and sees all unless it is bounded. */
const seesAll = ({ role }: Bounds): boolean => role === 'auditor' || role === 'admin'

const isBounded = ({ purpose, organization, name, lineage, ...bounds }: Bounds): boolean =>
  bounds['validity-days'] !== undefined ||
  [purpose, organization, name, lineage, bounds['keys-from']].some((values) => values.length > 0)

function scopeOf(bounds: Bounds): Scope {
  if (bounds.everything || (seesAll(bounds) && !isBounded(bounds))) return 'everything'
  const days = bounds['validity-days']
  return {
    purposes: bounds.purpose as Purpose[],
    organizations: bounds.organization,
    names: bounds.name.map((name) => name.toLowerCase()),
    lineages: bounds.lineage.map((id) => id.toLowerCase()),
    keys: bounds['keys-from'] as ('request' | 'service')[],
    validityDays: days === undefined ? null : Number(days),
  }
}

function faultsOfScope(bounds: Bounds): string[] {
  const scope = scopeOf(bounds)
  const days = bounds['validity-days']
  if (scope === 'everything')
    return isBounded(bounds) ? ['--everything has no bounds: leave the others out.'] : []
  return [
    ...(isBounded(bounds)
      ? []
      : ['A key with an empty scope may do nothing: name its bounds, or say --everything.']),
    ...scopeFaults(scope),
    ...(days === undefined || /^[1-9]\d{0,3}$/.test(days)
      ? []
      : ['--validity-days is a number from 1 to 9999.']),
  ]
}

/** Prints a line for each key that fails, then how many did not. */
function onEscrow(verb: 'verify' | 'reseal'): Promise<number> {
  return withStore(async (store, { escrow }) => {
    if (escrow === null) return tell('There is no escrow key. Name its file in HGSCA_ESCROW_KEY_FILE.\n', 78)
    const keeper = { store, escrow, now: () => new Date(), actor }
    const act = verb === 'verify' ? verifyEscrow : resealEscrow
    const { keys, failures, written } = await act(keeper, ({ lineageId, why }) =>
      process.stdout.write(`${lineageId}  ${why}\n`),
    )
    const well =
      verb === 'verify'
        ? 'open and are the keys on record'
        : `are sealed under ${escrow.keyId}, ${written} of them by this`
    const told = `${keys} keys in escrow: ${keys - failures} ${well}, ${failures} fail.\n`
    return tell(told, failures === 0 ? 0 : 1)
  })
}

/** Prints a line for each damage, the first first, then what was looked at. That it was looked at is an event too. */
function verifyAudit(): Promise<number> {
  return withStore(async (store) => {
    const { damage, accepted, events, certificates, checkpoints, head } = await store.verifyAudit()
    printDamage(damage)
    const [first] = damage
    const told = { events, certificates, checkpoints, hash: head.hash, ...(first && { first }) }
    await store
      .recordEvent({
        ...event('audit.verified', null, new Date(), told),
        outcome: first === undefined ? 'success' : 'failure',
      })
      .catch((error: unknown) => tell(`It could not be recorded: ${(error as Error).message}\n`, 1))
    const counted = `${events} events, ${certificates} certificates and ${checkpoints} checkpoints`
    tell(`SHA-256 of the key that checkpoints are verified with: ${store.auditPublicKey.fingerprint}\n`, 0)
    if (first !== undefined)
      return tell(`${counted}: the audit trail is damaged, first by ${first.kind}.\n`, 1)
    const but = accepted === 0 ? '' : `, but for ${accepted} damages that were accepted on the host`
    return tell(`${counted}: the audit trail is the one that was written${but}. Its end: ${head.hash}\n`, 0)
  })
}

function printDamage(damage: readonly Damage[]): void {
  for (const { kind, sequence, detail } of damage)
    process.stdout.write(
      `${sequence === null ? '' : `event ${sequence}  `}${kind}  ${damages[kind]} (${detail})\n`,
    )
}

/** Makes the trail as it is the one that counts. What is accepted stands in the event. */
function acceptDamage(reason: string): Promise<number> {
  return withStore(async (store) => {
    if (store.saidByLastCheckpoint !== null)
      return tell(
        'The record is older than its last checkpoint: hgs-ca audit accept-rollback comes first.\n',
        1,
      )
    const { damage } = await store.verifyAudit()
    if (damage.length === 0) return tell('The audit trail is not damaged.\n', 1)
    printDamage(damage)
    if (damage.length >= toldAtMost)
      return tell('That is too much to be accepted. Restore the record from a backup.\n', 1)
    await store.recordEvent(event('audit.damageAccepted', null, new Date(), { reason, damage }))
    return tell(
      `Accepted: ${damage.length}. The service goes on within a minute, or when it is started.\n`,
      0,
    )
  })
}

/** Says that the clock is right, although later times are on record. */
function acceptClock(reason: string): Promise<number> {
  return withStore(async (store) => {
    const latest = await store.latestMoment()
    const now = new Date()
    if (latest === null || latest.at <= now) return tell('Nothing on record is later than now.\n', 1)
    await store.recordEvent(event('clock.accepted', null, now, { reason, latest: latest.at }))
    return tell(`It is ${now.toISOString()}, although ${latest.at.toISOString()} is on record.\n`, 0)
  })
}

/** It is derived from the audit key, so there need be no record. */
async function showPublicKey(): Promise<number> {
  const { pem, fingerprint } = checkpointKeyUnder(
    await auditKeyOf(readConfig(processEnvironment())),
  ).publicKey
  process.stdout.write(pem)
  return tell(`SHA-256: ${fingerprint}\n`, 0)
}

/** A copy can be tried where nothing is configured. */
function configIfAny(): Config | null {
  try {
    return readConfig(processEnvironment())
  } catch (error) {
    if (error instanceof ConfigError) return null
    throw error
  }
}

/** For a service whose role may not change the tables. */
async function migrateRecord(): Promise<number> {
  const { databaseUrl } = readConfig(processEnvironment())
  const applied = await migrate(databaseUrl, { log: silent })
  return tell(applied.length === 0 ? 'Nothing is missing.\n' : `Applied: ${applied.join(', ')}.\n`, 0)
}

/** That it was taken out is an event too, and the last one in it. */
function exportAudit(): Promise<number> {
  return withStore(async (store) => {
    await store.recordEvent(event('audit.exported', null, new Date(), {}))
    for await (const line of store.auditLines())
      if (!process.stdout.write(line)) await once(process.stdout, 'drain')
    return 0
  })
}

/** Leaves the checkpoints behind that say that the record was further once. */
function acceptRollback(): Promise<number> {
  return withStore(async (store) => {
    const said = store.saidByLastCheckpoint
    if (said === null) return tell('No checkpoint speaks against this record.\n', 1)
    await store.acceptRollback(event('audit.rollbackAccepted', null, new Date(), { ...said }))
    return tell(`The record is accepted as it is, although ${said.detail}.\n`, 0)
  })
}

async function withStore(act: (store: Store, config: Config) => Promise<number>): Promise<number> {
  const config = readConfig(processEnvironment())
  const { mode, databaseUrl } = config
  const path = databaseUrl.replace(/^file:/, '')
  if (mode === 'lab' && !existsSync(path))
    return tell(`There is no record at ${path} yet: the service makes it when it starts.\n`, 78)
  await migrate(databaseUrl, { log: silent })
  const store = await recordOf(config, { log: silent })
  try {
    return await act(store, config)
  } finally {
    await store.close()
  }
}

const event = (
  type: EventType,
  objectId: string | null,
  at: Date,
  details: Readonly<Record<string, unknown>>,
) => ({
  at,
  type,
  outcome: 'success' as const,
  actor,
  address: null,
  requestId: null,
  objectId,
  details,
})

function tell(text: string, code: number): number {
  process.stderr.write(text)
  return code
}

run(process.argv.slice(2)).then(
  (code) => (process.exitCode = code),
  (error: unknown) => {
    const { message, code } = error as NodeJS.ErrnoException
    if (code?.startsWith('ERR_PARSE_ARGS') === true) {
      process.exitCode = tell(`${message}\n${usage}`, 64)
    } else if (error instanceof ConfigError) {
      process.exitCode = tell(error.faults.map((fault) => `- ${fault}\n`).join(''), 78)
    } else {
      process.exitCode = tell(`${message}\n`, error instanceof MigrationError ? 78 : 1)
    }
  },
)

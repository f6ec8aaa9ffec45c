#!/usr/bin/env node
/**
 * `hgs-ca`: what is done on the host, by whoever may read the configuration of the service.
 *
 * It reads the same environment variables. A new API key is the only thing it ever prints that is secret.
 */
import { parseArgs } from 'node:util'
import { resealEscrow, verifyEscrow } from './authority/drill.ts'
import { bootstrap, bootstrapOptionsUsage, bootstrapUsage } from './cli/bootstrap.ts'
import { auditUsage, onAudit } from './cli/audit.ts'
import { caOptionsUsage, caUsage, onCa } from './cli/ca.ts'
import { actor, silent, tell, tellFailure, withStore } from './cli/host.ts'
import { identityOptions, identityOptionsUsage, identityUsage, onIdentities } from './cli/identities.ts'
import { ConfigError, processEnvironment, readConfig, type Config } from './config.ts'
import { backUp, howToRestore, verifyBackup } from './operation/backup.ts'
import { checkAndTell } from './operation/check.ts'
import { diagnose, tellFindings } from './operation/doctor.ts'
import { migrate } from './store/migrate.ts'

const usage = `Usage:${caUsage}${bootstrapUsage}${identityUsage}
  hgs-ca escrow verify                           open every key in escrow, compare it with the record, show none
  hgs-ca escrow reseal                           seal the keys of HGSCA_ESCROW_PREVIOUS_KEY under HGSCA_ESCROW_KEY
  hgs-ca check                                   read every certificate again, and hold the record against itself
  hgs-ca backup FILE                             copy the record to a new file, while the service runs (SQLite)
  hgs-ca restore --verify FILE                   see whether a backup is whole and well
  hgs-ca doctor [--json]                         look for what is wrong: 0 all well, 1 warnings, 2 errors${auditUsage}
  hgs-ca migrate                                 bring the database to this version, as its owner (prisma/postgresql/grants.sql)
${caOptionsUsage}${identityOptionsUsage}${bootstrapOptionsUsage}
The configuration is that of the service: environment variables HGSCA_...
`

async function run(arguments_: string[]): Promise<number> {
  if (arguments_[0] === 'ca') return (await onCa(arguments_.slice(1))) ?? tell(usage, 64)
  const { values, positionals } = parseArgs({
    args: arguments_,
    allowPositionals: true,
    options: {
      ...identityOptions,
      from: { type: 'string', multiple: true, default: [] },
      json: { type: 'boolean', default: false },
      verify: { type: 'boolean', default: false },
      reason: { type: 'string' },
      help: { type: 'boolean', short: 'h' },
    },
  })
  const [noun, verb, id] = positionals
  if (values.help === true) return tell(usage, 0)
  const words = {
    'api-key': verb === 'revoke' || verb === 'rotate' ? 3 : 2,
    identity: verb === 'revoke' || verb === 'rotate' ? 3 : 2,
    bootstrap: 1,
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
  if (noun === 'bootstrap') return bootstrap(values.from)
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
  if (noun === 'audit') return (await onAudit(verb, values.reason)) ?? tell(usage, 64)
  const only = noun === 'api-key' ? 'apiKey' : null
  return (await onIdentities(only, verb, id, values)) ?? tell(usage, 64) // EX_USAGE
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

run(process.argv.slice(2)).then(
  (code) => (process.exitCode = code),
  (error: unknown) => (process.exitCode = tellFailure(error, usage)),
)

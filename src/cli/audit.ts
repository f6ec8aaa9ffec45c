/** `hgs-ca audit`: the trail verified, taken out, and accepted as it is where that must be. */
import { once } from 'node:events'
import { processEnvironment, readConfig } from '../config.ts'
import { auditKeyOf } from '../lab.ts'
import { checkpointKeyUnder } from '../store/signature.ts'
import { damages, toldAtMost, type Damage } from '../store/verifyAudit.ts'
import { event, tell, withStore } from './host.ts'

export const auditUsage = `
  hgs-ca audit verify                            read the whole audit trail, and say whether it is the one that was written
  hgs-ca audit export                            print the whole audit trail, a line of JSON for each event (docs/verify-audit.py reads it)
  hgs-ca audit public-key                        print the key that checkpoints are verified with, for whoever audits
  hgs-ca audit accept-rollback                   go on with a record that is older than its last checkpoint, such as a restored backup
  hgs-ca audit accept-damage --reason TEXT       go on with a trail that is damaged, as audit verify tells it
  hgs-ca audit accept-clock --reason TEXT        go on with a clock that stands before what is on record`

/** @returns the exit code; null when there is no such verb. */
export async function onAudit(verb: string | undefined, given: string | undefined): Promise<number | null> {
  if (verb === 'verify') return verifyAudit()
  if (verb === 'export') return exportAudit()
  if (verb === 'public-key') return showPublicKey()
  if (verb === 'accept-rollback') return acceptRollback()
  if (verb !== 'accept-damage' && verb !== 'accept-clock') return null
  const reason = given?.trim() ?? ''
  if (!/^[^\p{C}]{1,256}$/u.test(reason))
    return tell('--reason TEXT is needed: why, in 256 characters at most.\n', 64)
  return verb === 'accept-damage' ? acceptDamage(reason) : acceptClock(reason)
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

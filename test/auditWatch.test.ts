/**
 * The audit trail verified beside the work: what is damaged while the service runs is found within one
 * interval, nothing is issued from then on, and a long trail holds nobody up.
 *
 * HGSCA_TEST_EVENTS says how long that trail is.
 */
import { createSecretKey, randomBytes } from 'node:crypto'
import { appendFileSync, copyFileSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import Sqlite from 'better-sqlite3'
import t, { type Test } from 'tap'
import { createDoor } from '../src/authority/turnedAway.ts'
import { watchAudit } from '../src/authority/watch.ts'
import { auditRow } from '../src/store/audit.ts'
import { chainUnder, noEvent, type LinkedEvent } from '../src/store/chain.ts'
import { migrate } from '../src/store/migrate.ts'
import type { NewAuditEvent } from '../src/store/model.ts'
import { openStore } from '../src/store/open.ts'
import { freshRequest, inProcess } from './support/inProcess.ts'
import { newFolder } from './support/service.ts'

const now = new Date('2026-11-25T10:00:00.123Z')
const mute = { info() {}, warn() {}, error() {} }
const auditKey = createSecretKey(randomBytes(32))
const event = (changes: Partial<NewAuditEvent> = {}): NewAuditEvent => ({
  ...{ at: now, type: 'record.checked', outcome: 'success', actor: 'guardian', address: '192.0.2.7' },
  ...{ requestId: 'req-1', objectId: null, details: { certificates: 1, lineages: 1, faults: 0 } },
  ...changes,
})

/** As the watch looks every hour, but often. */
const interval = 300

async function until(t: Test, what: string, holds: () => boolean | Promise<boolean>): Promise<void> {
  for (let n = 0; n < 600 && !(await holds()); n++) await sleep(50)
  t.ok(await holds(), what)
}

t.test('damage at run time', async (t) => {
  const service = await inProcess(t)
  const { store } = service.ca
  const order = () => ({
    purpose: 'signing',
    csr: Buffer.from(freshRequest()).toString('base64'),
    provider: 'Microsoft Software Key Storage Provider',
  })
  const issue = () => service.post('/v1/certificates', { body: order() })
  for (let n = 0; n < 3; n++) t.equal((await issue()).status, 201)
  const watch = await watchAudit(service.ca, interval)
  t.teardown(() => watch.stop())
  await until(
    t,
    'the whole was read once after the start',
    () => store.auditState().verified.wholeAt !== null,
  )
  t.match(store.auditState().verified, { damage: [] })
  const verifications = async () =>
    (await service.get('/v1/audit-events?type=audit.verified')).json.items as unknown[]
  await until(t, 'which is an event', async () => (await verifications()).length === 1)
  t.match(await verifications(), [{ outcome: 'success' }])

  const record = new Sqlite(`${service.folder}/hgs-ca.db`, { timeout: 5_000 })
  t.teardown(() => record.close())
  record.exec('DROP TRIGGER "AuditEvent_refuse_update"; DROP TRIGGER "AuditEvent_refuse_delete"')
  const damaged = () => store.auditState().verified.damage.length > 0

  await t.test('is found in an old event, and stops whatever would be issued', async (t) => {
    record.exec(`UPDATE "AuditEvent" SET "address" = '192.0.2.1' WHERE "sequence" = 4`)
    await until(t, 'within one interval', damaged)
    t.match(store.auditState().verified.damage, [{ kind: 'edit', sequence: 4 }])
    t.match(await issue(), { status: 503, json: { code: 'auditDamaged' } })
    const [one] = (await service.get('/v1/certificates')).json.items as { id: string }[]
    t.match(await service.post(`/v1/certificates/${one!.id}/renewals`, { body: {} }), { status: 503 })
    await until(t, 'not ready', async () => (await service.get('/readyz', { as: null })).status === 503)
    t.ok(
      service.log.some((line) => /"level":50/.test(line) && /The audit trail is damaged/.test(line)),
      'an error in the log',
    )
    const { json } = await service.get('/v1/audit-events?type=audit.damaged')
    t.match(json.items, [{ outcome: 'failure', details: { first: { kind: 'edit', sequence: 4 } } }])
  })

  await t.test('goes on once it was accepted, and another one is found again', async (t) => {
    const { damage } = await store.verifyAudit()
    await store.recordEvent(
      event({
        ...{ at: service.clock.now, type: 'audit.damageAccepted', details: { reason: 'a test', damage } },
      }),
    )
    await until(t, 'it goes on', () => !damaged())
    t.equal((await issue()).status, 201)
    t.match(await store.verifyAudit(), { damage: [], accepted: 1 })
    record.exec(`UPDATE "AuditEvent" SET "address" = '192.0.2.2' WHERE "sequence" = 4`)
    await until(t, 'in the same place', damaged)
    t.equal((await issue()).status, 503)
    record.exec(`UPDATE "AuditEvent" SET "address" = '192.0.2.1' WHERE "sequence" = 4`)
    await until(t, 'and mended', () => !damaged())
  })

  await t.test('is found where the end was cut off, although events have followed since', async (t) => {
    record.exec('DELETE FROM "AuditEvent" WHERE "sequence" >= (SELECT max("sequence") - 2 FROM "AuditEvent")')
    await until(t, 'within one interval', damaged)
    t.match(store.auditState().verified.damage[0]?.kind, /truncation|fork|certificateWithoutEvent/)
    t.equal((await issue()).status, 503)
  })
})

t.test('a checkpoint is never published that goes back or forks', async (t) => {
  const folder = newFolder(t)
  const [path, checkpointPath] = [join(folder, 'record.db'), join(folder, 'checkpoints.jsonl')]
  await migrate(`file:${path}`)
  const open = () => openStore(`file:${path}`, { log: mute, auditKey, checkpointPath })
  const first = await open()
  for (let n = 0; n < 120; n++) await first.recordEvent(event())
  t.match(first.auditState(), { head: { sequence: 120 }, lastCheckpoint: { sequence: 100 } })
  await first.close()
  copyFileSync(path, join(folder, 'other.db'))

  const store = await open()
  await store.recordEvent(event())
  // A peer publishes what this record does not hold.
  const other = await openStore(`file:${join(folder, 'other.db')}`, { log: mute, auditKey, checkpointPath })
  for (let n = 0; n < 3; n++) await other.recordEvent(event({ actor: 'another past' }))
  await other.close()
  const published = readFileSync(checkpointPath, 'utf8')
  for (let n = 0; n < 101; n++) await store.recordEvent(event())
  await until(t, 'it is damage', () => store.auditState().verified.damage.length > 0)
  t.match(store.auditState().verified.damage, [{ kind: 'fork', sequence: 123 }])
  await store.close()
  t.equal(readFileSync(checkpointPath, 'utf8'), published, 'and nothing more was published')
  appendFileSync(checkpointPath, '{"sequence":999,"hash":"00","at":"","abandons":5,"signature":"AAAA"}\n')
  const again = await open()
  t.match(again.saidByLastCheckpoint, { kind: 'fork', sequence: 123 }, 'a forged line abandons none')
  await again.close()
})

const length = Number(process.env['HGSCA_TEST_EVENTS'] ?? 20_000)

t.test(`a trail of ${length} events is verified in turns that hold nobody up`, async (t) => {
  const path = join(newFolder(t), 'record.db')
  await migrate(`file:${path}`)
  fill(path, length)
  const store = await openStore(`file:${path}`, { log: mute, auditKey })
  t.teardown(() => store.close())
  const begun = performance.now()
  await store.verifyAuditTail()
  t.comment(`the end in ${Math.round(performance.now() - begun)} ms`)

  // By the time of the processor, since others may have this machine as well.
  const turns: number[] = []
  let before = process.cpuUsage()
  let watching = true
  const look = () => {
    const { user, system } = process.cpuUsage(before)
    turns.push((user + system) / 1_000)
    before = process.cpuUsage()
    if (watching) setImmediate(look)
  }
  look()
  const began = performance.now()
  const round = await store.verifyAuditRound()
  watching = false
  t.match(round, { events: length, whole: true, damage: [] })
  turns.sort((a, b) => b - a)
  const longest = turns
    .slice(0, 4)
    .map((turn) => turn.toFixed(1))
    .join(', ')
  t.comment(`${Math.round(performance.now() - began)} ms, the longest turns ${longest} ms of processor time`)
  // The longest of all may be those in which the garbage of this whole test process was collected.
  t.ok(turns[3]! < 50, `of ${turns.length} turns, the longest: ${longest} ms`)
})

/** Events as the service writes them, with less ado. */
function fill(path: string, many: number): void {
  const record = new Sqlite(path)
  record.pragma('synchronous = OFF')
  const chain = chainUnder(auditKey)
  const columns = ['id', 'sequence', 'at', 'type', 'outcome', 'actor', 'address', 'requestId', 'objectId']
  const all = [...columns, 'details', 'previousHash', 'hash', 'mac'] as (keyof LinkedEvent)[]
  const statement = record.prepare(
    `INSERT INTO "AuditEvent" (${all.map((name) => `"${name}"`).join(', ')}) VALUES (${all.map(() => '?').join(', ')})`,
  )
  let head = noEvent
  record.exec('BEGIN')
  for (let n = 0; n < many; n += 1_000) {
    const linked = chain.link(
      head,
      Array.from({ length: Math.min(1_000, many - n) }, () => auditRow(event())),
    )
    for (const one of linked)
      statement.run(
        all.map((name) =>
          name === 'at' ? one.at.toISOString().replace('Z', '+00:00') : one[name],
        ) as string[],
      )
    head = linked.at(-1)!
  }
  record.exec('COMMIT')
  record.close()
}

t.test('ten thousand wrong keys make a handful of events', async (t) => {
  const path = join(newFolder(t), 'record.db')
  await migrate(`file:${path}`)
  const store = await openStore(`file:${path}`, { log: mute, auditKey })
  t.teardown(() => store.close())
  let monotonic = 0
  const door = createDoor({ store, now: () => now, log: mute }, () => monotonic)
  const wrong = (objectId: string | null, address = '192.0.2.7') =>
    door.tell({
      event: event({
        type: 'authentication.failed',
        address,
        objectId,
        details: { code: 'unauthenticated' },
      }),
      source: address,
      each: 1,
    })
  for (let n = 0; n < 10_000; n++) await wrong(`key ${n % 300}`)
  await wrong('another', '192.0.2.8')
  monotonic += 61_000
  await wrong('later')
  await door.flush()
  const { items } = await store.listAuditEvents({}, { limit: 50, after: 0 })
  t.match(
    items.map(({ address, objectId, details }) => [address, objectId, JSON.parse(details)]),
    [
      ['192.0.2.7', 'key 0', { code: 'unauthenticated' }],
      ['192.0.2.8', 'another', {}],
      ['192.0.2.7', null, { count: 9_999, keys: 100 }],
      ['192.0.2.7', 'later', {}],
    ],
  )
  t.equal(items.length, 4)
})

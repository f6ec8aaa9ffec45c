/**
 * What a service keeps its record and its log on: full, locked by somebody else, or only to be read.
 * Nothing is handed out that is not on record, what is there can be read, and the service goes on by
 * itself once there is room.
 *
 *     npx tap run --disable-coverage test/faults/storage.test.ts
 *
 * A disk is a small tmpfs, which only root may mount.
 */
import { closeSync, mkdirSync, openSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import Sqlite from 'better-sqlite3'
import t, { type Test } from 'tap'
import { estateOn, type Estate } from '../support/estate.ts'
import { straced } from '../support/faults.ts'
import { checkInvariants } from '../support/invariants.ts'
import {
  exchange,
  jsonMessage,
  requests,
  type Exchange,
  type Message,
  type Receipt,
  type Target,
} from '../support/load.ts'
import { startPostgres } from '../support/postgres.ts'
import { launchService, newFolder, startService } from '../support/service.ts'
import { run, withWitness } from '../support/witnesses.ts'

const pool = requests(16)
const order = (): Message => jsonMessage('/v1/certificates', { purpose: 'signing', csr: pool.next().value })

const statusOf = (reply: Exchange): number => (reply.outcome === 'answered' ? reply.status : 0)
const get = async (target: Target, path: string): Promise<number> =>
  statusOf(await exchange(target, { method: 'GET', path }))

/** Orders a certificate; a refusal must say when to come again. */
async function issue(t: Test, target: Target, receipts: Receipt[]): Promise<number> {
  const reply = await exchange(target, order())
  if (reply.outcome !== 'answered') return 0
  const body: unknown = JSON.parse(reply.body.toString('utf8'))
  if (reply.status === 201) receipts.push(body as Receipt)
  else {
    t.match(body, { code: 'storeUnavailable' })
    t.ok(reply.headers['retry-after'], 'says when to come again')
  }
  return reply.status
}

/** The look at the record is a second old at most. */
async function becomes(target: Target, status: number, limit = 15_000): Promise<boolean> {
  for (const end = Date.now() + limit; Date.now() < end; await sleep(100))
    if ((await get(target, '/readyz')) === status) return true
  return false
}

/** A disk of so many octets; null where none can be made. */
async function diskOf(t: Test, size: string): Promise<string | null> {
  const disk = join(newFolder(t), 'disk')
  mkdirSync(disk, { mode: 0o700 })
  const { status, text } = await run('mount', ['-t', 'tmpfs', '-o', `size=${size},mode=0700`, 'tmpfs', disk])
  if (status !== 0) {
    t.pass(`no disk can be made here: ${text}`, { skip: true })
    return null
  }
  t.teardown(() => run('umount', ['--lazy', disk]))
  return disk
}

function fill(t: Test, disk: string): string {
  const ballast = join(disk, 'ballast')
  try {
    for (;;) writeFileSync(ballast, Buffer.alloc(4_096), { flag: 'a' })
  } catch (error) {
    t.match(error, { code: 'ENOSPC' })
  }
  return ballast
}

t.jobs = 2

void t.test('the disk of the record is full', { buffered: true }, async (t) => {
  const disk = await diskOf(t, '6m')
  if (disk === null) return
  const service = await startService(t, { folder: newFolder(t), env: { HGSCA_DATA_DIR: disk } })
  const target = { url: service.url, apiKey: readFileSync(join(disk, 'lab-api-key'), 'utf8').trim() }
  const receipts: Receipt[] = []
  t.equal(await issue(t, target, receipts), 201)
  t.equal(await get(target, '/readyz'), 200)

  const ballast = fill(t, disk)
  let refused = 0
  for (let n = 0; n < 100 && refused < 5; n++) if ((await issue(t, target, receipts)) === 503) refused++ // the -wal has room at first
  t.equal(refused, 5, 'orders are refused')
  t.ok(await becomes(target, 503), 'not ready')
  t.equal(await get(target, '/v1/certificates'), 200, 'what is there can be read')
  rmSync(ballast)
  t.ok(await becomes(target, 200), 'ready again, without a new start')
  t.equal(await issue(t, target, receipts), 201)

  t.match(await service.stop(), { code: 0 })
  const record = new Sqlite(join(disk, 'hgs-ca.db'), { readonly: true })
  const rows = record
    .prepare<[], { id: string; serialNumber: string }>('SELECT id, serialNumber FROM Certificate')
    .all()
  t.match(record.pragma('integrity_check'), [{ integrity_check: 'ok' }])
  record.close()
  const kept = new Map(rows.map(({ id, serialNumber }) => [id, serialNumber]))
  const lost = receipts.filter(({ id, serialNumber }) => kept.get(id) !== serialNumber)
  t.strictSame(lost, [], `all ${receipts.length} that were acknowledged are on record`)
})

void t.test('the disk of the log is full', { buffered: true }, async (t) => {
  const disk = await diskOf(t, '64k')
  if (disk === null) return
  const estate = await estateOn(t)
  const path = join(disk, 'log')
  const log = openSync(path, 'a')
  const env = { ...estate.env, HGSCA_PORT: '0', HGSCA_LOG_LEVEL: 'trace' }
  const service = launchService(t, estate.folder, env, log)
  const said = (): string[] => readFileSync(path, 'utf8').split('\n')
  let address: string | undefined
  while ((address = said().find((line) => line.endsWith('"msg":"listening"}'))) === undefined) await sleep(20)
  const { address: url } = JSON.parse(address) as { address: string }
  const target = { url, apiKey: estate.apiKey }
  const receipts: Receipt[] = []
  t.equal(await issue(t, target, receipts), 201)
  const ballast = fill(t, disk)
  for (let i = 0; i < 10; i++) t.equal(await issue(t, target, receipts), 201, 'it keeps issuing')
  t.equal(await get(target, '/readyz'), 200, 'and is ready: what must be remembered is in the record')

  const answered = () => said().filter((line) => line.includes('"route":"/v1/certificates"')).length
  rmSync(ballast)
  for (const end = Date.now() + 10_000; answered() < 11 && Date.now() < end;) await sleep(50)
  t.equal(answered(), 11, 'what waited is written once there is room')
  fill(t, disk)
  const signalled = performance.now()
  service.send('SIGTERM')
  t.match(await Promise.race([service.exited, sleep(15_000, 'still there', { ref: false })]), { code: 0 })
  const milliseconds = Math.round(performance.now() - signalled)
  t.ok(milliseconds < 10_000, `ends after ${milliseconds} ms`)
  closeSync(log)
  await checkInvariants(t, estate, { receipts })
})

void t.test('the record is locked by another process', { buffered: true }, async (t) => {
  const estate = await estateOn(t)
  const service = await estate.start({ watched: true })
  const target = { url: service.url, apiKey: estate.apiKey }
  const receipts: Receipt[] = []
  t.equal(await issue(t, target, receipts), 201)
  const other = new Sqlite(estate.recordFile) // a connection of this process: another one than the service
  other.exec('BEGIN EXCLUSIVE')
  // An attempt to get the lock takes 50 ms of the loop. What else holds it is the machine, and not each time.
  const stalls: number[] = []
  while (stalls.length === 0 || (stalls.length < 3 && Math.min(...stalls) > 100)) {
    await service.longestStall()
    const began = performance.now()
    const statuses = await Promise.all(Array.from({ length: 8 }, () => issue(t, target, receipts)))
    const milliseconds = performance.now() - began
    stalls.push(await service.longestStall())
    t.strictSame(new Set(statuses), new Set([503]))
    t.ok(milliseconds > 4_000 && milliseconds < 15_000, `after ${Math.round(milliseconds)} ms`)
  }
  const stall = Math.min(...stalls)
  t.ok(stall < 400, `the event loop was held for ${Math.round(stall)} ms at most`)
  t.comment(`longest stall ${Math.round(stall)} ms`)
  t.equal(await get(target, '/v1/certificates'), 200, 'what is there can be read')
  t.ok(await becomes(target, 503), 'not ready')
  other.exec('COMMIT')
  other.close()
  t.ok(await becomes(target, 200), 'ready again, without a new start')
  for (let i = 0; i < 5; i++) t.equal(await issue(t, target, receipts), 201)
  await service.kill()
  const next = await estate.start()
  await next.stop()
  await checkInvariants(t, estate, { receipts }) // what was acknowledged after the lock is durable
})

void withWitness(t, 'strace', 'the file system of the record can only be read', async (t) => {
  const estate = await estateOn(t)
  const service = await estate.start()
  const target = { url: service.url, apiKey: estate.apiKey }
  const receipts: Receipt[] = []
  t.equal(await issue(t, target, receipts), 201)
  // As Linux makes it of a file system whose disk fails; one with open files is not to be had otherwise.
  const calls = '/^(access|faccessat2?|pwrite64|ftruncate)$'
  const { letGo } = await straced(t, service.pid, ['-o', '/dev/null', '-e', `inject=${calls}:error=EROFS`])
  for (let i = 0; i < 3; i++) t.equal(await issue(t, target, receipts), 503, 'nothing is issued')
  t.ok(await becomes(target, 503), 'not ready')
  t.equal(await get(target, '/v1/certificates'), 200, 'what is there can be read')
  const told = service.stdout.filter((line) => line.includes('EROFS'))
  t.ok(told.length > 0, 'and the log says why')
  await letGo()
  t.ok(await becomes(target, 200), 'ready again, without a new start')
  t.equal(await issue(t, target, receipts), 201)
  t.match(await service.stop(), { code: 0, signal: null })
  await checkInvariants(t, estate, { receipts })
})

void withWitness(t, 'bwrap', 'on PostgreSQL, with a root that can only be read', async (t) => {
  const postgres = await startPostgres()
  t.teardown(() => postgres.stop())
  const estate: Estate = await estateOn(t, postgres)
  const service = await estate.start({
    within: ['bwrap', '--ro-bind', '/', '/', '--proc', '/proc', '--dev', '/dev', '--die-with-parent'],
  })
  const target = { url: service.url, apiKey: estate.apiKey }
  const receipts: Receipt[] = []
  t.equal(await get(target, '/readyz'), 200)
  t.equal(await issue(t, target, receipts), 201)
  const body = { purpose: 'encryption', subject: { organization: 'Contoso' }, key: { bits: 2048 } }
  const pfx = { password: 'correct horse battery' }
  const made = await exchange(target, jsonMessage('/v1/certificates', { ...body, pfx }))
  t.equal(statusOf(made), 201, 'also with a key')
  const renewal = jsonMessage(`/v1/certificates/${receipts[0]!.id}/renewals`, {})
  t.equal(statusOf(await exchange(target, renewal)), 201)
  await service.kill()
  await checkInvariants(t, estate, { receipts })
})

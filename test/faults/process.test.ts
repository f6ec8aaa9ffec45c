/**
 * What becomes of a process: one that stands still for a while, as on a host that is moved, and one that
 * may open no more files. Clients give up and ask again, and when it goes on, nothing is issued twice.
 *
 *     npx tap run --disable-coverage test/faults/process.test.ts
 *
 * HGSCA_TEST_FAULTS=full: for 20 seconds; otherwise for 4, which is longer than PostgreSQL lets a
 * transaction idle.
 */
import { readdirSync } from 'node:fs'
import { connect } from 'node:net'
import { setTimeout as sleep } from 'node:timers/promises'
import t, { type Test } from 'tap'
import { countOf } from '../support/crashPoints.ts'
import { estateOn } from '../support/estate.ts'
import { isFullRun } from '../support/faults.ts'
import { checkInvariants, interruptedIn } from '../support/invariants.ts'
import { exchange, jsonMessage, requests, type Message, type Receipt } from '../support/load.ts'
import { startPostgres, type Postgres } from '../support/postgres.ts'
import { demand } from '../support/witnesses.ts'

const standstill = isFullRun ? 20_000 : 4_000
const postgres = await startPostgres()
t.teardown(() => postgres.stop())

async function standStill(t: Test, server?: Postgres): Promise<void> {
  const estate = await estateOn(t, server)
  const service = await estate.start()
  const target = { url: service.url, apiKey: estate.apiKey }
  const pool = requests(14)
  const orders = Array.from({ length: 12 }, (_, i): Message =>
    jsonMessage(
      '/v1/certificates',
      { purpose: 'signing', csr: pool.next().value },
      { 'idempotency-key': `standing-still-${i}` },
    ),
  )
  const first = orders.map((order) => exchange(target, order))
  await sleep(Math.random() * 60) // somewhere in the middle of them
  service.send('SIGSTOP')
  const again = orders.map((order) => exchange(target, order))
  await sleep(standstill)
  service.send('SIGCONT')
  await Promise.all([...first, ...again])

  const receipts: Receipt[] = []
  for (const order of orders) {
    const reply = await exchange(target, order)
    t.match(reply, { outcome: 'answered', status: 201 })
    if (reply.outcome === 'answered') receipts.push(JSON.parse(reply.body.toString()) as Receipt)
  }
  for (const reply of await Promise.all([...first, ...again])) {
    if (reply.outcome !== 'answered' || reply.status !== 201) continue
    const { id } = JSON.parse(reply.body.toString()) as Receipt
    t.ok(
      receipts.some((receipt) => receipt.id === id),
      'whoever was answered has the same certificate',
    )
  }
  t.equal(await countOf(estate, 'IssuanceIntent'), orders.length, 'each order has one serial number')
  t.strictSame(await interruptedIn(estate), [])
  t.match(await service.stop(), { code: 0, signal: null })
  await checkInvariants(t, estate, { receipts })
}

t.jobs = 2
void t.test('it stands still, on SQLite', { buffered: true }, (t) => standStill(t))
void t.test('it stands still, on PostgreSQL', { buffered: true }, (t) => standStill(t, postgres))

void t.test('it may open no more files', { buffered: true }, async (t) => {
  const estate = await estateOn(t)
  const service = await estate.start()
  const target = { url: service.url, apiKey: estate.apiKey }
  const pool = requests(14)
  const receipts: Receipt[] = []
  const issue = async (): Promise<void> => {
    const reply = await exchange(
      target,
      jsonMessage('/v1/certificates', { purpose: 'signing', csr: pool.next().value }),
    )
    t.match(reply, { outcome: 'answered', status: 201 })
    if (reply.outcome === 'answered') receipts.push(JSON.parse(reply.body.toString()) as Receipt)
  }
  await issue()
  const open = readdirSync(`/proc/${service.pid}/fd`).length
  const limit = (files: number) => demand('prlimit', ['--pid', String(service.pid), `--nofile=${files}:`])
  await limit(open + 4)
  const { hostname, port } = new URL(service.url)
  const sockets = Array.from({ length: 200 }, () => connect(Number(port), hostname).on('error', () => {}))
  await sleep(1_000)
  t.equal(await Promise.race([service.exited, sleep(500, 'alive')]), 'alive', 'it does not end for it')
  for (const socket of sockets) socket.destroy()
  for (const end = Date.now() + 20_000; Date.now() < end; await sleep(100)) {
    const reply = await exchange(target, { method: 'GET', path: '/readyz' })
    if (reply.outcome === 'answered' && reply.status === 200) break
  }
  for (let i = 0; i < 3; i++) await issue() // what it needs for its record was opened before
  t.match(await service.stop(), { code: 0, signal: null })
  t.equal(service.stderr(), '')
  await checkInvariants(t, estate, { receipts })
})

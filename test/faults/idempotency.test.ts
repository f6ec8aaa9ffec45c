/**
 * Once is enough, also when two processes on one PostgreSQL are asked at the same moment, and one of
 * them is killed; and several that start at once on an empty database.
 *
 *     npx tap run --disable-coverage test/faults/idempotency.test.ts
 *
 * HGSCA_TEST_FAULTS=full: 50 keys and 20 starts; otherwise 8 and 1.
 */
import { Agent } from 'node:http'
import { setTimeout as sleep } from 'node:timers/promises'
import t, { type Test } from 'tap'
import { countOf } from '../support/crashPoints.ts'
import { estateOn } from '../support/estate.ts'
import { isFullRun } from '../support/faults.ts'
import { checkInvariants } from '../support/invariants.ts'
import { exchange, jsonMessage, requests, type Exchange, type Message, type Target } from '../support/load.ts'
import { startPostgres, withClient } from '../support/postgres.ts'
import type { Service } from '../support/service.ts'

const postgres = await startPostgres()
t.teardown(() => postgres.stop())
const estate = await estateOn(t, postgres)
const pool = requests(14)
const receipts: { id: string; serialNumber: string; certificate: string }[] = []
const inParallel = 100

/** A connection to each request: one that is kept may be closed by the service just when it is used again. */
const agent = new Agent({ keepAlive: false })
const targetOf = ({ url }: Service): Target => ({ url, apiKey: estate.apiKey, agent })

/** The same to each of `targets`, so many times at once. */
const ask = (targets: readonly Target[], message: Message): Promise<Exchange[]> =>
  Promise.all(
    targets.flatMap((target) => Array.from({ length: inParallel }, () => exchange(target, message))),
  )

interface Told {
  /** Certificates that were answered, each once. */
  readonly ids: Set<string>
  /** Answers that are not a certificate, by status. */
  readonly others: Record<string, number>
  readonly originals: number
}

/** What was answered; each refusal must say when to come again. */
function told(t: Test, replies: readonly Exchange[], { mayBeCut = false } = {}): Told {
  const ids = new Set<string>()
  const others: Record<string, number> = {}
  let originals = 0
  for (const reply of replies) {
    if (reply.outcome !== 'answered') {
      if (!mayBeCut) t.fail(JSON.stringify(reply))
      continue
    }
    const body = JSON.parse(reply.body.toString())
    if (reply.status === 201) {
      if (!ids.has(body.id)) receipts.push(body)
      ids.add(body.id)
      if (reply.headers['idempotent-replayed'] === undefined) originals++
      continue
    }
    others[reply.status] = (others[reply.status] ?? 0) + 1
    if (![409, 503].includes(reply.status) || reply.headers['retry-after'] === undefined)
      t.fail(`${reply.status} ${String(reply.headers['retry-after'])}: ${reply.body.toString()}`)
  }
  return { ids, others, originals }
}

/** Asks as often as it is refused for now, which on a busy machine may be all of the first. */
async function asked(target: Target, message: Message): Promise<string> {
  for (const end = Date.now() + 30_000; ;) {
    const reply = await exchange(target, message)
    if (reply.outcome === 'answered' && reply.status === 201) return JSON.parse(reply.body.toString()).id
    if (Date.now() > end) throw new Error(JSON.stringify(reply))
    await sleep(200)
  }
}

const order = (key: string): Message =>
  jsonMessage('/v1/certificates', { purpose: 'signing', csr: pool.next().value }, { 'idempotency-key': key })

t.test('two instances', async (t) => {
  const [one, two] = await Promise.all([estate.start(), estate.start()])
  const targets = [targetOf(one), targetOf(two)]

  await t.test('one Idempotency-Key, 100 times at once at each: one serial number', async (t) => {
    const keys = isFullRun ? 50 : 8
    const before = await countOf(estate, 'IssuanceIntent')
    const refused: Record<string, number> = {}
    let originals = 0
    for (let i = 0; i < keys; i++) {
      const message = order(`one-key-for-all-${i}`)
      const answers = told(t, await ask(targets, message))
      t.ok(answers.ids.size <= 1, 'no two')
      answers.ids.add(await asked(targets[i % 2]!, message))
      t.equal(answers.ids.size, 1)
      originals += answers.originals
      for (const [status, count] of Object.entries(answers.others))
        refused[status] = (refused[status] ?? 0) + count
    }
    t.equal(await countOf(estate, 'IssuanceIntent'), before + keys, `${keys} keys, ${keys} serial numbers`)
    t.ok(originals <= keys, 'all but the first are told as replays')
    t.comment(`${keys} keys, ${keys * 2 * inParallel} orders; refused: ${JSON.stringify(refused)}`)
  })

  await t.test('one request without a key, 100 times at once at each: one certificate', async (t) => {
    const before = await countOf(estate, 'Certificate')
    const body = { purpose: 'signing', csr: pool.next().value }
    const replies = await ask(targets, jsonMessage('/v1/certificates', body))
    const issued: string[] = []
    const pointed: string[] = []
    let later = 0
    for (const reply of replies) {
      const { id, code, certificate } = reply.outcome === 'answered' ? JSON.parse(reply.body.toString()) : {}
      if (reply.outcome !== 'answered') t.fail(JSON.stringify(reply))
      else if (reply.status === 201) issued.push(id)
      else if (reply.status === 409 && code === 'keyAlreadyCertified') pointed.push(certificate.id)
      else if (reply.status === 503 && reply.headers['retry-after'] !== undefined) later++
      else t.fail(reply.body.toString())
    }
    t.equal(issued.length, 1)
    t.ok(pointed.length > 0 && pointed.every((id) => id === issued[0]), `${pointed.length} are told which`)
    t.comment(`${later} were asked to come again`)
    t.equal(await countOf(estate, 'Certificate'), before + 1)
  })

  await t.test('one of them is killed in the middle', async (t) => {
    let second = two
    const rounds = isFullRun ? 20 : 2
    for (let i = 0; i < rounds; i++) {
      const before = await countOf(estate, 'IssuanceIntent')
      const again = order(`killed-in-the-middle-${i}`)
      const asking = ask([targets[0]!, targetOf(second)], again)
      await sleep(Math.random() * 150)
      await second.kill()
      const first = told(t, await asking, { mayBeCut: true })
      second = await estate.start()
      const both = told(t, await ask([targets[0]!, targetOf(second)], again))
      both.ids.add(await asked(targets[0]!, again))
      t.equal(new Set([...first.ids, ...both.ids]).size, 1, 'before and after: one certificate')
      t.equal(await countOf(estate, 'IssuanceIntent'), before + 1)
    }
    await second.stop()
  })

  await one.stop()
  await checkInvariants(t, estate, { receipts })
})

t.test('four instances that start at once on an empty database', async (t) => {
  const rounds = isFullRun ? 20 : 1
  const times: number[] = []
  for (let round = 0; round < rounds; round++) {
    const databaseUrl = await postgres.createDatabase()
    const services = await Promise.all(
      Array.from({ length: 4 }, () => estate.start({ env: { HGSCA_DATABASE_URL: databaseUrl } })),
    )
    for (const { url, startedIn } of services) {
      t.equal((await fetch(`${url}/readyz`)).status, 200)
      times.push(startedIn)
    }
    const [migrations, registered] = await withClient(databaseUrl, async (client) => [
      await client.query<{ name: string }>('SELECT migration_name AS name FROM _prisma_migrations'),
      await client.query(`SELECT 1 FROM "AuditEvent" WHERE "type" = 'authority.registered'`),
    ])
    t.equal(new Set(migrations.rows.map(({ name }) => name)).size, migrations.rowCount, 'each migration once')
    t.equal(registered.rowCount, 1, 'and one made the authority known')
    for (const service of services) {
      t.match(await service.stop(), { code: 0, signal: null })
      t.equal(service.stderr(), '')
    }
  }
  t.comment(`${rounds} times; ready after ${Math.round(Math.max(...times))} ms at most`)
})

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

const targetOf = (t: Test, { url }: Service): Target => {
  const agent = new Agent({ keepAlive: true, maxSockets: inParallel })
  t.teardown(() => agent.destroy())
  return { url, apiKey: estate.apiKey, agent }
}

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
      if (!mayBeCut) t.fail(`an answer was ${reply.outcome}`)
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
      t.fail(`${reply.status} ${reply.headers['retry-after']}: ${reply.body.toString()}`)
  }
  return { ids, others, originals }
}

const order = (key: string): Message =>
  jsonMessage('/v1/certificates', { purpose: 'signing', csr: pool.next().value }, { 'idempotency-key': key })

t.test('two instances', async (t) => {
  const [one, two] = await Promise.all([estate.start(), estate.start()])
  const targets = [targetOf(t, one), targetOf(t, two)]

  await t.test('one Idempotency-Key, 100 times at once at each: one serial number', async (t) => {
    const keys = isFullRun ? 50 : 8
    const before = await countOf(estate, 'IssuanceIntent')
    const refused: Record<string, number> = {}
    let originals = 0
    for (let i = 0; i < keys; i++) {
      const answers = told(t, await ask(targets, order(`one-key-for-all-${i}`)))
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
    const issued = replies.filter((reply) => reply.outcome === 'answered' && reply.status === 201)
    t.equal(issued.length, 1)
    const { id } = JSON.parse((issued[0] as Extract<Exchange, { outcome: 'answered' }>).body.toString())
    const pointing = replies.filter((reply) => {
      if (reply.outcome !== 'answered' || reply.status !== 409) return false
      const { code, certificate } = JSON.parse(reply.body.toString())
      return code === 'keyAlreadyCertified' && certificate.id === id
    })
    t.equal(pointing.length, 2 * inParallel - 1, 'all others are told which')
    t.equal(await countOf(estate, 'Certificate'), before + 1)
  })

  await t.test('one of them is killed in the middle', async (t) => {
    let second = two
    const rounds = isFullRun ? 20 : 2
    for (let i = 0; i < rounds; i++) {
      const before = await countOf(estate, 'IssuanceIntent')
      const again = order(`killed-in-the-middle-${i}`)
      const asking = ask([targets[0]!, targetOf(t, second)], again)
      await sleep(Math.random() * 150)
      await second.kill()
      const first = told(t, await asking, { mayBeCut: true })
      second = await estate.start()
      const both = told(t, await ask([targets[0]!, targetOf(t, second)], again))
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

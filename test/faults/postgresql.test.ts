/**
 * A PostgreSQL server that is stopped, frozen, or has no connection left: every order is refused with
 * 503 and when to come again, the service lives, and works again as soon as the server does.
 *
 *     npx tap run --disable-coverage test/faults/postgresql.test.ts
 */
import { setTimeout as sleep } from 'node:timers/promises'
import pg from 'pg'
import t, { type Test } from 'tap'
import { estateOn } from '../support/estate.ts'
import { checkInvariants } from '../support/invariants.ts'
import { exchange, jsonMessage, requests, type Message, type Receipt } from '../support/load.ts'
import { startPostgres, withClient } from '../support/postgres.ts'

const postgres = await startPostgres()
t.teardown(() => postgres.stop())
const estate = await estateOn(t, postgres)
const service = await estate.start()
const target = { url: service.url, apiKey: estate.apiKey }
const receipts: Receipt[] = []
const pool = requests(14)
let orders = 0

const order = (): Message =>
  jsonMessage(
    '/v1/certificates',
    { purpose: 'signing', csr: pool.next().value },
    { 'idempotency-key': `beside-a-server-${++orders}` },
  )

interface Answer {
  readonly status: number
  readonly milliseconds: number
  readonly retryAfter: unknown
}

async function ask(message: Message): Promise<Answer> {
  const began = performance.now()
  const reply = await exchange(target, message)
  if (reply.outcome !== 'answered') throw new Error(`an answer was ${reply.outcome}`)
  if (reply.status === 201) receipts.push(JSON.parse(reply.body.toString()) as Receipt)
  const retryAfter = reply.headers['retry-after']
  return { status: reply.status, milliseconds: performance.now() - began, retryAfter }
}
const get = (path: string): Promise<Answer> => ask({ method: 'GET', path })

/** While `away`: what is asked is refused within `limit`; afterwards all is well again, without a new start. */
async function outlives(
  t: Test,
  away: () => Promise<void>,
  back: () => Promise<void>,
  limit: number,
): Promise<void> {
  t.match(await ask(order()), { status: 201 })
  await away()
  await sleep(1_100) // readiness answers for a second what it found last
  const owed = [order(), order(), order()]
  const answers = await Promise.all([
    ...owed.map(ask),
    get('/v1/certificates'),
    get('/readyz'),
    get('/v1/audit-events'),
  ])
  for (const { status, retryAfter, milliseconds } of answers) {
    t.equal(status, 503)
    t.match(retryAfter, /^\d+$/, 'and says when to come again')
    t.ok(milliseconds < limit, `after ${Math.round(milliseconds)} ms`)
  }
  t.match(await get('/livez'), { status: 200 }, 'it lives')
  await back()
  const began = performance.now()
  let first = await ask(owed[0]!)
  while (first.status === 503 && performance.now() - began < 30_000) first = await ask(owed[0]!)
  t.equal(first.status, 201, `issues ${Math.round(performance.now() - began)} ms after the server is back`)
  for (const message of owed)
    t.match(await ask(message), { status: 201 }, 'what was refused is had by asking again')
  for (const end = Date.now() + 10_000; (await get('/readyz')).status !== 200 && Date.now() < end;)
    await sleep(100)
  t.match(await get('/readyz'), { status: 200 })
}

t.test('stopped, and started again', (t) => outlives(t, postgres.halt, postgres.resume, 5_000))

// It is given ten seconds: some of what is asked may have been done, unheard.
t.test('frozen', (t) =>
  outlives(
    t,
    async () => postgres.freeze(),
    async () => postgres.thaw(),
    15_000,
  ),
)

t.test('without a connection left', async (t) => {
  const others: pg.Client[] = []
  await outlives(
    t,
    async () => {
      await withClient(estate.databaseUrl, (client) =>
        client.query(`ALTER SYSTEM SET superuser_reserved_connections = 0`),
      )
      for (;;) {
        const client = new pg.Client({ connectionString: postgres.url('postgres') })
        client.on('error', () => {})
        const taken = await client.connect().then(
          () => true,
          () => false,
        )
        if (!taken) {
          // Only those of the service are left, and it holds none that it is not given back.
          const ended = await others[0]!.query(
            `SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'hgs-ca'`,
          )
          if (ended.rowCount === 0) break
          continue
        }
        others.push(client)
      }
    },
    async () => void (await Promise.all(others.map((client) => client.end()))),
    10_000,
  )
})

t.test('afterwards', async (t) => {
  t.match(await service.stop(), { code: 0, signal: null }, 'it was one process all along')
  t.equal(service.stderr(), '')
  await checkInvariants(t, estate, { receipts })
})
